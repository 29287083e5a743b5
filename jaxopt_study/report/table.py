"""Tables for the terminal and for a page, and how numbers are written in them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from io import StringIO

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from jaxopt_study.bench.ratio import FLAGS, NO_DIFFERENCE, Ratio
from jaxopt_study.bench.stats import Interval
from jaxopt_study.terminal import visible

ABSENT = "-"


@dataclass(frozen=True)
class Table:
    """Rows of text under a title; the first column names the row.

    Attributes:
        notes: What the columns mean.
        left: Columns of words, which are set to the left; the others, but for the first, are set to the right.
        main: Columns that a terminal too narrow for all shows first, the most important one before the others.
        reasons: Why something is not in the table.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    left: Sequence[str] = ()
    main: Sequence[str] = ()
    reasons: Sequence[str] = ()

    def __post_init__(self) -> None:
        # Columns are looked up by their names.
        if len(set(self.columns)) < len(self.columns):
            raise ValueError(f"two columns of the table {self.title!r} have the same name: {', '.join(self.columns)}")


def show(table: Table, console: Console) -> None:
    """Print `table` on a terminal; one too narrow for it shows long lines rather than half a number."""
    rich = rich_table(table, box.SIMPLE_HEAD, visible(table.title), padding=(0, 1, 0, 0))
    natural = Measurement.get(console, console.options.update(max_width=1000), rich).maximum
    terminal = console.width
    console.width = max(natural, terminal)
    console.print(rich)
    console.width = terminal
    for note in (*table.notes, *table.reasons):
        console.print(Text(visible(note), "dim"), highlight=False)


def markdown(table: Table) -> str:
    """Return `table` as a section of a Markdown page."""
    text = StringIO()
    columns, *rows = ([in_markdown(cell).replace("|", "\\|") for cell in row] for row in (table.columns, *table.rows))
    plain = replace(table, columns=columns, rows=rows, left=[in_markdown(name) for name in table.left])
    # Wide enough that no cell is folded: Markdown knows no folded cells. In a Jupyter kernel rich would display the
    # table, and write nothing.
    console = Console(file=text, width=10_000, color_system=None, force_jupyter=False)
    console.print(rich_table(plain, box.MARKDOWN, None, padding=(0, 1, 0, 1)))
    lines = [line.strip() for line in text.getvalue().strip().splitlines()]
    notes = "".join(f"\n{in_markdown(note)}\n" for note in (*table.notes, *table.reasons))
    return f"## {in_markdown(table.title)}\n\n" + "\n".join(line for line in lines if line) + f"\n{notes}"


def in_markdown(text: str) -> str:
    """Return a text of a user's as a page shows it: on one line, and never as HTML."""
    return visible(text).replace("&", "&amp;").replace("<", "&lt;")


def rich_table(
    table: Table, style: box.Box, title: str | None, padding: tuple[int, int, int, int], show_edge: bool = True
) -> RichTable:
    """Return the table as rich draws it; no cell is folded, and what looks like markup is text."""
    heading = None if title is None else Text(title, "bold")
    rich = RichTable(title=heading, box=style, title_justify="left", padding=padding, show_edge=show_edge)
    for number, column in enumerate(table.columns):
        to_the_right = number and column not in table.left
        rich.add_column(Text(visible(column)), justify="right" if to_the_right else "left", no_wrap=True)
    for row in table.rows:
        rich.add_row(*(Text(visible(cell)) for cell in row))
    return rich


def sentence(words: str) -> str:
    """Return the words as a sentence: with a capital and a full stop."""
    return f"{words[0].upper()}{words[1:]}."


def seconds(value: float) -> str:
    """Write a time with three digits and the unit that fits."""
    if not math.isfinite(value):
        return ABSENT
    for unit, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if value >= unit:
            return f"{plain(value / unit)} {name}"
    return f"{plain(value / 1e-9)} ns"


RATES = {"matrix_product": "FLOP/s", "onednn_product": "FLOP/s", "transposed_product": "FLOP/s", "copy": "B/s"}
"""Probes that are read as a rate; the others are the seconds of a call or of an iteration."""


def rate(probe: str, seconds_per_unit: float) -> str:
    """Write what a probe of a backend's `calibration` takes."""
    if probe in RATES:
        return f"{1e-9 / seconds_per_unit:.3g} G{RATES[probe]}"
    return seconds(seconds_per_unit)


def number(value: float) -> str:
    """Write a distance with two digits."""
    if not math.isfinite(value):
        return ABSENT if math.isnan(value) else "infinite"
    return "0" if value == 0 else f"{value:.1e}"


def spread(value: float) -> str:
    """Write an interquartile range as a part of the median."""
    return f"{100 * value:.0f} %"


def interval(estimate: Interval, scale: float = 1.0) -> str:
    """Write an estimate with its 95 % interval, in units of 1 / `scale`."""
    value, low, high = (scale * x for x in (estimate.value, estimate.low, estimate.high))
    if not math.isfinite(low):
        return plain(value)
    return f"{plain(value)} [{plain(low)}, {plain(high)}]"


def ratio(found: Ratio | None) -> str:
    """Write a ratio with its interval and its flags: see `bench.ratio.FLAGS`.

    What is unstable is not called "no difference" as well.
    """
    if found is None:
        return ABSENT
    shown = _shown(found)
    return interval(found) + (f" ({', '.join(shown)})" if shown else "")


def _shown(found: Ratio) -> list[str]:
    return [flag for flag in found.flags if not (found.unstable and flag == NO_DIFFERENCE)]


def flags(ratios: Iterable[Ratio | None]) -> list[str]:
    """Return one note on what the flags among these ratios mean, or none."""
    raised = {flag for ratio in ratios if ratio for flag in _shown(ratio)}
    return [sentence("; ".join(f"{flag}: {FLAGS[flag]}" for flag in FLAGS if flag in raised))] if raised else []


def plain(value: float) -> str:
    """Write a number with three significant digits, a comma between thousands, and no exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    # The exponent after rounding: 99.97 has three digits as 100.
    decimals = max(0, 2 - int(f"{value:.2e}".split("e")[1]))
    return f"{value:,.{decimals}f}"

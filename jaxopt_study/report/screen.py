"""What a terminal shows of a run: tables cut to its width, sentences, colours. Markup in names is text."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from jaxopt_study.bench.ratio import FLAGS, NO_DIFFERENCE, RESOLUTION, UNSTABLE
from jaxopt_study.bench.stats import UNSTABLE as TOO_FAR
from jaxopt_study.report.table import Table, rich_table
from jaxopt_study.terminal import visible

LEGEND = {
    NO_DIFFERENCE: f"within {100 * RESOLUTION:.0f} % of 1",
    UNSTABLE: f"an equal run may be over {100 * TOO_FAR:.0f} % away",
}
"""The flags of ratios, in short."""
SHARES = (2, 3, 4)
"""A name may take this part of the width, one over it, the first that leaves a place for another column."""
STYLES = {"good": "green", "bad": "bold red", "warning": "yellow", "plain": ""}


@dataclass(frozen=True)
class Sentence:
    """One fact, with its full stop.

    Attributes:
        kind: One of `STYLES`.
    """

    words: str
    kind: str = "plain"


@dataclass(frozen=True)
class Part:
    """What a terminal shows of one experiment.

    Attributes:
        tables: Its tables.
        sentences: What it concludes.
    """

    tables: Sequence[Table] = ()
    sentences: Sequence[str] = ()


@dataclass(frozen=True)
class Screen:
    """What a terminal shows of a run: first what a reader must know, then each part.

    Attributes:
        legends: Whether the notes on the columns were left to the report.
    """

    opening: Sequence[Sentence] = ()
    parts: Sequence[Part] = ()
    legends: bool = False


def show(screen: Screen, console: Console, verbose: bool = False) -> None:
    """Print what a run came to, and at the end what the flags mean.

    Args:
        screen: What is to be shown.
        console: Where.
        verbose: Whether the tables have been printed in full already.
    """
    for sentence in screen.opening:
        _say(sentence.words, console, STYLES[sentence.kind])
    left_out, cut, shown, after_a_table = False, False, [], bool(screen.opening)
    for part in screen.parts:
        for table in (table for table in part.tables if table.rows and not verbose):
            console.print()
            _say(table.title, console, "bold")
            fitted = fit(table, console)
            left_out |= len(fitted.columns) < len(table.columns)
            cut |= _is_cut(table, fitted) or _width(fitted, console) > console.width
            console.print(_rich(fitted), overflow="ignore", crop=False)
            shown += [cell for row in fitted.rows for cell in row]
            for note in (*table.notes, *table.reasons):
                _say(note, console, "dim")
        if part.sentences and (part.tables or after_a_table):
            console.print()
        if part.sentences or part.tables:
            after_a_table = bool(part.tables)
        for words in part.sentences:
            _say(words, console)
        shown += part.sentences
    console.print()
    for line in _legend(shown):
        _say(line, console, "dim")
    more = ["what the columns mean"] * screen.legends + ["the columns that did not fit"] * left_out
    more += ["the words that were cut (…)"] * cut
    if more and not verbose:
        *others, last = more
        said = f"{', '.join(others)} and {last}" if others else last
        _say(f"See the report, or --verbose, for {said}.", console, "dim")


def fit(table: Table, console: Console) -> Table:
    """Return the table without the columns for which the console is too narrow, the least important ones first.

    Numbers are never cut. Names are, at half of the width, or at less where no other column has a place beside them. No
    two names that differ look alike afterwards.
    """
    others = table.columns[1:]
    order = [*(name for name in table.main if name in others), *(name for name in others if name not in table.main)]
    for share in SHARES:
        limit = console.width // share
        whole, found = table, _cut(table, limit)
        for column in reversed(order):
            if _width(found, console) <= console.width:
                longer = _cut(whole, limit + console.width - _width(found, console))
                return longer if _width(longer, console) <= console.width else found
            whole, found = _without(whole, column), _without(found, column)
    return found


def _cut(table: Table, limit: int) -> Table:
    words = [number == 0 or name in table.left for number, name in enumerate(table.columns)]
    limit, end = _place({visible(row[0]) for row in table.rows}, limit)
    rows = [
        tuple(
            _shortened(cell, limit) if is_words or not cell[:1].isdigit() else cell
            for cell, is_words in zip(map(visible, row), words, strict=True)
        )
        for row in ((_without_middle(visible(row[0]), limit, end), *row[1:]) for row in table.rows)
    ]
    return replace(table, rows=rows)


def _place(names: Collection[str], limit: int) -> tuple[int, int]:
    """Return how long a name may be and how many places its end has, so that no two names look alike.

    They have `limit` places, or as many more as it takes. Half of them are the end, or more or fewer where names differ
    in their middle.
    """
    half = (limit + 1) // 2
    for end in sorted(range(half % 4, limit, 4), key=lambda end: abs(end - half)):
        if len({_without_middle(name, limit, end) for name in names}) == len(names):
            return limit, end
    return _place(names, limit + 1)


def _without_middle(name: str, limit: int, places: int) -> str:
    """Shorten the name of a row to `limit` places, of which fewer than `places` are its end."""
    if cell_len(name) <= limit:
        return name
    end = ""
    while cell_len(name[-len(end) - 1] + end) < places:
        end = name[-len(end) - 1] + end
    return _shortened(name, limit - cell_len(end)) + end


def _is_cut(table: Table, fitted: Table) -> bool:
    """Say whether a cell is shorter than it was."""
    places = [list(table.columns).index(name) for name in fitted.columns]
    whole = [tuple(visible(row[place]) for place in places) for row in table.rows]
    return whole != [tuple(row) for row in fitted.rows]


def _shortened(cell: str, limit: int) -> str:
    text = Text(cell)
    text.truncate(limit, overflow="ellipsis")
    return text.plain


def _without(table: Table, column: str) -> Table:
    place = list(table.columns).index(column)
    rows = [(*row[:place], *row[place + 1 :]) for row in table.rows]
    return replace(table, columns=(*table.columns[:place], *table.columns[place + 1 :]), rows=rows)


def _width(table: Table, console: Console) -> int:
    return Measurement.get(console, console.options.update(max_width=10_000), _rich(table)).maximum


def _rich(table: Table) -> RichTable:
    return rich_table(table, box.SIMPLE_HEAD, None, padding=(0, 1, 0, 0), show_edge=False)


def _say(words: str, console: Console, style: str = "") -> None:
    console.print(Text(visible(words), style), highlight=False)


def _legend(shown: Iterable[str]) -> list[str]:
    raised = [flag for flag in FLAGS if any(f"({flag}" in words or f", {flag}" in words for words in shown)]
    found = ["[..]: 95 %. " if any(" [" in words for words in shown) else ""]
    found += [f"{flag.capitalize()}: {LEGEND.get(flag, FLAGS[flag])}. " for flag in raised]
    return [line] if (line := "".join(found).strip()) else []

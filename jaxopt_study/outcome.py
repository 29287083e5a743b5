"""What a run ended with, for Python users: the verdict, the records as data frames, the figures."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxopt_study.bench.finding import Finding
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.results import Results
from jaxopt_study.report import figures as drawing
from jaxopt_study.report import html
from jaxopt_study.report.figures import Figure
from jaxopt_study.report.screen import Screen
from jaxopt_study.report.table import Table
from jaxopt_study.terminal import counted

if TYPE_CHECKING:
    import altair as alt
    from pandas import DataFrame

WIDTH = 80
LINES = 6
"""So many lines of the verdict are in the repr."""


@dataclass(frozen=True, repr=False)
class Outcome:
    """What a run ended with.

    Attributes:
        folder: Where its records, environment, report and figures are.
        verdict: What it came to, in sentences.
        status: 0 where every value agrees, 1 where one does not or a case failed.
        findings: Every comparison of values.
        tables: What the report shows.
        summary: The same as plain numbers, ready for JSON.
        results: The records, and which of their times may be shown.
        figures: The charts.
        screen: What a terminal shows.

    Example:
        outcome = run(Config(profile="smoke"))
        outcome.table("optimizers")
        outcome.figure("loops_ladder", column=True).save("ladder.pdf")
    """

    folder: Path
    verdict: str
    status: int
    findings: list[Finding]
    tables: list[Table]
    summary: dict[str, Any]
    results: Results
    figures: tuple[Figure, ...]
    screen: Screen

    def __repr__(self) -> str:
        lines = textwrap.wrap(self.verdict, WIDTH, max_lines=LINES, placeholder=" ...")
        agree = sum(finding.agrees is True for finding in self.findings)
        studies = ", ".join(self.studies)
        return "\n".join(
            [
                *lines,
                f"{agree} of {counted(len(self.findings), 'comparison')} agree. Studies: {studies}.",
                f"Folder: {self.folder}",
            ]
        )

    def _repr_html_(self) -> str:
        return html.in_notebook(self.verdict, self.folder, self.tables)

    @property
    def studies(self) -> tuple[str, ...]:
        """The studies that have records."""
        return tuple(dict.fromkeys(record.study for record in self.results.records))

    @property
    def records(self) -> DataFrame:
        """All cases, a row each; see `table`."""
        return _frame([row(self.results, record) for record in self.results.records])

    def table(self, study: str) -> DataFrame:
        """Return the cases of a study, a row each.

        The columns are `study`, `experiment`, `subject`, `framework`, `method`, `status` and `reason`, and the seconds
        `step_seconds` (the median per step), `low` and `high` (its quartiles), `first_seconds` (the first lap) and
        `peak_bytes`. A time that is withheld is NaN, since values disagree there.

        Raises:
            ValueError: The run has no such study.
        """
        if study not in self.studies:
            raise ValueError(f"this run has no study {study!r}: choose from {', '.join(self.studies)}")
        return _frame([row(self.results, record) for record in self.results.records if record.study == study])

    def figure(self, name: str, column: bool = False) -> alt.Chart | alt.LayerChart | alt.FacetChart:
        """Return a figure as an Altair chart: a notebook shows it, `.save("NAME.pdf")` writes it (also svg, png, html).

        Args:
            name: The figure's name, which is that of its files.
            column: Whether it is as wide as a column of a paper (3.3 in), and not 7 in.

        Raises:
            ValueError: The run has no such figure.
        """
        return pick(self.figures, name, column)


def row(results: Results, record: Record) -> dict[str, Any]:
    """Return a case as a row of `Outcome.table`."""
    shown = results.shows(record)
    seconds = np.quantile(record.step_seconds, [0.5, 0.25, 0.75]) if shown else np.full(3, np.nan)
    names = ("study", "experiment", "subject", "framework", "method", "status", "reason")
    return {name: getattr(record, name) for name in names} | {
        **dict(zip(("step_seconds", "low", "high"), map(float, seconds), strict=True)),
        "first_seconds": record.first_seconds if shown else np.nan,
        "peak_bytes": record.peak_bytes,
    }


def pick(figures: Sequence[Figure], name: str, column: bool) -> alt.Chart | alt.LayerChart | alt.FacetChart:
    """Return the figure of that name as an Altair chart; see `Outcome.figure`."""
    for figure in figures:
        if figure.name == name:
            return drawing.chart(figure, drawing.COLUMN if column else drawing.WIDE)
    names = ", ".join(figure.name for figure in figures) or "it has none"
    raise ValueError(f"this run has no figure {name!r}: choose from {names}")


def _frame(rows: list[dict[str, Any]]) -> DataFrame:
    try:
        import pandas as pd
    except ImportError:
        raise ImportError("data frames need pandas: python -m pip install pandas") from None
    return pd.DataFrame(rows)

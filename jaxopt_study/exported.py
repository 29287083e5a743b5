"""What of a run is written in the formats of others' tools."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxopt_study import outcome, verdict
from jaxopt_study.bench.results import Results
from jaxopt_study.report import export, page
from jaxopt_study.report.export import Part
from jaxopt_study.report.table import Table
from jaxopt_study.verdict import Section


def write(
    formats: Iterable[str],
    folder: Path,
    results: Results,
    drawn: Sequence[Section],
    environment: Mapping[str, Any],
    others: Sequence[Part] = (),
) -> None:
    """Write a run's times and tables into its folder.

    Args:
        formats: Formats of `export.FORMATS`.
        folder: The folder.
        results: The run's records and what was found of their values.
        drawn: The sections of its report.
        environment: Where it was made.
        others: More parts.
    """
    if "pyperf" in formats:
        export.pyperf([r for r in results.records if results.shows(r)], folder)
    sections = [Part(_name(s), s.rows, [*s.brief, *s.tables]) for s in drawn]
    findings = [vars(f) | {"cases": f.subject} for f in results.findings]
    whole = [
        Part("cases", [outcome.row(results, r) for r in results.records], ()),
        Part("comparisons", findings, [verdict.comparisons(results.findings)]),
        Part("environment", (), [page.environment_table(environment)]),
    ]
    export.write(formats, folder, [*sections, *others, *whole])


def of_runs(rows: Sequence[Any], tables: Sequence[Table]) -> list[Part]:
    """Return the parts of runs side by side: what differs around them, and their times."""
    return [Part("runs", (), tables[:1]), Part("against", rows, tables[1:])]


def _name(section: Section) -> str:
    study, name = section.experiment.study, section.experiment.name
    return study if study == name else f"{study}_{name}"

"""Runs that were recorded: read again, and set side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jaxopt_study import exported, verdict
from jaxopt_study.bench import environment, record
from jaxopt_study.bench.case import Plan
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.results import Results
from jaxopt_study.outcome import Outcome
from jaxopt_study.report import against, export, page
from jaxopt_study.report.differences import Run
from jaxopt_study.report.page import Answer
from jaxopt_study.report.screen import Part, Screen, Sentence
from jaxopt_study.report.table import Table
from jaxopt_study.studies import EVERY


@dataclass(frozen=True)
class Recorded:
    """A run, read again.

    Attributes:
        folder: Its folder.
        environment: Where it was made.
        plan: What it was asked for.
        results: Its records, and what was found of their values.
        unreadable: What is wrong with the lines of its records that cannot be read.
    """

    folder: Path
    environment: Mapping[str, Any]
    plan: Plan
    results: Results
    unreadable: Sequence[str] = ()

    @property
    def run(self) -> Run:
        """The run as it is set beside others."""
        timed = [r for r in self.results.records if self.results.shows(r)]
        return Run(str(self.folder), self.environment, self.plan, timed)

    @property
    def warnings(self) -> list[Sentence]:
        """What cannot be read."""
        if not self.unreadable:
            return []
        first = (
            f"Lines of {record.RECORDS} that cannot be read: {len(self.unreadable)}; the first: {self.unreadable[0]}."
        )
        return [Sentence(first, "warning")]


def read(folder: Path, plan: Plan | None = None, whole: bool = True) -> Recorded:
    """Read a run.

    Args:
        folder: Its folder.
        plan: What it was asked for, by default as its environment says it: another dtype has other bounds.
        whole: Whether a line that cannot be read is an error.

    Raises:
        ValueError: It cannot be read.
    """
    where = environment.read(folder)
    plan = environment.plan_of(where) if plan is None else plan
    found, unreadable = (record.read(folder), []) if whole else record.readable(folder)
    return Recorded(folder, where, plan, verdict.evaluate(_in_order(found, plan), plan), unreadable)


def compare(runs: Sequence[Run], fail_on_slower: float | None) -> tuple[list[Any], list[Table], list[Sentence], bool]:
    """Set runs side by side.

    Args:
        runs: The runs, the first of which is the one that the others are compared with.
        fail_on_slower: A percentage.

    Returns:
        The comparison as plain rows, as tables and in sentences; and whether a case of the last run is slower than in
        the first by surely more than `fail_on_slower`.
    """
    rows = against.rows(runs)
    words = [Sentence(line) for line in against.sentences(rows, runs)]
    found = "" if fail_on_slower is None else against.slower(against.first_and_last(rows, runs), fail_on_slower)
    if found:
        words.append(Sentence(f"{found}, against {runs[0].folder}.", "bad"))
    return rows, against.tables(rows, runs), words, bool(found)


def report(paths: Sequence[Path], out: Path | None, fail_on_slower: float | None, formats: Iterable[str]) -> Outcome:
    """Set the runs in these folders side by side.

    Args:
        paths: The folders.
        out: The folder for report.md and what is exported, which is made; without it nothing is written.
        fail_on_slower: The status is 1 where a case of the last run is slower than in the first by more percent.
        formats: Formats of `report.export` for the tables.

    Returns:
        What the runs are beside each other; findings and results are the last run's.
    """
    recorded = [read(path, whole=False) for path in paths]
    runs = [each.run for each in recorded]
    rows, tables, words, slower = compare(runs, fail_on_slower)
    opening = [
        Sentence(f"Run {number}: {sentence.words}", sentence.kind)
        for number, each in enumerate(recorded, 1)
        for sentence in (*verdict.opening(each.results, [], each.plan), *each.warnings)
    ]
    last = recorded[-1].results
    status = int(slower or verdict.status(last, []))
    folder = recorded[-1].folder if out is None else out
    summary = {
        "runs": [{"folder": run.folder, "environment": run.environment} for run in runs],
        "against": record.plain(rows),
        "sentences": (said := [sentence.words for sentence in (*opening, *words)]),
        "verdict": " ".join(said),
        "status": status,
        "folder": None if out is None else str(out),
    }
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        rest = f"All rows: `jaxopt-study report {' '.join(map(str, paths))} --verbose`."
        answer = Answer("What became faster or slower?", [Part(tables, [*(s.words for s in words), rest])])
        title = f"{len(runs)} runs side by side"
        page.write(out, title, [sentence.words for sentence in opening], [answer])
        export.write(formats, out, exported.of_runs(rows, tables))
    around, times = tables
    screen = Screen((*opening, *words), (Part([around, replace(times, notes=())]),), legends=True)
    return Outcome(folder, " ".join(said), status, list(last.findings), tables, summary, last, (), screen)


def _in_order(records: Iterable[Record], plan: Plan) -> list[Record]:
    """Return the records in the order of the plan; distributed cases end in any order."""
    cases = [case for name in plan.studies for group in EVERY[name].groups(plan) for case in group.cases]
    places = {case: place for place, case in enumerate(cases)}
    return sorted(records, key=lambda r: places.get(r.case, len(places)))

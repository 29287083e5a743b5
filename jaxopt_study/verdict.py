"""What a run comes to: which values agree, which times may be shown, the report's sections, the facts in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jaxopt_study.bench import load, record, stats
from jaxopt_study.bench.case import Plan
from jaxopt_study.bench.engine import at_its_place
from jaxopt_study.bench.finding import Finding
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.results import Results
from jaxopt_study.report import table as text
from jaxopt_study.report.figures import Figure, not_drawn, save
from jaxopt_study.report.html import Chapter
from jaxopt_study.report.page import Answer
from jaxopt_study.report.screen import Part, Sentence
from jaxopt_study.report.table import Table
from jaxopt_study.studies import EVERY
from jaxopt_study.studies.experiment import Experiment, Rows
from jaxopt_study.terminal import counted


@dataclass(frozen=True)
class Section:
    """What an experiment says of its records.

    Attributes:
        verdict: What it concludes, a fact on each line.
        error: The reason why its own code failed, or nothing.
        brief: The short tables of the main job.
    """

    experiment: Experiment
    rows: Rows
    tables: list[Table]
    figures: list[Figure]
    verdict: str
    error: str = ""
    brief: tuple[Table, ...] = ()


def evaluate(records: Sequence[Record], plan: Plan) -> Results:
    """Compare the values of a run's records."""
    findings = [f for e in _experiments(plan) for f in _findings(e, records, plan)]
    return Results(tuple(records), tuple(findings))


def sections(results: Results, plan: Plan, folder: Path | None = None) -> list[Section]:
    """Return a section for each experiment that has records, and write its figures into `folder`, if that is given."""
    return [_section(e, results, plan, folder) for e in _experiments(plan) if e.records(results)]


def by_study(drawn: Sequence[Section], plan: Plan) -> list[tuple[str, list[Table], list[Figure]]]:
    """Return (question, tables, figures) of each study that has a section."""
    return [
        (EVERY[study].question, [t for s in mine for t in s.tables], [f for s in mine for f in s.figures])
        for study in plan.studies
        if (mine := [s for s in drawn if s.experiment.study == study])
    ]


def chapters(results: Results, drawn: Sequence[Section], plan: Plan) -> list[Chapter]:
    """Return what the page says of each study that has a section; of the main job the short tables come first."""
    found = []
    for study in plan.studies:
        if not (mine := [s for s in drawn if s.experiment.study == study]):
            continue
        brief, full = (
            [table for s in mine for table in tables(s)] for tables in (lambda s: s.brief, lambda s: s.tables)
        )
        shown, more = (brief, full) if plan.overview and brief else (full, [])
        about = [finding for finding in results.findings if any(case.study == study for case in finding.cases)]
        agreement = _agreement(about, plan)[0].words
        found.append(
            Chapter(
                EVERY[study].question,
                shown,
                [figure for s in mine for figure in s.figures],
                EVERY[study].about,
                [words for s in mine for words in conclusions(s)] or [agreement],
                more,
                agreement,
                comparisons(about),
            )
        )
    return found


def summary(results: Results, drawn: Sequence[Section], plan: Plan) -> dict[str, Any]:
    """Return what was found, as plain numbers."""
    return {
        "findings": [record.plain(finding) for finding in results.findings],
        "withheld": sorted(case.key for case in results.withheld),
        "studies": {
            study: {s.experiment.name: record.plain(s.rows) for s in drawn if s.experiment.study == study}
            for study in plan.studies
        },
    }


def comparisons(findings: Sequence[Finding]) -> Table:
    """Return every comparison of values: what was compared, the measured difference, the bound, the verdict."""
    rows = [
        (f.subject, f.what, text.number(f.distance), text.number(f.bound), _word(f) + (f"; {f.note}" if f.note else ""))
        for f in findings
    ]
    notes = ("A time is shown only if no comparison of its case disagrees.",)
    return Table(
        "Comparisons", ("cases", "what", "measured", "bound", "verdict"), rows, notes, left=("what", "verdict")
    )


def opening(results: Results, drawn: Sequence[Section], plan: Plan) -> list[Sentence]:
    """Return what a reader must know first: whether the values agree, what failed, and what makes times doubtful."""
    failed = [r for r in results.records if r.failed]
    nothing = [Sentence("The run holds no records.", "bad")]
    found = _agreement(results.findings, plan) if results.records else nothing
    if failed:
        found.append(Sentence(f"{len(failed)} FAILED ({', '.join(r.case.key for r in failed)}).", "bad"))
    found += [Sentence(f"The report of {s.experiment.study} FAILED: {s.error}.", "bad") for s in drawn if s.error]
    if absent := _not_yet(results, plan):
        found.append(
            Sentence(f"The run is not finished: {counted(absent, 'case is', 'cases are')} not measured yet.", "warning")
        )
    return [*found, *(Sentence(words, "warning") for words in _machine(results))]


def conclusions(section: Section) -> list[str]:
    """Return what an experiment concludes, one fact in a sentence."""
    return [text.sentence(line) for line in section.verdict.splitlines() if line]


def parts(drawn: Sequence[Section], plan: Plan) -> list[Part]:
    """Return what a terminal shows: of the main job the short tables, of a study by name its tables without legends."""
    found = []
    for section in drawn:
        if plan.overview:
            found.append(Part(section.brief, () if section.brief else conclusions(section)))
        else:
            found.append(Part([replace(t, notes=()) for t in section.tables], conclusions(section)))
    return found


def answers(drawn: Sequence[Section], plan: Plan) -> list[Answer]:
    """Return what the short report says to the question of each study that has a section."""
    found = []
    for study in plan.studies:
        mine = [s for s in drawn if s.experiment.study == study]
        parts = [Part(_short(s, plan), () if plan.overview and s.brief else conclusions(s)) for s in mine]
        if any(part.tables or part.sentences for part in parts):
            found.append(Answer(EVERY[study].question, parts, [f for s in mine for f in s.figures]))
    return found


def _short(section: Section, plan: Plan) -> Sequence[Table]:
    return section.brief or ([] if plan.overview else [replace(t, notes=()) for t in section.tables])


def status(results: Results, drawn: Sequence[Section]) -> int:
    """Return the exit status: 1 where a value disagrees, a case or a study's own code failed, or there is no record."""
    wrong = any(finding.agrees is False for finding in results.findings)
    return int(wrong or not results.records or any(r.failed for r in results.records) or any(s.error for s in drawn))


def _experiments(plan: Plan) -> list[Experiment]:
    return [experiment for name in plan.studies for experiment in EVERY[name].experiments]


def _findings(experiment: Experiment, records: Sequence[Record], plan: Plan) -> list[Finding]:
    """Return the experiment's findings; where its own code fails, nothing of it was compared."""
    mine = [r for r in records if (r.study, r.experiment) == (experiment.study, experiment.name)]
    try:
        return experiment.findings(mine, plan)
    except Exception as error:
        cases = tuple(r.case for r in mine if r.ok)
        note = f"the comparison itself failed: {at_its_place(error)}"
        return [Finding("all values", cases, math.nan, 0.0, agrees=False, note=note)]


def _section(experiment: Experiment, results: Results, plan: Plan, folder: Path | None) -> Section:
    """Return the section with all that is written of it; where the experiment's own code fails, only the error."""
    try:
        rows = experiment.rows(results, plan)
        record.plain(rows)
        tables, figures = experiment.tables(rows, plan), experiment.figures(results, plan)
        for table in tables:
            text.markdown(table)
        words, brief = experiment.verdict(rows, plan), tuple(experiment.brief(rows, plan))
    except Exception as error:
        return Section(experiment, [], [], [], "", error=at_its_place(error))
    pairs = [(figure, "") if folder is None else _draw(figure, folder) for figure in figures]
    errors = [error for _, error in pairs if error]
    return Section(experiment, rows, tables, [figure for figure, _ in pairs], words, "; ".join(errors), brief)


def _draw(figure: Figure, folder: Path) -> tuple[Figure, str]:
    """Write a figure; where drawing it fails, return one that says so in its place, and the reason."""
    try:
        save(figure, folder)
    except OSError:  # of the disk
        raise
    except Exception as error:
        reason = at_its_place(error)
        instead = not_drawn(figure, reason)
        save(instead, folder)
        return instead, reason
    return figure, ""


def _word(finding: Finding) -> str:
    return {True: "agrees", False: "DISAGREES", None: "not comparable"}[finding.agrees]


def _difference(finding: Finding) -> str:
    if math.isnan(finding.distance):
        return f"{finding.subject}: {finding.note or 'a value is missing'}"
    found = f"{finding.subject}: {finding.what}: {finding.distance:.2g}, bound {finding.bound:.2g}"
    return f"{found}; {finding.note}" if finding.note else found


def _agreement(findings: Sequence[Finding], plan: Plan) -> list[Sentence]:
    wrong = [f for f in findings if f.agrees is False]
    unclear = list(dict.fromkeys(f.subject for f in findings if f.agrees is None))
    clear = sum(f.agrees is not None for f in findings)
    if wrong:
        found = [Sentence(f"VALUES DISAGREE in {len(wrong)} of {counted(len(findings), 'comparison')}.", "bad")]
        found += [Sentence(f"{_difference(f)}.", "bad") for f in wrong]
    elif clear:
        seen = [name for name in plan.frameworks if any(case.framework == name for f in findings for case in f.cases)]
        alone = f"The values of {(seen or plan.frameworks)[0]} agree with their references"
        who = "The frameworks agree" if len(seen) > 1 else alone
        found = [
            Sentence(f"{who} in {f'all {clear} comparisons' if clear > 1 else 'the one comparison made'}.", "good")
        ]
    else:
        found = [Sentence("Nothing could be compared.", "warning")]
    return [*found, *([Sentence(f"Not comparable: {', '.join(unclear)}.", "warning")] if unclear else [])]


def _not_yet(results: Results, plan: Plan) -> int:
    """Return how many of the run's cases have no record."""
    asked = {case for name in plan.studies for group in EVERY[name].groups(plan) for case in group.cases}
    return len(asked - {r.case for r in results.records})


def _machine(results: Results) -> list[str]:
    """Return what makes all times of a run doubtful."""
    records, parts = results.records, []
    busy = [r.others_busy for r in records if r.others_busy > load.BUSY]
    if busy:
        words = f"up to {100 * max(busy):.0f} % of it"
        parts.append(f"THE MACHINE WAS BUSY, {words}, in {len(busy)} of {counted(len(records), 'case')}.")
    slowed = [r for r in records if results.slowed(r)]
    if slowed:
        by = f"{100 * stats.SLOWED:.0f} %"
        parts.append(f"THE MACHINE SLOWED DOWN by over {by} in {len(slowed)} of {counted(len(records), 'case')}.")
    return parts

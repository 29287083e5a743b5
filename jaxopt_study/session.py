"""One run, from plan to report: its folder, its workers, its records, what is still to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from jaxopt_study import folders, measuring, terminal, verdict
from jaxopt_study.bench import environment, record
from jaxopt_study.bench.case import Plan
from jaxopt_study.bench.engine import Engine
from jaxopt_study.bench.pools import Local, Pool
from jaxopt_study.bench.process import CaseFailed, WorkerProcess
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.stock import Stock, Work
from jaxopt_study.bench.task import Refused
from jaxopt_study.bench.timing import process_age
from jaxopt_study.config import ConfigError, command
from jaxopt_study.data.given import Given
from jaxopt_study.data.workload import Workload
from jaxopt_study.measuring import Progress
from jaxopt_study.outcome import Outcome
from jaxopt_study.report import against, export, html, page
from jaxopt_study.report import table as text
from jaxopt_study.report.screen import Screen, Sentence
from jaxopt_study.report.table import Table
from jaxopt_study.studies import EVERY
from jaxopt_study.studies.own import chosen, twins


@dataclass(frozen=True)
class Beside:
    """What is made of a run beside its report.

    Attributes:
        against: The folder of another run, to compare this one with.
        fail_on_slower: The run's status is 1 where a case became slower by surely more than so many percent.
        export: A format of `report.export`.
        again: Whether the report is drawn again, long after the run.
    """

    against: Path | None = None
    fail_on_slower: float | None = None
    export: str | None = None
    again: bool = False


class Interrupted(Exception):  # noqa: N818 - the user's wish, not an error
    """The run ended before it was done.

    Attributes:
        folder: The run's folder; its records are kept.
        status: The exit status: 130 where the user stopped it, 1 where something else did.
    """

    def __init__(self, folder: Path, words: str, status: int) -> None:
        super().__init__(words)
        self.folder = folder
        self.status = status


def run(
    plan: Plan,
    folder: Path,
    resumed: bool,
    progress: Progress,
    beside: Beside = Beside(),
    given: Given | None = None,
    pool: Pool | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Measure what the folder does not hold yet, and write its report.

    Args:
        plan: What to measure.
        folder: The run's folder.
        resumed: Whether it holds records already.
        progress: It is told how far the run is.
        beside: What is made beside the report.
        given: The user's own data.
        pool: The cluster that takes the distributed groups, which is left at the end; without one, this machine's cores
            do.
        tell: It is told in one line what is finished.

    Raises:
        ConfigError: The folder cannot be written, was run under another configuration, or a framework cannot be
            loaded or has no such device.
        Interrupted: The user stopped the run, or its records could not be written.
    """
    groups = [group for name in plan.studies for group in EVERY[name].groups(plan)]
    variables = environment.of_worker(plan.threads)  # asked once: what is imported later may set more of them
    engine = Engine(plan, measuring.summarize, partial(WorkerProcess, variables=variables))
    pool = _cores(plan, engine) if pool is None else pool
    with _kept(folder), ExitStack() as held:
        held.callback(pool.close)
        if resumed:
            held.enter_context(folders.claim(folder))
            folders.check_readable("--resume", folder, plan)
        held.callback(engine.close)
        progress("loading the data", 0, 0)
        engine.start(dict.fromkeys(case.framework for group in groups for case in group.cases))
        workload = chosen.workload(plan, given)
        progress("loading the frameworks", 0, 0)
        infos = engine.infos()
        if twins.is_own(plan):
            progress("trying the plugin", 0, 0)
            workload = _attached(engine, workload, plan, infos)
        probes = {} if plan.experiment else engine.calibrations()  # they explain the times of study loops
        where = environment.capture(plan, variables, infos, probes)
        if resumed:
            folders.check_environment(folder, where)
            record.drop_cut_line(folder)
        else:
            decided = measuring.decided(engine, workload, groups, where["key"], plan, progress)
            held.enter_context(folders.make(folder, where))
            record.append(folder, decided)
        mattering = environment.that_matter(variables)
        work = Work(plan, workload, mattering, where["versions"], where["key"], measuring.summarize)
        measuring.measure(measuring.Run(engine, pool, work, folder, progress, tell), groups)
        progress("writing the report", 0, 0)
        return report(plan, folder, beside)


def _cores(plan: Plan, engine: Engine) -> Local:
    """Return this machine's cores, on one part of which the workers of `engine` run; a GPU takes one case at a time."""
    processes = len(environment.cores_at_hand()) // plan.threads if plan.device == "cpu" else 1
    return Local(max(1, processes), lambda work: Stock(work, count(1), [engine], WorkerProcess))


def _attached(engine: Engine, workload: Workload, plan: Plan, workers: Iterable[str]) -> Workload:
    """Return the workload with the parameters of the user's model.

    Raises:
        ConfigError: What the user gave cannot be trained.
    """
    try:
        return twins.attach(workload, plan, [f for f in plan.frameworks if f in set(workers)], engine.call)
    except (Refused, CaseFailed) as error:
        raise ConfigError(str(error)) from None


@contextmanager
def _kept(folder: Path) -> Iterator[None]:
    """Turn what stops a run into `Interrupted`, once there are records to keep."""
    try:
        yield
    except (KeyboardInterrupt, CaseFailed, OSError) as error:
        if not (folder / record.RECORDS).exists():
            if isinstance(error, CaseFailed):
                raise ConfigError(str(error)) from None
            raise
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(folder, "stopped", terminal.STOPPED) from None
        words = f"{error.filename or folder}: {error.strerror}" if isinstance(error, OSError) else str(error)
        raise Interrupted(folder, words, 1) from None


def report(plan: Plan, folder: Path, beside: Beside = Beside()) -> Outcome:
    """Draw the report of the records in `folder`, and return what they say."""
    found, unreadable = record.readable(folder) if beside.again else (record.read(folder), [])
    results, where = verdict.evaluate(_in_order(found, plan), plan), environment.read(folder)
    drawn = verdict.sections(results, plan, folder)
    opening, status = verdict.opening(results, drawn, plan), verdict.status(results, drawn)
    if unreadable:
        first = f"Lines of {record.RECORDS} that cannot be read: {len(unreadable)}; the first: {unreadable[0]}."
        opening.insert(1, Sentence(first, "warning"))
    others = [_data(plan)] if plan.data else []
    data: list[tuple[str, list[Table], list[Any]]] = (
        [("The data: what is trained on?", [*others], [])] if plan.data else []
    )
    sections, summary = [*data, *verdict.by_study(drawn, plan)], verdict.summary(results, drawn, plan)
    timed = [r for r in results.records if results.shows(r)]
    if beside.against is not None:
        rows, compared = _compared(beside.against, timed, where)
        summary["against"] = record.plain(rows)
        if beside.fail_on_slower is not None and (slower := against.slower(rows, beside.fail_on_slower)):
            opening.append(Sentence(f"{slower}, against {beside.against}.", "bad"))
            status = 1
        sections.append((f"Against {beside.against}: what became faster or slower?", compared, []))
        others += compared
    if beside.export is not None:
        export.pyperf(timed, folder)
    sections.append(("The run: what did it take as a whole?", [_whole(where, results.records, beside.again)], []))
    comparisons = [verdict.comparisons(results.findings)]
    sentences = [*(s.words for s in opening), *(words for section in drawn for words in verdict.conclusions(section))]
    page.write(folder, sentences, [*sections, ("Which values were compared?", comparisons, [])], where)
    chapters = {chapter.question: chapter for chapter in verdict.chapters(results, drawn, plan)}
    pages = [chapters.get(section[0]) or html.Chapter(*section) for section in sections]
    html.write(folder, opening, pages, html.Reproduction(command(plan), where))
    words = " ".join(sentences)
    summary |= {
        "verdict": words,
        "sentences": sentences,
        "status": status,
        "folder": str(folder),
        "environment": where,
    }
    doubtful = [f for f in results.findings if f.agrees is not True]
    shown = [table for _, tables, _ in sections for table in tables]
    shown += [verdict.comparisons(doubtful)] if doubtful else []
    figures = tuple(figure for _, _, figures in sections for figure in figures)
    screen = Screen(tuple(opening), tuple(verdict.parts(drawn, plan, others)), not plan.overview)
    return Outcome(folder, words, status, list(results.findings), shown, summary, results, figures, screen)


def _in_order(records: Iterable[Record], plan: Plan) -> list[Record]:
    """Return the records in the order of the plan; distributed cases end in any order."""
    cases = [case for name in plan.studies for group in EVERY[name].groups(plan) for case in group.cases]
    places = {case: place for place, case in enumerate(cases)}
    return sorted(records, key=lambda r: places.get(r.case, len(places)))


def _data(plan: Plan) -> Table:
    return Table("The data", ("what", "is"), [fact.split(": ", 1) for fact in plan.data], left=("is",))


def _compared(folder: Path, timed: Sequence[Record], where: Mapping[str, Any]) -> tuple[list[Any], list[Table]]:
    """Return this run's times beside those of the run in `folder`, as plain rows and as tables."""
    there = environment.read(folder)
    # By its own plan: another dtype has other bounds.
    plan = environment.plan_of(there)
    earlier = verdict.evaluate(_in_order(record.read(folder), plan), plan)
    before = [r for r in earlier.records if earlier.shows(r)]
    rows = against.rows(before, timed)
    lines = environment.differences(there, where)
    only_one = len({r.case for r in before} ^ {r.case for r in timed})
    return rows, against.tables(rows, lines, str(folder), only_one)


def _whole(where: Mapping[str, Any], records: Sequence[Record], again: bool) -> Table:
    """Return what the run took: the benchmark of the project itself."""
    peaks = {r.framework: max(s.peak_bytes for s in records if s.framework == r.framework) for r in records}
    retried = sum(r.retried for r in records)
    rows = [
        ("start-up, to the first case", text.seconds(where["startup_seconds"])),
        *((f"import of {name}", text.seconds(took)) for name, took in where["import_seconds"].items()),
        *([] if again else [("this command so far", text.seconds(process_age()))]),
        *([("tasks begun again, since a process died", f"{retried}")] if retried else []),
        *((f"peak memory of {name}'s workers", f"{peak / 2**20:.0f} MiB") for name, peak in peaks.items()),
    ]
    return Table("The whole run", ("what", "took"), rows)

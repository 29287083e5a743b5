"""One run, from plan to report: its folder, its workers, its records, what is still to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from jaxopt_study import exported, folders, measuring, side_by_side, terminal, verdict
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
from jaxopt_study.report import html, page
from jaxopt_study.report import table as text
from jaxopt_study.report.page import Answer
from jaxopt_study.report.screen import Part, Screen
from jaxopt_study.report.table import Table
from jaxopt_study.studies import EVERY
from jaxopt_study.studies.own import chosen, twins


@dataclass(frozen=True)
class Beside:
    """What is made of a run beside its report.

    Attributes:
        against: The folder of another run, to compare this one with.
        fail_on_slower: The run's status is 1 where a case became slower by surely more than so many percent.
        export: Formats of `report.export`.
        again: Whether the report is drawn again, long after the run.
        out: The folder to write into; the run's own by default.
    """

    against: Path | None = None
    fail_on_slower: float | None = None
    export: tuple[str, ...] = ()
    again: bool = False
    out: Path | None = None


WORDS = "[..]: 95 % interval. Unstable: an equal run may be over 10 % away."
REST = (
    "The rest: report.html in the run's folder has all tables in full, all comparisons and notes; so has "
    "`jaxopt-study report DIR --verbose`, and `--export csv` writes them as files."
)


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
    run = side_by_side.read(folder, plan, whole=not beside.again)
    results, where, into = run.results, run.environment, beside.out or folder
    into.mkdir(parents=True, exist_ok=True)
    drawn = verdict.sections(results, plan, into)
    opening, status = verdict.opening(results, drawn, plan), verdict.status(results, drawn)
    opening[1:1] = run.warnings
    compared: list[Table] = []
    data: list[tuple[str, list[Table], list[Any]]] = (
        [("The data: what is trained on?", [_data(plan)], [])] if plan.data else []
    )
    sections = [*data, *verdict.by_study(drawn, plan)]
    summary, answers, parts = verdict.summary(results, drawn, plan), verdict.answers(drawn, plan), []
    if beside.against is not None:
        then = side_by_side.read(beside.against)
        rows, compared, said, slower = side_by_side.compare([then.run, run.run], beside.fail_on_slower)
        summary["against"] = record.plain(rows)
        opening += said
        status = int(status or slower)
        question = f"Against {beside.against}: what became faster or slower?"
        sections.append((question, compared, []))
        answers.append(Answer(question, [Part([replace(t, notes=()) for t in compared])]))
        parts += exported.of_runs(rows, compared)
    exported.write(beside.export, into, results, drawn, where, parts)
    sections.append(("The run: what did it take as a whole?", [_whole(where, results.records, beside.again)], []))
    sections.append(("Which values were compared?", [verdict.comparisons(results.findings)], []))
    page.write(into, _command(plan), [s.words for s in opening], answers, [*page.environment_lines(where), WORDS, REST])
    sentences = [*(s.words for s in opening), *(words for section in drawn for words in verdict.conclusions(section))]
    chapters = {chapter.question: chapter for chapter in verdict.chapters(results, drawn, plan)}
    pages = [chapters.get(section[0]) or html.Chapter(*section) for section in sections]
    html.write(into, opening, pages, html.Reproduction(command(plan), where))
    words = " ".join(sentences)
    summary |= {
        "verdict": words,
        "sentences": sentences,
        "status": status,
        "folder": str(into),
        "environment": where,
    }
    shown = [table for _, tables, _ in sections for table in tables]
    figures = tuple(figure for _, _, figures in sections for figure in figures)
    shortly = [Part([], [text.sentence(fact) for fact in plan.data])] if plan.data else []
    shortly.append(Part([replace(t, notes=()) for t in compared]))
    screen = Screen(tuple(opening), (*verdict.parts(drawn, plan), *shortly), not plan.overview)
    return Outcome(into, words, status, list(results.findings), shown, summary, results, figures, screen)


def _command(plan: Plan) -> str:
    """Return the command of a run in short, for a heading."""
    studies = "" if plan.overview else f" --studies {' '.join(plan.studies)}"
    return f"jaxopt-study compare{' --experiment' if plan.experiment else studies}"


def _data(plan: Plan) -> Table:
    return Table("The data", ("what", "is"), [fact.split(": ", 1) for fact in plan.data], left=("is",))


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

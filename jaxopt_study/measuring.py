"""What a run's folder does not hold yet, measured and recorded: group by group, or its tasks by any process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from jaxopt_study.bench import distributed, record
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.engine import Engine, at_its_place
from jaxopt_study.bench.pools import Pool
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.stock import Work
from jaxopt_study.bench.task import Value
from jaxopt_study.config import ConfigError
from jaxopt_study.data.workload import Workload
from jaxopt_study.studies import experiment
from jaxopt_study.tally import Tally

Progress = Callable[[str, int, int], None]
"""progress(words, samples done since the last call, samples in all)"""


@dataclass(frozen=True)
class Run:
    """What measures, and where it is recorded.

    Attributes:
        engine: The workers of the groups that are timed.
        pool: What takes the cases of the groups that are distributed.
        work: What these cases need.
        folder: The run's folder.
        progress: It is told how far the run is.
        tell: It is told what is finished, in one line.
    """

    engine: Engine
    pool: Pool
    work: Work
    folder: Path
    progress: Progress
    tell: Callable[[str], None]


def summarize(case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
    """Return what a record keeps of a case's value."""
    return experiment(case).summarize(case, value, workload, plan)


def decided(
    engine: Engine, workload: Workload, groups: Sequence[Group], key: str, plan: Plan, progress: Progress
) -> list[Record]:
    """Measure the groups that decide whether there is a run at all; return their records.

    Raises:
        ConfigError: There is none: what a user gave cannot be run.
    """
    found: list[Record] = []
    for group in (group for group in groups if group.decides):
        mine = experiment(group.cases[0])
        progress(f"{mine.study} {mine.name}: {group.cases[0].subject}", 0, 0)
        records = engine.measure(group, workload, key, lambda _: None)
        reasons = [r.reason if r.status == "refused" else f"{r.framework}: {r.reason}" for r in records if not r.ok]
        reason = reasons[0] if reasons else mine.refuse(records, plan)
        if reason:
            raise ConfigError(reason)
        found += records
    return found


def measure(run: Run, groups: Sequence[Group]) -> None:
    """Measure what the folder does not hold yet; record each group as it ends, and of a distributed one each case."""
    done = {r.case: r for r in record.read(run.folder)}
    groups = _pending(groups, done.values())
    samples = sum(group.samples for group in groups)
    for are_distributed, some in groupby(groups, lambda group: group.distributed):
        if are_distributed:
            _distribute(run, list(some), done, samples)
            continue
        for group in some:
            name = " ".join(dict.fromkeys((group.cases[0].study, group.cases[0].experiment)))
            words = f"{name}: {', '.join(dict.fromkeys(case.subject for case in group.cases))}"
            chosen = _without_skipped(run, group, done)
            run.progress(words, group.samples - chosen.samples, samples)
            advance = partial(_advance, run.progress, words, samples)
            _keep(run, run.engine.measure(chosen, run.work.workload, run.work.key, advance), done)


def _distribute(run: Run, groups: Sequence[Group], done: dict[Case, Record], samples: int) -> None:
    """Measure the cases of these groups, in any order, by the processes of the pool; nothing is timed meanwhile."""
    cases = [case for group in groups for case in _without_skipped(run, group, done).cases]
    tally = Tally(cases, run.work.plan)
    run.progress(tally.words, sum(group.samples for group in groups) - len(cases), samples)
    with closing(distributed.measure(cases, run.pool, run.work)) as ended:
        for found in ended:
            _keep(run, [found], done)
            finished = tally.count(found.case)
            run.progress(tally.words, 1, samples)
            if finished:
                run.tell(finished)


def _keep(run: Run, records: Sequence[Record], done: dict[Case, Record]) -> None:
    record.append(run.folder, records)
    done |= {r.case: r for r in records}


def _pending(groups: Sequence[Group], done: Iterable[Record]) -> list[Group]:
    measured = {r.case for r in done if not r.failed}
    rest = [replace(group, cases=tuple(c for c in group.cases if c not in measured)) for group in groups]
    return [group for group in rest if group.cases]


def _without_skipped(run: Run, group: Group, done: dict[Case, Record]) -> Group:
    """Return the group without the cases that their study skips after what came before; record these."""
    before, rest, skipped = list(done.values()), [], []
    for case in group.cases:
        try:
            status, reason = "skipped", experiment(case).skip(case, before, run.work.plan)
        except Exception as error:  # of the study's own code: it costs this case alone
            status, reason = "failed", f"its study cannot say whether to skip it: {at_its_place(error)}"
        if reason:
            skipped.append(record.not_measured(case, status, reason, run.work.key))
        else:
            rest.append(case)
    _keep(run, skipped, done)
    return replace(group, cases=tuple(rest))


def _advance(progress: Progress, words: str, samples: int, done: int) -> None:
    progress(words, done, samples)

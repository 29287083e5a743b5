"""The parent's side of the workers: start them, measure groups of cases in rounds, outlive what dies."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from jaxopt_study.bench import environment, load, record
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.process import CaseFailed, WorkerDied, WorkerProcess
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.task import Value
from jaxopt_study.bench.timing import now
from jaxopt_study.data.workload import Workload

WorkerInfo = tuple[dict[str, str], float]
"""What a worker says of itself, and its import's seconds."""


class Engine:
    """The workers of a run, one for each framework; one that died is replaced when it is next needed.

    Args:
        plan: What the run was asked for.
        summarize: summarize(case, value, workload, plan) is what a record keeps of a value.
        worker: worker(framework, plan, before=...) starts a worker.
    """

    def __init__(
        self,
        plan: Plan,
        summarize: Callable[[Case, Value, Workload, Plan], Mapping[str, Any]],
        worker: Callable[..., WorkerProcess] = WorkerProcess,
    ) -> None:
        self._plan = plan
        self._summarize = summarize
        self._worker_process = worker
        self._workers: dict[str, WorkerProcess] = {}
        self._fork_servers: dict[str, WorkerProcess] = {}
        self._imports: dict[str, float] = {}

    def start(self, frameworks: Iterable[str]) -> None:
        """Start the workers, side by side; they load their frameworks while the caller goes on."""
        for name in frameworks:
            self._workers[name] = self._worker_process(name, self._plan)

    def infos(self) -> dict[str, WorkerInfo]:
        """Wait for all workers; return what each says of itself, and its import's seconds.

        Raises:
            CaseFailed: A framework cannot be loaded or has no such device; the words name it.
        """
        return {name: self._info(name) for name in self._workers}

    def calibrations(self) -> dict[str, dict[str, float]]:
        """Return what the probes of each framework take, one framework after the other."""
        found = {name: worker.ask("probe") for name, worker in self._workers.items()}
        return {name: probes for name, probes in found.items() if probes}

    def call(self, framework: str, place: str, *arguments: Any) -> Any:
        """Return what a function returns in a framework's worker: see `worker.Worker.call`.

        Raises:
            CaseFailed: It raised, or the process died.
        """
        return self._worker(framework).ask("call", place, *arguments)

    def close(self) -> None:
        """End all workers, at once."""
        for workers in (self._workers, self._fork_servers):
            for worker in workers.values():
                worker.close()
            workers.clear()

    def measure(
        self, group: Group, workload: Workload, environment_key: str, advance: Callable[[int], None]
    ) -> list[Record]:
        """Measure the cases of a group in rounds, forwards and backwards (A B, B A, ...).

        A case that raises costs the others nothing. One whose process dies has failed, and the others, whose rounds
        were interrupted, begin again. Where the group has several processes, each framework has them one after the
        other, and each case must give the same value in all. `advance` is told how many samples are done, or will not
        be taken.
        """
        before = load.read()
        records = self._measure_group(group, workload, environment_key, advance)
        busy = load.others(before, load.read())
        return [replace(r, others_busy=busy) for r in records]

    def measure_value(self, case: Case, workload: Workload, environment_key: str) -> Record:
        """Measure a case of which the value alone is wanted: the record has no samples.

        Raises:
            WorkerDied: The process died.
        """
        facts: dict[Case, dict[str, Any]] = {case: {"group": now(), "samples": []}}
        if self._measure([case], range(0), workload, facts, lambda _: None) is not None:
            raise WorkerDied(facts[case]["reason"])
        return _record(case, facts[case] | {"samples": ()}, environment_key)

    def _measure_group(
        self, group: Group, workload: Workload, environment_key: str, advance: Callable[[int], None]
    ) -> list[Record]:
        if group.fresh:
            return [
                self._measure_alone(case, group.repeats, workload, environment_key, advance) for case in group.cases
            ]
        if group.together:
            return self._measure_together(group, workload, environment_key, advance)
        facts: dict[Case, dict[str, Any]] = {}
        rest = list(group.cases)
        while rest:
            started = now()
            facts.update({case: {"group": started, "samples": []} for case in rest})
            dead = self._measure_shares(rest, group, workload, facts, advance)
            if dead is None:
                break
            rest.remove(dead)
            for name in {case.framework for case in rest}:
                self._workers[name].close()  # or who begins again would find compiled what it compiled before
        return [_record(case, facts[case], environment_key) for case in group.cases]

    def _measure_shares(
        self,
        cases: list[Case],
        group: Group,
        workload: Workload,
        facts: dict[Case, dict[str, Any]],
        advance: Callable[[int], None],
    ) -> Case | None:
        """Give each of the group's processes its share of the rounds; return the case whose process died, if any."""
        shares = min(group.processes, max(1, group.repeats))
        for share in range(shares):
            if share:
                self._renew({case.framework for case in cases})
            rounds = range(share * group.repeats // shares, (share + 1) * group.repeats // shares)
            dead = self._measure(cases, rounds, workload, facts, advance)
            if dead is not None:
                return dead
        return None

    def _renew(self, frameworks: Iterable[str]) -> None:
        """Put a fresh process in the place of each framework's."""
        for name in frameworks:
            self._workers[name] = self._worker_process(name, self._plan, before=self._workers[name])
        for name in frameworks:
            self._info(name)

    def _measure(
        self,
        cases: list[Case],
        rounds: range,
        workload: Workload,
        facts: dict[Case, dict[str, Any]],
        advance: Callable[[int], None],
    ) -> Case | None:
        """Measure the cases in these rounds; return the one whose process died, if one did."""
        speeds: dict[int, float] = {}
        actions: list[tuple[Case, Callable[[Case, dict[str, Any]], None]]]
        actions = [(case, partial(self._begin, workload, bool(rounds))) for case in cases]
        for number in rounds:
            actions += [(case, partial(self._machine_seconds, speeds, number)) for case in cases]
            # Backwards every other round, so that a drift within a round cancels.
            actions += [(case, self._sample) for case in (cases if number % 2 == 0 else reversed(cases))]
        actions += [(case, partial(self._finish, workload)) for case in cases]
        advance(len(rounds) * sum("reason" in facts[case] for case in cases))
        for case, act in actions:
            if "reason" in facts[case]:
                continue
            before = len(facts[case]["samples"])
            try:
                act(case, facts[case])
            except CaseFailed as failure:
                facts[case] |= {"reason": str(failure), "status": failure.status}
                advance(max(1, rounds.stop) - before)
                if isinstance(failure, WorkerDied):
                    advance(-sum(len(facts[other]["samples"]) for other in cases if other != case))
                    return case
            advance(len(facts[case]["samples"]) - before)
        return None

    def _measure_alone(
        self, case: Case, repeats: int, workload: Workload, environment_key: str, advance: Callable[[int], None]
    ) -> Record:
        """Measure a case in a process of its own, forked from one that has loaded the framework and done nothing."""
        fork_server = self._fork_servers.get(case.framework)
        if fork_server is None or not fork_server.alive():
            fork_server = self._fork_servers[case.framework] = self._worker_process(case.framework, self._plan)
            fork_server.loaded()
            fork_server.ask("preload")
        facts: dict[Case, dict[str, Any]] = {case: {"group": now(), "samples": []}}
        shared, self._workers[case.framework] = self._workers[case.framework], fork_server
        try:
            fork_server.fork()
            if self._measure([case], range(repeats), workload, facts, advance) is None:
                fork_server.leave()
        except CaseFailed as failure:
            facts[case] |= {"reason": str(failure), "status": failure.status}
        finally:
            self._workers[case.framework] = shared
        return _record(case, facts[case], environment_key)

    def _measure_together(
        self, group: Group, workload: Workload, environment_key: str, advance: Callable[[int], None]
    ) -> list[Record]:
        """Measure the cases at the same time, each in the worker of its own framework."""
        facts: dict[Case, dict[str, Any]] = {case: {"group": now(), "samples": []} for case in group.cases}
        pool = ThreadPoolExecutor()
        try:
            self._place(group, alone=True)
            list(pool.map(lambda case: self._measure([case], range(0), workload, facts, advance), group.cases))
            self._place(group, alone=False)
        finally:
            pool.shutdown(wait=False)  # a run that is stopped ends its workers, and with them these threads
        # A time that was taken while others computed may not be shown, so that none is recorded.
        return [_record(case, facts[case] | {"samples": ()}, environment_key) for case in group.cases]

    def _place(self, group: Group, alone: bool) -> None:
        """Give each worker cores of its own, or give all the same ones back."""
        for place, case in enumerate(group.cases):
            cores = environment.worker_cores(self._plan.threads, place if alone else 0)
            self._worker(case.framework).ask("configure", self._plan, cores)

    def _begin(self, workload: Workload, timed: bool, case: Case, facts: dict[str, Any]) -> None:
        """Compile and warm up. What that takes is the first process's; a later one finds some of it compiled."""
        worker = self._worker(case.framework)
        facts["laps"], facts["steps"], facts["varies_by_process"] = worker.ask("prepare", case, workload)
        facts.setdefault("stages", {"import": self._imports[case.framework], **worker.ask("stages", case)})
        facts.setdefault("first_seconds", worker.ask("first", case))
        if timed:
            facts["sample_laps"] = worker.ask("calibrate", case, facts.get("sample_laps"))
        else:
            facts["samples"].append(facts["first_seconds"])

    def _sample(self, case: Case, facts: dict[str, Any]) -> None:
        facts["samples"].append(self._workers[case.framework].ask("sample", case))

    def _machine_seconds(self, speeds: dict[int, float], number: int, case: Case, facts: dict[str, Any]) -> None:
        """Measure the machine's speed in the worker of the round's first case; the other cases share the answer."""
        if number not in speeds:
            speeds[number] = self._workers[case.framework].ask("machine_seconds")
        facts["machine_seconds"] = (*facts.get("machine_seconds", ()), speeds[number])

    def _finish(self, workload: Workload, case: Case, facts: dict[str, Any]) -> None:
        value, facts["peak_bytes"] = self._workers[case.framework].ask("finish", case)
        digest = record.digest(value)
        if facts.setdefault("digest", digest) != digest:
            raise CaseFailed("two processes gave different values, so neither its value nor its time holds")
        try:
            kept = dict(self._summarize(case, value, workload, self._plan))
            record.plain(kept)
            facts["value"] = kept
        except Exception as error:  # of the study's own code: it costs this case alone
            raise CaseFailed(f"its value cannot be summarized: {at_its_place(error)}") from None

    def _worker(self, framework: str) -> WorkerProcess:
        worker = self._workers.get(framework)
        if worker is None or not worker.alive():
            if worker is not None:
                worker.close()
            self._workers[framework] = self._worker_process(framework, self._plan)
            self._info(framework)
        return self._workers[framework]

    def _info(self, framework: str) -> WorkerInfo:
        try:
            seconds = self._imports[framework] = self._workers[framework].loaded()
            return self._workers[framework].configure(), seconds
        except CaseFailed as failure:
            raise type(failure)(f"{framework}: {failure}") from None


def at_its_place(error: Exception) -> str:
    """Return an error in one line: its type, its words, and the file and line that raised it."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    words = str(error).strip().splitlines() or ["no message"]
    return f"{type(error).__name__}: {words[0]} ({Path(place.filename).name}:{place.lineno})"


def _record(case: Case, facts: Mapping[str, Any], environment_key: str) -> Record:
    return Record(
        **asdict(case), environment=environment_key, **{"status": "ok", **facts, "samples": tuple(facts["samples"])}
    )

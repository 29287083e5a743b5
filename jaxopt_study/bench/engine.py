"""The parent's side of the workers: start them, measure groups of cases block by block, outlive what dies."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import Pipe
from typing import Any

from jaxopt_study.bench import environment, load, record
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.task import Value
from jaxopt_study.bench.timing import now
from jaxopt_study.bench.worker import cause_of_death
from jaxopt_study.bench.workload import Workload

Introduction = tuple[dict[str, str], float]
JAX_CACHE, TORCH_CACHE = "JAX_COMPILATION_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class CaseFailed(Exception):  # noqa: N818 - an outcome that is recorded, not an error of the program
    """A case could not be measured; the words are the reason, the status is `failed`, or that of a `task.LeftOut`."""

    def __init__(self, reason: str, status: str = "failed") -> None:
        super().__init__(reason)
        self.status = status


class WorkerDied(CaseFailed):
    """The process that measured a case is gone, and with it whatever else it held."""


class WorkerProcess:
    """A worker in a process of its own.

    Args:
        framework: What it loads.
        plan: What the run was asked for.
        before: The worker that it takes the place of, which ends: it finds compiled what that one compiled. Without
            one, no compilation is found ready-made.
    """

    def __init__(self, framework: str, plan: Plan, before: WorkerProcess | None = None) -> None:
        self._connection, theirs = Pipe()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `end`
        self._cache = before.end() if before else tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        threads = str(plan.threads)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "jaxopt_study.bench.worker", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={
                **environment.WORKERS_DEFAULTS,
                **{name: value for name, value in os.environ.items() if name != JAX_CACHE},
                **dict.fromkeys(THREAD_VARIABLES, threads),  # read when a library is loaded
                TORCH_CACHE: self._cache.name,
            },
            stdin=subprocess.DEVNULL,
            stdout=self._errors,
            stderr=self._errors,
            start_new_session=True,  # Ctrl-C reaches the parent alone, which ends its workers
        )
        theirs.close()
        self._plan = plan
        self._send("load", framework)

    def loaded(self) -> float:
        """Wait until the framework is loaded; return how many seconds that took."""
        seconds: float = self._receive()
        return seconds

    def configure(self) -> dict[str, str]:
        """Pin the process and set what the plan says; return what the wing says of itself."""
        words: dict[str, str] = self.ask("configure", self._plan, environment.worker_cores(self._plan.threads))
        return words

    def fork(self) -> None:
        """Let a fresh child answer from now on, until `leave`."""
        self._send("fork")
        self.configure()

    def leave(self) -> None:
        """End the child."""
        self._send("leave")

    def ask(self, command: str, *arguments: Any) -> Any:
        """Give a command and return its answer.

        Raises:
            CaseFailed: The command raised, or the process died.
        """
        self._send(command, *arguments)
        return self._receive()

    def alive(self) -> bool:
        """Whether the process is running."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the process, at once, and remove what it compiled."""
        self.end().cleanup()

    def end(self) -> tempfile.TemporaryDirectory[str]:
        """End the process, at once; return what it compiled."""
        self._process.kill()
        self._process.wait()
        self._connection.close()
        self._errors.close()
        return self._cache

    def _send(self, *message: Any) -> None:
        try:
            self._connection.send(message)
        except OSError:
            raise WorkerDied(self._cause_of_death()) from None

    def _receive(self) -> Any:
        try:
            ok, answer = self._connection.recv()
        except (EOFError, OSError):
            raise WorkerDied(self._cause_of_death()) from None
        if not ok:
            status, reason = answer
            raise WorkerDied(reason) if status == "died" else CaseFailed(reason, status)
        return answer

    def _cause_of_death(self) -> str:
        exit_code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines() or ["none"]
        return f"{cause_of_death(exit_code)}; its last words: {lines[-1]}"


class Engine:
    """The workers of a run, one for each framework; one that died is replaced when it is next needed.

    Args:
        plan: What the run was asked for.
        condense: condense(case, value, workload, plan) is what a record keeps of a value.
    """

    def __init__(self, plan: Plan, condense: Callable[[Case, Value, Workload, Plan], Mapping[str, Any]]) -> None:
        self._plan = plan
        self._condense = condense
        self._workers: dict[str, WorkerProcess] = {}
        self._nurseries: dict[str, WorkerProcess] = {}
        self._imports: dict[str, float] = {}

    def start(self, frameworks: Iterable[str]) -> None:
        """Start the workers, side by side; they load their frameworks while the caller goes on."""
        for name in frameworks:
            self._workers[name] = WorkerProcess(name, self._plan)

    def introductions(self) -> dict[str, Introduction]:
        """Wait for all workers; return what each says of itself, and its import's seconds.

        Raises:
            CaseFailed: A framework cannot be loaded or has no such device; the words name it.
        """
        return {name: self._introduction(name) for name in self._workers}

    def calibrations(self) -> dict[str, dict[str, float]]:
        """Return what the probes of each framework take, one framework after the other."""
        found = {name: worker.ask("probe") for name, worker in self._workers.items()}
        return {name: probes for name, probes in found.items() if probes}

    def close(self) -> None:
        """End all workers, at once."""
        for workers in (self._workers, self._nurseries):
            for worker in workers.values():
                worker.close()
            workers.clear()

    def measure(
        self, group: Group, workload: Workload, environment_key: str, advance: Callable[[int], None]
    ) -> list[Record]:
        """Measure the cases of a group block by block in turn, forwards and backwards (A B, B A, ...).

        A case that raises costs the others nothing. One whose process dies is left out, and the others, whose blocks
        were torn apart, begin again. Where the group has several processes, each framework has them one after the
        other, and each case must give the same value in all. `advance` is told how many blocks are done, or will not
        be.
        """
        before = load.read()
        records = self._measure_group(group, workload, environment_key, advance)
        busy = load.others(before, load.read())
        return [replace(r, others_busy=busy) for r in records]

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
        """Give each of the group's processes its share of the turns; return the case whose process died, if one did."""
        shares = min(group.processes, max(1, group.repeats))
        for share in range(shares):
            if share:
                self._renew({case.framework for case in cases})
            turns = range(share * group.repeats // shares, (share + 1) * group.repeats // shares)
            dead = self._measure(cases, turns, workload, facts, advance)
            if dead is not None:
                return dead
        return None

    def _renew(self, frameworks: Iterable[str]) -> None:
        """Put a fresh process in the place of each framework's."""
        for name in frameworks:
            self._workers[name] = WorkerProcess(name, self._plan, before=self._workers[name])
        for name in frameworks:
            self._introduction(name)

    def _measure(
        self,
        cases: list[Case],
        turns: range,
        workload: Workload,
        facts: dict[Case, dict[str, Any]],
        advance: Callable[[int], None],
        timed: bool = True,
    ) -> Case | None:
        """Measure the cases in turn; return the one whose process died, if one did."""
        block = self._block if timed else self._lap
        paces: dict[int, float] = {}
        parts: list[tuple[Case, Callable[[Case, dict[str, Any]], None]]]
        parts = [(case, partial(self._begin, workload, bool(turns))) for case in cases]
        for turn in turns:
            if timed:
                parts += [(case, partial(self._pace, paces, turn)) for case in cases]
            parts += [(case, block) for case in (cases if turn % 2 == 0 else reversed(cases))]
        parts += [(case, partial(self._finish, workload)) for case in cases]
        advance(len(turns) * sum("reason" in facts[case] for case in cases))
        for case, part in parts:
            if "reason" in facts[case]:
                continue
            try:
                part(case, facts[case])
            except CaseFailed as failure:
                facts[case] |= {"reason": str(failure), "status": failure.status}
                advance(turns.stop - len(facts[case]["samples"]))
                if isinstance(failure, WorkerDied):
                    advance(-sum(len(facts[other]["samples"]) for other in cases if other != case))
                    return case
            else:
                advance(part == block)
        return None

    def _measure_alone(
        self, case: Case, repeats: int, workload: Workload, environment_key: str, advance: Callable[[int], None]
    ) -> Record:
        """Measure a case in a process of its own, forked from one that has loaded the framework and done nothing."""
        nursery = self._nurseries.get(case.framework)
        if nursery is None or not nursery.alive():
            nursery = self._nurseries[case.framework] = WorkerProcess(case.framework, self._plan)
            nursery.loaded()
            nursery.ask("preload")
        facts: dict[Case, dict[str, Any]] = {case: {"group": now(), "samples": []}}
        shared, self._workers[case.framework] = self._workers[case.framework], nursery
        try:
            nursery.fork()
            if self._measure([case], range(repeats), workload, facts, advance) is None:
                nursery.leave()
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
            self._place(group, apart=True)
            measure = partial(self._measure, timed=False)
            turns = range(group.repeats)
            list(pool.map(lambda case: measure([case], turns, workload, facts, advance), group.cases))
            self._place(group, apart=False)
        finally:
            pool.shutdown(wait=False)  # a run that is stopped ends its workers, and with them these threads
        return [_record(case, facts[case], environment_key) for case in group.cases]

    def _place(self, group: Group, apart: bool) -> None:
        """Give each worker cores of its own, or give all the same ones back."""
        for place, case in enumerate(group.cases):
            cores = environment.worker_cores(self._plan.threads, place if apart else 0)
            self._worker(case.framework).ask("configure", self._plan, cores)

    def _begin(self, workload: Workload, timed: bool, case: Case, facts: dict[str, Any]) -> None:
        """Compile and warm up. What that takes is the first process's; a later one finds some of it compiled."""
        worker = self._worker(case.framework)
        facts["laps"], facts["steps"] = worker.ask("prepare", case, workload)
        facts.setdefault("stages", {"import": self._imports[case.framework], **worker.ask("stages", case)})
        facts.setdefault("first_seconds", worker.ask("first", case))
        if timed:
            facts["block_laps"] = worker.ask("calibrate", case, facts.get("block_laps"))
        else:
            facts["samples"].append(facts["first_seconds"])

    def _block(self, case: Case, facts: dict[str, Any]) -> None:
        facts["samples"].append(self._workers[case.framework].ask("block", case))

    def _pace(self, paces: dict[int, float], turn: int, case: Case, facts: dict[str, Any]) -> None:
        """Ask for the machine's pace in the worker of the turn's first case; the others have it from that one."""
        if turn not in paces:
            paces[turn] = self._workers[case.framework].ask("pace")
        facts["paces"] = (*facts.get("paces", ()), paces[turn])

    def _lap(self, case: Case, facts: dict[str, Any]) -> None:
        """Make one lap of a case whose time is not shown: it may compile."""
        facts["samples"].append(self._workers[case.framework].ask("first", case))

    def _finish(self, workload: Workload, case: Case, facts: dict[str, Any]) -> None:
        value, facts["peak_bytes"] = self._workers[case.framework].ask("finish", case)
        digest = record.digest(value)
        if facts.setdefault("digest", digest) != digest:
            raise CaseFailed("two processes gave different values, so neither its value nor its time holds")
        facts["value"] = dict(self._condense(case, value, workload, self._plan))

    def _worker(self, framework: str) -> WorkerProcess:
        if not self._workers[framework].alive():
            self._workers[framework].close()
            self._workers[framework] = WorkerProcess(framework, self._plan)
            self._introduction(framework)
        return self._workers[framework]

    def _introduction(self, framework: str) -> Introduction:
        try:
            seconds = self._imports[framework] = self._workers[framework].loaded()
            return self._workers[framework].configure(), seconds
        except CaseFailed as failure:
            raise CaseFailed(f"{framework}: {failure}") from None


def _record(case: Case, facts: Mapping[str, Any], environment_key: str) -> Record:
    return Record(
        study=case.study,
        subject=case.subject,
        framework=case.framework,
        method=case.method,
        environment=environment_key,
        **{"status": "ok", **facts, "samples": tuple(facts["samples"])},
    )

"""A process with one backend. Started as `python -m jaxopt_study.bench.worker FD`; its parent is `process`."""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import re
import resource
import select
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from jaxopt_study import backends
from jaxopt_study.backends import Backend
from jaxopt_study.bench.case import Case, Plan
from jaxopt_study.bench.task import NotMeasured, Skipped, Value
from jaxopt_study.bench.timing import Stepper, machine_seconds, seconds_of, seconds_per_unit
from jaxopt_study.data.workload import Workload

PR_SET_PDEATHSIG = 1
"""Linux's prctl(PR_SET_PDEATHSIG, signal): the signal that comes when the parent ends. A fork does not inherit it."""


class Worker:
    """The commands that a parent can give. Each is a method; what it returns is the answer."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._backend: Backend
        self._plan: Plan
        self._steppers: dict[Case, Stepper] = {}

    def load(self, framework: str) -> float:
        """Load the backend; return seconds. The workers load side by side, on all cores."""
        self._backend, seconds = seconds_of(lambda: backends.load(framework))
        gc.freeze()  # or a collection during a sample would go through all that was imported: a fifth of a second
        return seconds

    def preload(self) -> None:
        """Load the studies and what the framework loads lazily, so that children forked from here need not do it."""
        importlib.import_module("jaxopt_study.studies")
        self._backend.runtime.preload()
        gc.freeze()

    def configure(self, plan: Plan, cores: tuple[int, ...]) -> dict[str, str]:
        """Pin the process and set the backend's dtype, device and threads; return what it says of itself.

        Neither framework has started a thread when the process is pinned.
        """
        self._plan = plan
        _watch(self._connection)
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, cores)
        self._backend.runtime.configure(plan.dtype, plan.device, plan.threads)
        words: dict[str, str] = self._backend.runtime.describe()
        return words

    def probe(self) -> dict[str, float]:
        """Return what each probe of the backend takes, in seconds per unit of its work."""
        if not hasattr(self._backend, "calibration"):
            return {}
        return {name: seconds_per_unit(make()) for name, make in self._backend.calibration.PROBES.items()}

    def call(self, place: str, *arguments: Any) -> Any:
        """Return what a function returns, `module:function`, that takes the backend, the plan and these arguments."""
        module, _, name = place.partition(":")
        return getattr(importlib.import_module(module), name)(self._backend, self._plan, *arguments)

    def machine_seconds(self) -> float:
        """Return how fast the machine itself is now."""
        return machine_seconds()

    def prepare(self, case: Case, workload: Workload) -> tuple[int, int, bool]:
        """Make the task of `case`; return its laps, the steps of a lap, and whether its time varies by process."""
        studies = importlib.import_module("jaxopt_study.studies")  # by name: bench knows no study
        try:
            task = studies.experiment(case).task(self._backend, case, workload, self._plan)
        except NotImplementedError as reason:  # a backend says so of what is not here: a compiler, a GPU
            raise Skipped(str(reason)) from None
        self._steppers[case] = Stepper(task, self._backend.runtime)
        return task.laps, task.steps, task.varies_by_process

    def stages(self, case: Case) -> dict[str, float]:
        """Compile, where the task knows how to; return the seconds of each stage."""
        return self._steppers[case].stages()

    def first(self, case: Case) -> float:
        """Make the first lap; return seconds."""
        return self._steppers[case].first()

    def calibrate(self, case: Case, laps: int | None) -> int:
        """Warm up; return how many laps a sample has: `laps`, or as many as it takes."""
        return self._steppers[case].calibrate(laps)

    def sample(self, case: Case) -> float:
        """Take one sample; return seconds."""
        return self._steppers[case].sample()

    def finish(self, case: Case) -> tuple[Value, int]:
        """End the run under way; return the value and the process's peak resident size in bytes."""
        value = self._steppers.pop(case).finish()
        return value, peak_bytes()


def peak_bytes() -> int:
    """Return the peak resident size of this process; on Linux getrusage counts that of the process that started it."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="utf-8")) if status.exists() else None
    if found:
        return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def serve(connection: Connection) -> None:
    """Answer commands until the parent closes the connection: (True, answer) or (False, (status, reason)).

    At the command `fork` a child answers instead, until the command `leave`: a fresh process, in which the framework is
    loaded and has done nothing yet.
    """
    _end_with_parent(connection)
    worker = Worker(connection)
    while True:
        try:
            command, *arguments = connection.recv()
        except EOFError:
            return
        if command == "fork":
            _wait_for_child(connection)
        elif command == "leave":
            os._exit(0)
        else:
            connection.send(answer_of(getattr(worker, command), arguments))


def answer_of(command: Callable[..., Any], arguments: list[Any]) -> tuple[bool, Any]:
    """Return (True, what the command gives), or (False, (status, reason)) where it raises."""
    try:
        return True, command(*arguments)
    except Exception as error:  # whatever a framework raises costs this case alone
        words = str(error).strip().splitlines() or ["no message"]
        if isinstance(error, NotMeasured):
            return False, (error.status, words[0])
        return False, ("failed", f"{type(error).__name__}: {words[0]}")


def _end_with_parent(connection: Connection) -> None:
    """Let Linux end this process with its parent, at once, whatever it is doing: loading a library, say, or a lap."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if _hang_up(connection).poll(0):  # the parent ended before
        os._exit(0)


def _watch(connection: Connection) -> None:
    """End this process when the parent is gone, where the system does not.

    Called by processes that measure, and not by the fork server, which must have no threads.
    """

    def watch() -> None:
        _hang_up(connection).poll()
        os._exit(0)

    if sys.platform != "linux":
        threading.Thread(target=watch, daemon=True).start()


def _hang_up(connection: Connection) -> select.poll:
    poll = select.poll()
    poll.register(connection.fileno(), 0)  # 0: hang-ups alone
    return poll


def _wait_for_child(connection: Connection) -> None:
    """Fork. The child returns at once and goes on serving; the parent returns when the child has ended."""
    child = os.fork()
    if child == 0:
        _end_with_parent(connection)
        return
    _, status = os.waitpid(child, 0)
    if status:
        connection.send((False, ("died", cause_of_death(os.waitstatus_to_exitcode(status)))))


def cause_of_death(exit_code: int) -> str:
    """Return in words what ended a process."""
    if exit_code >= 0:
        return f"the worker ended with status {exit_code}"
    known = {number.value: number.name for number in signal.Signals}
    name = known.get(-exit_code, f"signal {-exit_code}")
    hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
    return f"the worker was killed by {name}{hint}"


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))

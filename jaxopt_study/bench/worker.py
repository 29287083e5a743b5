"""One wing, one process, told by name. Started as `python -m jaxopt_study.bench.worker FD`; `engine` is its parent."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import os
import resource
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import ModuleType
from typing import Any

from jaxopt_study.bench.case import Case, Plan
from jaxopt_study.bench.task import LeftOut, Value
from jaxopt_study.bench.timing import Stepper, pace, seconds_of, seconds_per_unit
from jaxopt_study.bench.workload import Workload

WINGS = {
    "jax": "jaxopt_study",
    "torch": "torch_reference",
    "numpy": "jaxopt_study.bench.baseline",
    "c": "jaxopt_study.bench.baseline",
}
WING_MODULES = (
    "runtime",
    "models",
    "optimizers",
    "training",
    "loops",
    "functional",
    "compiled_loops",
    "derivatives",
    "blocks",
    "closed_form",
    "newton",
    "newton_step",
    "sweep",
    "calibration",
    "trajectories",
    "conventions",
    "quirks",
)


class Worker:
    """The commands that a parent can give. Each is a method; what it returns is the answer."""

    def __init__(self) -> None:
        self._wing: ModuleType
        self._plan: Plan
        self._steppers: dict[Case, Stepper] = {}

    def load(self, framework: str) -> float:
        """Load the wing; return seconds. The workers load side by side, on all cores."""
        self._wing, seconds = seconds_of(lambda: _load(WINGS[framework]))
        gc.freeze()  # or a collection in a measured block would go through all that was imported: a fifth of a second
        return seconds

    def preload(self) -> None:
        """Load the studies and what the framework loads lazily, so that children forked from here need not do it."""
        importlib.import_module("jaxopt_study.studies")
        self._wing.runtime.preload()
        gc.freeze()

    def configure(self, plan: Plan, cores: tuple[int, ...]) -> dict[str, str]:
        """Pin the process and set the wing's dtype, device and threads; return what it says of itself.

        Neither framework has started a thread when the process is pinned.
        """
        self._plan = plan
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, cores)
        self._wing.runtime.configure(plan.dtype, plan.device, plan.threads)
        words: dict[str, str] = self._wing.runtime.describe()
        return words

    def probe(self) -> dict[str, float]:
        """Return what each probe of the wing takes, in seconds per unit of its work."""
        if not hasattr(self._wing, "calibration"):
            return {}
        return {name: seconds_per_unit(make()) for name, make in self._wing.calibration.PROBES.items()}

    def pace(self) -> float:
        """Return how fast the machine itself is now."""
        return pace()

    def prepare(self, case: Case, workload: Workload) -> tuple[int, int]:
        """Make the task of `case`; return its laps and the steps of a lap."""
        study = importlib.import_module(f"jaxopt_study.studies.{case.study}")  # told by name, as the wing is
        task = study.task(self._wing, case, workload, self._plan)
        self._steppers[case] = Stepper(task, self._wing.runtime)
        return task.laps, task.steps

    def stages(self, case: Case) -> dict[str, float]:
        """Compile, where the task knows how to; return the seconds of each stage."""
        return self._steppers[case].stages()

    def first(self, case: Case) -> float:
        """Make the first lap; return seconds."""
        return self._steppers[case].first()

    def calibrate(self, case: Case, laps: int | None) -> int:
        """Warm up; return how many laps a block has: `laps`, or as many as it takes."""
        return self._steppers[case].calibrate(laps)

    def block(self, case: Case) -> float:
        """Make one block; return seconds."""
        return self._steppers[case].block()

    def finish(self, case: Case) -> tuple[Value, int]:
        """End the run under way; return the value and the process's peak resident size in bytes."""
        value = self._steppers.pop(case).finish()
        unit = 1 if sys.platform == "darwin" else 1024
        return value, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _load(package: str) -> ModuleType:
    """Import those modules of a wing that it has; return the package."""
    wing = importlib.import_module(package)
    for name in WING_MODULES:
        if importlib.util.find_spec(f"{package}.{name}"):
            importlib.import_module(f"{package}.{name}")
    return wing


def serve(connection: Connection) -> None:
    """Answer commands until the parent closes the connection: (True, answer) or (False, (status, reason)).

    At the command `fork` a child answers instead, until the command `leave`: a fresh process, in which the framework is
    loaded and has done nothing yet.
    """
    worker = Worker()
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
            connection.send(_answer(getattr(worker, command), arguments))


def _answer(command: Callable[..., Any], arguments: list[Any]) -> tuple[bool, Any]:
    try:
        return True, command(*arguments)
    except Exception as error:  # whatever a framework raises costs this case alone
        words = str(error).strip().splitlines() or ["no message"]
        if isinstance(error, LeftOut):
            return False, (error.status, words[0])
        return False, ("failed", f"{type(error).__name__}: {words[0]}")


def _wait_for_child(connection: Connection) -> None:
    """Fork. The child returns at once and goes on serving; the parent returns when the child has ended."""
    child = os.fork()
    if child == 0:
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

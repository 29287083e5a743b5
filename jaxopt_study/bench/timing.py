"""Timing: the only file that reads a clock."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
import psutil

from jaxopt_study.bench.task import Task, Value, same_value

SHORTEST_SAMPLE = 0.010
"""Seconds. The laps of a sample take at least this long, so that the clock's own cost (below 1e-7 s) does not count."""


def seconds_of(compute: Callable[[], Any]) -> tuple[Any, float]:
    """Return compute() and how long it took, in seconds."""
    start = time.perf_counter()
    output = compute()
    return output, time.perf_counter() - start


class Probe(Protocol):
    """Something whose cost is one number: see the backends' `calibration`."""

    run: Callable[[], Any]
    amount: float


def seconds_per_unit(probe: Probe) -> float:
    """Return what a probe takes for each unit of its work: the least of five, after one that warms up."""
    probe.run()
    return min(seconds_of(probe.run)[1] for _ in range(5)) / probe.amount


def machine_seconds() -> float:
    """Return the seconds that a fixed piece of Python takes, the least of three: the machine's speed now."""
    return min(seconds_of(lambda: sum(i * i for i in range(20_000)))[1] for _ in range(3))


def ballast() -> list[Any]:
    """Return pieces of memory of random sizes. While they are held, what a program allocates lies elsewhere.

    Where data lie makes a small loop up to an eighth faster or slower, for as long as its process lives: the same loop
    in C took 346 to 389 ns a step in eight processes. Drawn anew for each sample, the place is noise that an interval
    holds: 370 to 373 ns in four. (Curtsinger and Berger, "Stabilizer: statistically sound performance evaluation",
    ASPLOS 2013.)
    """
    return [np.empty(size, np.uint8) for size in 16 * np.random.default_rng().integers(1, 400, 20)]


def now() -> str:
    """Return the date and time in UTC, to the microsecond, in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def process_age() -> float:
    """Return how many seconds ago this process was started."""
    return time.time() - psutil.Process().create_time()


class Runtime(Protocol):
    """What the clock asks of a backend."""

    def is_ready(self, output: Any) -> bool:
        """Say whether everything in `output` is computed already."""

    def compilations(self) -> int:
        """Return how many functions were compiled so far."""


class InvalidTimingError(RuntimeError):
    """What was timed is not what it seems; the words say why, and the time is not given."""


class Stepper:
    """Walk through a task lap by lap, run after run, and hold each run to the value of the first.

    Args:
        task: What to run.
        runtime: The backend that runs it. A lap that ends before its output is there, and one that compiles anew
            while a sample is taken, are refused.
    """

    def __init__(self, task: Task, runtime: Runtime) -> None:
        self._task = task
        self._runtime = runtime
        self._run: Iterator[Any] = iter(())
        self._laps_left = 0
        self._starts: list[Any] = []
        self._output: Any = None
        self._sample_laps = 1
        self._ballast: list[Any] = []
        self.value: Value | None = None

    def stages(self) -> dict[str, float]:
        """Compile, where the task knows how to; return the seconds of each stage."""
        found: dict[str, float] = {}
        stages = self._task.stages()
        while True:
            name, seconds = seconds_of(lambda: next(stages, None))
            if name is None:
                return found
            found[name] = seconds

    def first(self) -> float:
        """Make the first start and lap: where there were no stages, it traces and compiles as well. Return seconds."""
        self._starts, seconds = seconds_of(lambda: [self._task.start()])
        return seconds + self._advance(1)

    def calibrate(self, laps: int | None = None) -> int:
        """Make one lap to warm up, and set how many laps a sample has: `laps`, or enough. Return that number."""
        seconds = self._advance(1)
        self._sample_laps = laps or max(1, math.ceil(SHORTEST_SAMPLE / max(seconds, 1e-9)))
        return self._sample_laps

    def sample(self) -> float:
        """Take one sample: make its laps. Return seconds.

        Raises:
            InvalidTimingError: Something was compiled in it.
        """
        self._ballast = ballast()
        before = self._runtime.compilations()
        seconds = self._advance(self._sample_laps)
        if self._runtime.compilations() > before:
            raise InvalidTimingError("it compiled anew while a sample was taken: its time would be the compiler's")
        return seconds

    def finish(self) -> Value:
        """Go on to the end of the run under way, and return the task's value."""
        while self._laps_left or self.value is None:
            self._advance(1)
        return self.value

    def _advance(self, laps: int) -> float:
        """Make laps, and return the seconds that they took; each run of a task of one state is timed by itself."""
        if not self._task.one_state:
            return self._timed(laps)
        seconds = 0.0
        while laps:
            part = min(laps, self._laps_left or self._task.laps)
            seconds += self._timed(part)
            laps -= part
        return seconds

    def _timed(self, laps: int) -> float:
        runs = math.ceil(max(0, laps - self._laps_left) / self._task.laps)
        self._starts += [self._task.start() for _ in range(runs - len(self._starts))]  # before the clock starts
        _, seconds = seconds_of(lambda: self._make(laps))
        if not self._runtime.is_ready(self._output):
            raise InvalidTimingError(
                "its lap ended before its output was there: the time would be that of the dispatch"
            )
        if self._laps_left == 0:
            self._check()
        return seconds

    def _make(self, laps: int) -> None:
        for _ in range(laps):
            if self._laps_left == 0:
                self._run, self._laps_left = self._task.run(self._starts.pop()), self._task.laps
            self._output = next(self._run)
            self._laps_left -= 1

    def _check(self) -> None:
        value = self._task.export(self._output)
        if not any(array.size for array in value.values()):
            raise InvalidTimingError("it returned nothing, so that a compiler may leave out what it computes")
        if self.value is None:
            self.value = value
        elif not same_value(self.value, value):
            raise RuntimeError("two runs of this case gave different values, so neither its value nor its time holds")

"""A case made of public backend functions, ready to run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Value = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Task:
    """One computation, cut into laps that can be timed one by one.

    Attributes:
        run: run(start()) begins the computation and yields after each lap, when every output of the lap is ready.
        export: The meaning of what `run` yielded last, in NumPy.
        laps: How many laps `run` has.
        steps: How many steps a lap has; times are given by the step.
        stages: Compile what `run` will call, and yield the name of each stage when it is done; their times are kept
            separately.
        start: Make what a run begins with and may use up, as a training's state, and wait until it is ready. It is
            called once for each run, outside the clock of all laps but the first: a step does not make the state.
        one_state: Whether `start` sets back the one state that there is. Otherwise it is called for all runs of a
            sample before the first of them, so that they are timed as one.
        varies_by_process: Whether the time is known to be another in another process, by more than its rounds show.
    """

    run: Callable[[Any], Iterator[Any]]
    export: Callable[[Any], Value]
    laps: int = 1
    steps: int = 1
    stages: Callable[[], Iterator[str]] = lambda: iter(())
    start: Callable[[], Any] = lambda: None
    one_state: bool = False
    varies_by_process: bool = False


class NotMeasured(Exception):  # noqa: N818 - an outcome that is recorded, not an error of the program
    """A case is not measured, for a reason that is no failure; the words say which."""

    status = "not measured"


class Skipped(NotMeasured):
    """What the case needs is not here: a package, a compiler."""

    status = "skipped"


class Refused(NotMeasured):
    """What a user gave cannot be run; the words say why, in one line."""

    status = "refused"


class TooLarge(NotMeasured):
    """The case would take more memory than is at hand; the words give the estimate."""

    status = "too large"


def single(compute: Callable[[], Any], export: Callable[[Any], Value], steps: int = 1) -> Task:
    """Return the task of one lap that calls `compute`, which must block until its output is ready."""

    def run(_: Any) -> Iterator[Any]:
        yield compute()

    return Task(run, export, laps=1, steps=steps)


def same_value(first: Value, second: Value) -> bool:
    """Say whether two values are equal to the last bit; NaN equals NaN."""
    return all(np.array_equal(first[name], second[name], equal_nan=True) for name in first)

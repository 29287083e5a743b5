"""How: a case made of public wing functions, ready to run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Value = Mapping[str, npt.NDArray[Any]]


class Skipped(Exception):  # noqa: N818 - an outcome that is recorded, not an error of the program
    """A case cannot be measured here, and need not be (an optional library is not installed); the words say why."""


@dataclass(frozen=True)
class Task:
    """One computation, cut into laps that can be timed one by one.

    Attributes:
        run: Start the computation and yield after each lap, when every output of the lap is ready.
        export: The meaning of what `run` yielded last, in NumPy.
        laps: How many laps `run` has.
        steps: How many steps a lap has; times are given by the step.
    """

    run: Callable[[], Iterator[Any]]
    export: Callable[[Any], Value]
    laps: int = 1
    steps: int = 1


def single(compute: Callable[[], Any], export: Callable[[Any], Value], steps: int = 1) -> Task:
    """Return the task of one lap that calls `compute`, which must block until its output is ready."""

    def run() -> Iterator[Any]:
        yield compute()

    return Task(run, export, laps=1, steps=steps)


def same_value(first: Value, second: Value) -> bool:
    """Say whether two values are equal to the last bit; NaN equals NaN."""
    return all(np.array_equal(first[name], second[name], equal_nan=True) for name in first)

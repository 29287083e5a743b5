"""What watches a run between its steps: a user's callback, and a clock."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from torch_reference.newton.result import Status

__all__ = ["Progress", "Watch"]


class Progress(NamedTuple):
    """What a callback is given after a step: x is a tree like the start, gradient_norm the largest absolute entry."""

    iteration: int
    x: Any
    value: float
    gradient_norm: float


class Watch:
    """A callback and a time limit, each of which can end a run.

    Args:
        callback: callback(progress) is called after each step. It stops the run by returning True or by raising
            StopIteration.
        max_seconds: The run stops after the first step that ends later than this.

    Raises:
        TypeError, ValueError: They are something else.
    """

    def __init__(self, callback: Callable[[Progress], Any] | None, max_seconds: float | None) -> None:
        if callback is not None and not callable(callback):
            raise TypeError(f"callback {callback!r} is no function of a Progress")
        if max_seconds is not None and (
            isinstance(max_seconds, bool) or not (isinstance(max_seconds, Real) and 0 < float(max_seconds) < math.inf)
        ):
            raise ValueError(f"max_seconds {max_seconds!r} is not a positive and finite number")
        self._callback, self._limit = callback, math.inf if max_seconds is None else float(max_seconds)
        self._began = time.monotonic()

    def after(self, progress: Progress, status: Status) -> Status:
        """Return the status after a step."""
        asked = self._callback is not None and _asks(self._callback, progress)
        if status != Status.RUNNING:
            return status
        late = time.monotonic() - self._began >= self._limit
        return Status.STOPPED if asked else Status.TIME if late else status

    def rest(self, iterations: int) -> dict[str, Any]:
        """Return the options of a run that goes on after so many iterations."""
        callback, left = self._callback, self._limit - (time.monotonic() - self._began)
        return {
            "callback": callback and (lambda p: callback(p._replace(iteration=p.iteration + iterations))),
            "max_seconds": None if left == math.inf else max(left, 1e-9),
        }


def _asks(callback: Callable[[Progress], Any], progress: Progress) -> bool:
    """Call it; say whether it asks for the end. A list, say, is no answer."""
    try:
        answer = callback(progress)
    except StopIteration:
        return True
    answer = answer.tolist() if isinstance(answer, Tensor) else answer
    return isinstance(answer, bool | np.bool_) and bool(answer)

"""What watches a run between its steps: a user's callback, and a clock."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from jaxopt_study.backends.jax.newton.result import Status

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
        self._began = self._last = time.monotonic()
        self.steps = 1

    @property
    def idle(self) -> bool:
        """Whether there is nothing to watch."""
        return self._callback is None and self._limit == math.inf

    def check_values(self) -> None:
        """Check that there is nothing to watch, where a run has no values yet.

        Raises:
            TypeError: There is.
        """
        if not self.idle:
            name = "max_seconds" if self._callback is None else "callback"
            raise TypeError(f"{name} needs values, which jax.jit and jax.vmap do not have: call minimize outside them")

    def after(self, progress: Progress, status: Status) -> Status:
        """Return the status after some steps; `steps` is then how many the next piece has."""
        asked = self._callback is not None and _asks(self._callback, progress)
        now = time.monotonic()
        took, left = now - self._last, self._limit - (now - self._began)
        self._last = now
        if status != Status.RUNNING:
            return status
        if self._callback is None:  # a piece takes at most a quarter of the time that is left
            self.steps = max(1, int(self.steps * min(2.0, left / (4 * max(took, 1e-9)))))
        return Status.STOPPED if asked else Status.TIME if left <= 0 else status

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
    return answer is not None and np.shape(answer) == () and np.asarray(answer).dtype == bool and bool(answer)

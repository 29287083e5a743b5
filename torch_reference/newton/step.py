"""What an algorithm is to the driver, and how a direction and a line search make one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from torch_reference.newton.line_search import LINE_SEARCHES, Found, Line, search
from torch_reference.newton.problem import Point, Problem, Vector
from torch_reference.newton.result import Counts, Status

__all__ = ["Direction", "Method", "Step", "along"]


class Step(NamedTuple):
    """What one iteration comes to.

    Attributes:
        memory: What the algorithm itself needs next.
        decrement: Twice the decrease that the model promised.
        convex: Whether the Hessian was seen to be positive definite: no saddle is near.
        whole: Whether the model's own minimum was promised, not one held back by damping or a radius: half the
            decrement is then an estimate of the value above the minimum.
        status: RUNNING, or why no further step can be made.
    """

    point: Point
    memory: Any
    counts: Counts
    decrement: float
    convex: bool
    whole: bool
    status: Status


class Method(NamedTuple):
    """An algorithm: init(point) is its memory, step(point, memory) one iteration."""

    init: Callable[[Point], Any]
    step: Callable[[Point, Any], Step]


class Direction(NamedTuple):
    """A descent direction; the rest as in `Step`."""

    vector: Vector
    memory: Any
    counts: Counts
    convex: bool
    whole: bool
    status: Status


def along(
    problem: Problem,
    line_search: str,
    direction: Callable[[Point, Any], Direction],
    after: Callable[[Any, Found], Any],
) -> Callable[[Point, Any], Step]:
    """Return the step that follows a direction as far as the line search allows.

    Args:
        problem: The objective.
        line_search: A name of `LINE_SEARCHES`.
        direction: direction(point, memory), a descent direction.
        after: after(memory, found) is the memory once the line search has spoken: (memory, whether to try again).
    """

    def step(point: Point, memory: Any) -> Step:
        d = direction(point, memory)
        slope = min((point.gradient @ d.vector).item(), 0.0)
        if d.status != Status.RUNNING:
            return Step(point, d.memory, d.counts, -slope, d.convex, d.whole, d.status)
        found = search(problem, Line(point, d.vector, slope, 0.0), LINE_SEARCHES[line_search])
        memory, again = after(d.memory, found)
        stuck = Status.FLOOR if at_floor(point, -slope) else Status.RUNNING if again else Status.STALLED
        return Step(
            point=found.point if found.ok else point,
            memory=memory,
            counts=d.counts.plus(Counts(found.trials, found.trials)),
            decrement=-slope,
            convex=d.convex,
            whole=d.whole,
            status=Status.RUNNING if found.ok else stuck,
        )

    return step


def at_floor(point: Point, decrement: float) -> bool:
    """Whether the decrease that is promised is below what the objective's last digits can show."""
    return decrement / 2 <= 100 * torch.finfo(point.x.dtype).eps * abs(point.value)

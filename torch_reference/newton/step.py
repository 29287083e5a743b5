"""The interface between an algorithm and the driver, and the step along a direction by a line search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from torch_reference.newton.line_search import LINE_SEARCHES, Found, Line, search
from torch_reference.newton.problem import Point, Problem, Vector
from torch_reference.newton.result import Counts, Status

__all__ = ["Direction", "Method", "Step", "along"]


class Step(NamedTuple):
    """The outcome of one iteration.

    Attributes:
        memory: The algorithm's own state.
        decrement: Twice the decrease that the model predicted.
        convex: Whether the Hessian was found positive definite; if not, the point may be a saddle.
        whole: Whether neither damping nor a radius shortened the step. Half the decrement is then an estimate of how
            far the value is above the minimum.
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
    """An algorithm: init(point) returns its memory, step(point, memory) makes one iteration."""

    init: Callable[[Point], Any]
    step: Callable[[Point, Any], Step]


class Direction(NamedTuple):
    """A descent direction; the rest as in `Step`.

    Attributes:
        sure: Whether no step can be expected to lower the objective by much more than this one.
    """

    vector: Vector
    memory: Any
    counts: Counts
    convex: bool
    whole: bool
    status: Status
    sure: bool = False


def along(
    problem: Problem,
    line_search: str,
    direction: Callable[[Point, Any], Direction],
    after: Callable[[Any, Found], Any],
) -> Callable[[Point, Any], Step]:
    """Return the step along a direction, whose length a line search chooses.

    Args:
        problem: The objective.
        line_search: A name of `LINE_SEARCHES`.
        direction: direction(point, memory), a descent direction.
        after: after(memory, found) returns the memory after the line search, and whether to try again.
    """

    def step(point: Point, memory: Any) -> Step:
        d = direction(point, memory)
        slope = min((point.gradient @ d.vector).item(), 0.0)
        if d.status != Status.RUNNING:
            return Step(point, d.memory, d.counts, -slope, d.convex, d.whole, d.status)
        found = search(problem, Line(point, d.vector, slope, 0.0), LINE_SEARCHES[line_search])
        memory, again = after(d.memory, found)
        rounding = d.sure and at_rounding_level(point, -slope)
        stuck = Status.ROUNDING if rounding else Status.RUNNING if again else Status.STALLED
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


def at_rounding_level(point: Point, decrement: float) -> bool:
    """Whether the predicted decrease is too small for the objective's last digits to show."""
    return decrement / 2 <= 100 * torch.finfo(point.x.dtype).eps * abs(point.value)

"""Newton's method with the Hessian itself, damped where it is not positive definite."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from torch_reference.newton.line_search import Found
from torch_reference.newton.options import Options
from torch_reference.newton.problem import Point, Problem, Vector, all_finite, symmetric
from torch_reference.newton.result import Counts, Status
from torch_reference.newton.step import Direction, Method, along

__all__ = ["exact"]

GROWTH = 10.0
MOST = 1e12
"""The damping is relative to the Hessian's diagonal. With this much, a step is a very short gradient step."""


class Solved(NamedTuple):
    """A solution of the damped Newton equations."""

    damping: float
    direction: Vector
    ok: bool


def exact(problem: Problem, options: Options) -> Method:
    """Make Newton's method.

        (H + damping |diag H|) d = -g
        x <- x + length d

    The damping is 0 as long as H is positive definite and its steps succeed. Otherwise it grows tenfold from sqrt(eps)
    until they do, and shrinks afterwards (Levenberg; Nocedal and Wright, Numerical Optimization, algorithm 3.3).
    """

    def init(point: Point) -> float:
        del point
        return 0.0

    def direction(point: Point, damping: float) -> Direction:
        built = problem.system.build(None, point.x)
        finite = all_finite(built)
        solved = _damped(problem, built, point.gradient, damping if finite else MOST)
        status = Status.RUNNING if solved.ok else Status.STALLED if finite else Status.HESSIAN
        if callable(options.hessian) and finite and not symmetric(built):
            status = Status.ASYMMETRIC
        whole, sure = solved.damping == 0, solved.damping <= _least(point.x)
        return Direction(solved.direction, solved.damping, Counts(hessian=1), whole, whole, status, sure)

    def after(damping: float, found: Found) -> tuple[float, bool]:
        """Damp more after a failure, less after a success."""
        least = _least(found.point.x)
        less = 0.0 if damping / GROWTH < least else damping / GROWTH
        return (less if found.ok else max(GROWTH * damping, least)), damping < MOST

    return Method(init, along(problem, options.line_search, direction, after))


def _damped(problem: Problem, built: Any, gradient: Vector, damping: float) -> Solved:
    """Solve with the least damping, from `damping` upwards, that makes the matrix positive definite."""
    while True:
        direction, ok = problem.system.solve(built, gradient, damping)
        ok = ok and bool(torch.isfinite(direction).all()) and (gradient @ direction).item() <= 0
        if ok or damping >= MOST:
            return Solved(damping, direction, ok)
        damping = max(GROWTH * damping, _least(gradient))


def _least(vector: Vector) -> float:
    return torch.finfo(vector.dtype).eps ** 0.5

"""L-BFGS: an approximation of the inverse Hessian from the last steps, by first derivatives alone."""

from __future__ import annotations

from typing import NamedTuple

import torch

from torch_reference.newton.line_search import Found
from torch_reference.newton.options import Options
from torch_reference.newton.problem import Point, Problem, Vector
from torch_reference.newton.result import Counts, Status
from torch_reference.newton.step import Direction, Method, along

__all__ = ["lbfgs"]

PAIRS = 300
"""On half of CUTEst's problems, 100 pairs take 1.01 times as many gradients as all, and 40 pairs 1.15 times."""
NUMBERS = 1_000_000
"""Of a million variables or more, ten pairs are remembered; in between, so many that this is what a row of them has."""
SPANNED = 100
"""The most variables for which the space that the steps span is kept."""
NEW = 1e-6
"""A step leads out of the space of the others if this part of it does, relative to its length."""
SHOWN = 1e-8
"""A change of the objective, relative to it, that rounding leaves enough digits of."""


class Memory(NamedTuple):
    """The last steps s and the changes y of the gradient along them, the newest first.

    Attributes:
        point: Where the step that is being made starts.
        scale: The inverse Hessian is this times the identity before the pairs correct it: s'y / y'y of the last pair,
            and without pairs what makes the step of length 1. A step as long as the point can lead so far that an
            exponential function underflows and all gradients vanish.
        seen: Orthonormal rows that span the steps along which the gradient grew; none where there are more than 100
            variables.
    """

    point: Point
    scale: float
    pairs: tuple[tuple[Vector, Vector], ...]
    seen: tuple[Vector, ...]


def lbfgs(problem: Problem, options: Options) -> Method:
    """Make L-BFGS with a strong Wolfe line search (Liu and Nocedal, 1989).

    The last 300 pairs are remembered, with more than 3,333 variables fewer. The changes y are corrected by the
    objective's values, so that they hold the curvature at the end of the step to a higher order (Zhang, Deng and Chen,
    1999). Where a search fails, the pairs and their scale are forgotten, and the next direction is minus the gradient.
    If that fails too, the run ends. The Hessian counts as positive definite if the gradient grew along steps that span
    the whole space.
    """
    del options

    def init(point: Point) -> Memory:
        return Memory(point, _scale(point), (), ())

    def direction(point: Point, memory: Memory) -> Direction:
        vector, convex = -_inverse_times(memory, point.gradient), len(memory.seen) == len(point.x)
        return Direction(vector, memory._replace(point=point), Counts(), convex, False, Status.RUNNING)

    def after(memory: Memory, found: Found) -> tuple[Memory, bool]:
        """Remember the step if the gradient grew along it; after a failure forget all, and try again."""
        if not found.ok:
            return memory._replace(scale=_scale(memory.point), pairs=()), bool(memory.pairs)
        s, y = found.point.x - memory.point.x, found.point.gradient - memory.point.gradient
        lengths = (torch.linalg.vector_norm(s) * torch.linalg.vector_norm(y)).item()
        if (s @ y).item() > torch.finfo(s.dtype).eps * lengths:
            pair, most = (s, _corrected(memory.point, found, s, y)), max(10, min(PAIRS, NUMBERS // len(s)))
            pairs, scale = (pair, *memory.pairs)[:most], ((s @ y) / (y @ y)).item()
            memory = Memory(memory.point, scale, pairs, _with(memory.seen, s))
        return memory, False

    return Method(init, along(problem, "strong_wolfe", direction, after))


def _scale(point: Point) -> float:
    slope = torch.linalg.vector_norm(point.gradient).item()
    return 1 / slope if slope else 1.0


def _corrected(start: Point, found: Found, s: Vector, y: Vector) -> Vector:
    """Return y + (6 (f0 - f1) + 3 (g0 + g1)'s) / s's s, or y where that is not sure to be positive along s."""
    end, along_s = found.point, (s @ y).item()
    extra = 6 * (start.value - end.value) + 3 * ((start.gradient + end.gradient) @ s).item()
    shown = abs(start.value - end.value) > SHOWN * abs(start.value)
    return y + extra / (s @ s) * s if shown and along_s + extra > along_s / 10 else y


def _with(seen: tuple[Vector, ...], s: Vector) -> tuple[Vector, ...]:
    """Return the orthonormal rows with one more if the step leads out of their space."""
    if len(s) > SPANNED or len(seen) == len(s):
        return seen
    unit = s / torch.linalg.vector_norm(s)
    for row in seen:
        unit = unit - (row @ unit) * row
    size = torch.linalg.vector_norm(unit).item()
    return (*seen, unit / size) if size > NEW else seen


def _inverse_times(memory: Memory, gradient: Vector) -> Vector:
    """Return the approximate inverse Hessian times the gradient.

    The two loops are Nocedal and Wright's, Numerical Optimization, algorithm 7.4.
    """
    q, parts = gradient, []
    for s, y in memory.pairs:
        part = (s @ q) / (s @ y)
        q = q - part * y
        parts.append(part)
    r = memory.scale * q
    for (s, y), part in zip(reversed(memory.pairs), reversed(parts), strict=True):
        r = r + (part - (y @ r) / (s @ y)) * s
    return r

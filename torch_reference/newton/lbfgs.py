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

PAIRS = 10


class Memory(NamedTuple):
    """The last steps s and the changes y of the gradient along them, the newest first.

    Attributes:
        point: Where the step that is being made starts.
        scale: The inverse Hessian is this times the identity before the pairs correct it: s'y / y'y of the last pair,
            and without pairs what makes the step of length 1. A step as long as the point can lead so far that an
            exponential function underflows and all gradients vanish.
    """

    point: Point
    scale: float
    pairs: tuple[tuple[Vector, Vector], ...]


def lbfgs(problem: Problem, options: Options) -> Method:
    """Make L-BFGS with a strong Wolfe line search (Liu and Nocedal, 1989); ten pairs are remembered.

    Where a search fails, the pairs and their scale are forgotten, and the next direction is minus the gradient. If that
    fails too, the run ends.
    """
    del options

    def init(point: Point) -> Memory:
        slope = torch.linalg.vector_norm(point.gradient).item()
        return Memory(point, 1 / slope if slope else 1.0, ())

    def direction(point: Point, memory: Memory) -> Direction:
        vector = -_inverse_times(memory, point.gradient)
        return Direction(vector, memory._replace(point=point), Counts(), False, False, Status.RUNNING)

    def after(memory: Memory, found: Found) -> tuple[Memory, bool]:
        """Remember the step if the gradient grew along it; after a failure forget all, and try again."""
        if not found.ok:
            return init(memory.point), bool(memory.pairs)
        s, y = found.point.x - memory.point.x, found.point.gradient - memory.point.gradient
        lengths = (torch.linalg.vector_norm(s) * torch.linalg.vector_norm(y)).item()
        if (s @ y).item() > torch.finfo(s.dtype).eps * lengths:
            memory = Memory(memory.point, ((s @ y) / (y @ y)).item(), ((s, y), *memory.pairs)[:PAIRS])
        return memory, False

    return Method(init, along(problem, "strong_wolfe", direction, after))


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

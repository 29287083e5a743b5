"""The subproblem of a trust region: the least value of a quadratic model in a ball, by Cholesky factorizations."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from torch_reference.newton.problem import Matrix, Vector, factorized

__all__ = ["Solution", "least_in_ball"]

EASY = 0.1
"""A step may be this much shorter or longer than the radius, relative to it."""
HARD = 0.2
"""How much more than its least value the model may be in the hard case, relative to its decrease."""
FACTORIZATIONS = 60


class Solution(NamedTuple):
    """A step, and the shift with which (H + shift I) step = -g; in the hard case a null vector is added to it."""

    vector: Vector
    shift: float
    edge: bool


def least_in_ball(matrix: Matrix, gradient: Vector, radius: float, newton: Vector, convex: bool) -> Solution:
    """Return the step of length <= radius with the least g's + s'Hs / 2.

    The shift is the root of 1/radius - 1/|s(shift)|, found by Newton's method between bounds (More and Sorensen, 1983;
    Conn, Gould and Toint, Trust-Region Methods, algorithm 7.3.4).

    Args:
        matrix: H.
        gradient: The vector g.
        radius: Of the ball.
        newton: The solution of H s = -g, if H is positive definite.
        convex: Whether it is.
    """
    if convex and (whole := _norm(newton)) <= radius * (1 + EASY):
        return Solution(newton, 0.0, whole >= radius * (1 - EASY))
    eye, slope = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device), _norm(gradient)
    bound = matrix.abs().sum(dim=1).max().item()
    tiny = torch.finfo(matrix.dtype).eps ** 0.5 * (bound or 1.0)
    low = max(0.0, -torch.diagonal(matrix).min().item(), slope / radius - bound)
    high = slope / radius + bound + tiny
    null = torch.cos(torch.arange(len(matrix), dtype=matrix.dtype, device=matrix.device))
    step, shift = torch.zeros_like(gradient), low if convex else max(low, tiny)
    for _ in range(FACTORIZATIONS):
        factor, ok = factorized(matrix + shift * eye)
        further = math.nan
        if ok:
            both = torch.cholesky_solve(torch.stack([-gradient, null], dim=1), factor)
            vector, null = both[:, 0], both[:, 1] / torch.linalg.vector_norm(both[:, 1])
            step, size = vector, _norm(vector)
            half = torch.linalg.solve_triangular(factor, vector[:, None], upper=False)
            squared = (half**2).sum().item()  # a gradient so small that its square is 0 leaves the bounds to go by
            further = shift + (size - radius) / radius * size**2 / squared if squared else math.nan
            bent = (null @ (matrix @ null)).item()
            if abs(size - radius) <= EASY * radius:
                return Solution(vector, shift, True)
        if ok and size < radius:
            # The hard case: no shift fills the ball, and along the null vector the model falls on.
            middle, room = (vector @ null).item(), radius**2 - size**2
            below = middle + math.copysign(math.sqrt(middle**2 + room), middle)
            reach = room / below if below else math.nan
            model = (vector @ (matrix @ vector)).item() + shift * (size**2 + radius**2)
            if reach**2 * (bent + shift) <= HARD * model and bent < -tiny * EASY:
                return Solution(vector + reach * null, shift, True)
            if shift <= tiny:
                return Solution(vector, shift, False)
            low, high = max(low, -bent), shift
        else:
            low = max(low, shift)
        safe = max(math.sqrt(low * high), low + 0.01 * (high - low))
        shift = further if low < further < high else safe
    return Solution(step, shift, True)


def _norm(vector: Vector) -> float:
    return torch.linalg.vector_norm(vector).item()

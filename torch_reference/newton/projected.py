"""The subproblem of a trust region within bounds: a projected gradient step, then conjugate gradients on faces."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch

from torch_reference.newton.bounds import Box, on_face
from torch_reference.newton.conjugate import conjugate_gradients, to_edge
from torch_reference.newton.problem import Vector

__all__ = ["Projected", "least_in_box"]

ENOUGH = 0.01
"""The part of the decrease along the slope that a projected step must keep."""
SHORTEST, LONGEST = 0.1, 0.5
"""A step that is too long is shortened by a factor between them."""
TRIALS = 40
FULL = 0.9
"""A step this long, in units of the radius, is one that the radius shortened."""


class Projected(NamedTuple):
    """A point of the box where the quadratic model is lower.

    Attributes:
        product: H s of the step s to it.
        edge: Whether the radius shortened the step.
        finite: Whether all products that were needed are finite.
    """

    end: Vector
    product: Vector
    edge: bool
    products: int
    finite: bool


class _Arc(NamedTuple):
    """The end of a projected step, and H s of the step s to it."""

    end: Vector
    product: Vector
    ok: bool
    trials: int


def least_in_box(
    product: Callable[[Vector], Vector], x: Vector, gradient: Vector, box: Box, radius: float, tolerance: float
) -> Projected:
    """Lower g's + s'Hs / 2 over the steps s within the box and about the radius (Lin and More, 1999: TRON).

    A step along the projected gradient comes first. Then, on the face of the variables that no bound holds, conjugate
    gradients say where to go, and the way there is projected, so that several variables can come to their bounds at
    once; again until the model's slope on the face is within the tolerance, or the radius is reached.

    Args:
        product: v -> H v.
        x: The point, in the box.
        gradient: The vector g.
        box: The bounds.
        radius: Of each part of the step.
        tolerance: Of the norm of the model's gradient on the face.
    """
    movable = box.slope(x, gradient) != 0
    size = _norm(torch.where(movable, gradient, 0.0))
    first = radius / size if size > 0 else 1.0  # where a saddle was left, the gradient may be 0
    end, bent, _, products = _along(product, x, torch.zeros_like(x), -gradient, gradient, box, first)
    edge, finite = _norm(end - x) > FULL * radius, bool(torch.isfinite(bent).all())
    if edge or not finite:
        return Projected(end, bent, edge, products, finite)
    for _ in range(len(x)):
        face = box.free(end)
        slope = torch.where(face, gradient + bent, 0.0)
        if not _norm(slope) > tolerance:
            break
        c = conjugate_gradients(on_face(product, face), slope, tolerance, 2 * len(x), radius)
        crossed = c.negative or c.crossed
        way = c.solution + to_edge(c.solution, c.direction, radius) * c.direction if crossed else c.solution
        arc = _along(product, end, bent, way, slope, box, 1.0)
        products, edge, finite = products + c.products + arc.trials, edge or crossed, math.isfinite(c.curvature)
        if arc.ok:
            end, bent = arc.end, arc.product
        if crossed or not arc.ok:
            break
    return Projected(end, bent, edge, products, finite)


def _along(
    product: Callable[[Vector], Vector], begin: Vector, before: Vector, way: Vector, slope: Vector, box: Box,
    length: float,
) -> _Arc:  # fmt: skip
    """Shorten a projected step until it keeps a part of the decrease that its slope promises.

    Args:
        product: v -> H v.
        begin: Where the step begins.
        before: H s of the step s to there.
        way: The direction.
        slope: The model's gradient there, 0 where a variable is held.
        box: The bounds.
        length: The first length.
    """
    for trials in range(1, TRIALS + 1):
        end = box.project(begin + length * way)
        step = end - begin
        bent = product(step)
        down, curvature = (slope @ step).item(), (step @ bent).item()
        ok = down + curvature / 2 <= ENOUGH * min(down, 0.0)
        if ok or trials == TRIALS:
            return _Arc(end, before + bent, ok, trials)
        length *= min(max(-down / curvature, SHORTEST), LONGEST) if curvature > 0 else SHORTEST
    raise AssertionError("the loop returns")


def _norm(vector: Vector) -> float:
    return torch.linalg.vector_norm(vector).item()

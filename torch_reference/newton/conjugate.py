"""Newton-CG, and the conjugate gradients that the trust region and the escape from a saddle use too."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch

from torch_reference.newton.line_search import Found
from torch_reference.newton.options import Options
from torch_reference.newton.problem import Point, Problem, Vector
from torch_reference.newton.result import Counts, Status
from torch_reference.newton.step import Direction, Method, along

__all__ = ["Conjugate", "accurate", "conjugate_gradients", "forcing", "newton_cg", "to_edge"]


class Conjugate(NamedTuple):
    """Where conjugate gradients ended.

    Attributes:
        solution: The approximate solution.
        residual: gradient + H solution.
        direction: The last conjugate direction; no step was made along it if `negative` or `crossed`.
        negative: Whether the curvature along `direction` is not positive.
        crossed: Whether the step along it would have left the trust region.
        curvature: The curvature along it, p' H p / p' p.
        largest: The largest absolute curvature so far.
        products: Hessian-vector products made.
    """

    solution: Vector
    residual: Vector
    direction: Vector
    negative: bool
    crossed: bool
    curvature: float
    largest: float
    products: int


def conjugate_gradients(
    product: Callable[[Vector], Vector], gradient: Vector, tolerance: float, limit: int, radius: float
) -> Conjugate:
    """Solve H s = -gradient until |residual| <= tolerance, the curvature is <= 0, |s| > radius, or `limit` products.

    Steihaug (1983); Nocedal and Wright, Numerical Optimization, algorithms 7.1 and 7.2.
    """
    eps = torch.finfo(gradient.dtype).eps
    solution, residual, p = torch.zeros_like(gradient), gradient, -gradient
    curvature = largest = 0.0
    for products in range(limit + 1):
        if torch.linalg.vector_norm(residual).item() <= tolerance or products == limit:
            return Conjugate(solution, residual, p, False, False, curvature, largest, products)
        bent = product(p)
        squared = (p @ p).item()
        curvature = (p @ bent).item() / squared
        largest = max(largest, abs(curvature))
        if not curvature > eps * largest:
            return Conjugate(solution, residual, p, True, False, curvature, largest, products + 1)
        length = (residual @ residual).item() / (curvature * squared)
        further = solution + length * p
        if torch.linalg.vector_norm(further).item() > radius:
            return Conjugate(solution, residual, p, False, True, curvature, largest, products + 1)
        next_residual = residual + length * bent
        p = -next_residual + ((next_residual @ next_residual) / (residual @ residual)).item() * p
        solution, residual = further, next_residual
    raise AssertionError("the loop returns")


def to_edge(inside: Vector, direction: Vector, radius: float) -> float:
    """Return the t > 0 with |inside + t direction| = radius."""
    a, b = (direction @ direction).item(), (inside @ direction).item()
    c = (inside @ inside).item() - radius**2
    return (-b + math.sqrt(max(b**2 - a * c, 0.0))) / a


def forcing(gradient: Vector) -> float:
    """Return the residual's bound, min(1/2, sqrt|g|) |g|: convergence is superlinear (Dembo and Steihaug, 1983)."""
    norm = torch.linalg.vector_norm(gradient).item()
    return min(0.5, math.sqrt(norm)) * norm


def accurate(gradient: Vector) -> float:
    """Return the residual's bound after a failure; even then a direction of little curvature may be left out."""
    return torch.finfo(gradient.dtype).eps ** 0.5 * torch.linalg.vector_norm(gradient).item()


def newton_cg(problem: Problem, options: Options) -> Method:
    """Make Newton-CG: d solves H d = -g by conjugate gradients, to the accuracy of `forcing`; then a line search.

    Where the curvature is not positive, the direction is the solution so far, or -g / |curvature along g| if there is
    none yet (Nocedal and Wright, Numerical Optimization, algorithm 7.1, and SciPy for the length).
    After a search that failed, the equations are solved more accurately.
    """

    def direction(point: Point, failed: bool) -> Direction:
        g = point.gradient
        bound = accurate(g) if failed else forcing(g)
        c = conjugate_gradients(problem.products(point.x), g, bound, 2 * len(g), math.inf)
        # Without a solution, the curvature along -g says how long a step is; at most ten times the point's length.
        most = 10 * max(1.0, torch.linalg.vector_norm(point.x).item()) / torch.linalg.vector_norm(g).item()
        length = min(most, 1 / (abs(c.curvature) or 1 / most))
        vector = c.solution if bool(c.solution.any()) else -length * g
        status = Status.RUNNING if math.isfinite(c.curvature) else Status.HESSIAN
        return Direction(vector, failed, Counts(hvp=c.products), False, not c.negative, status)

    def after(failed: bool, found: Found) -> tuple[bool, bool]:
        return not found.ok, not failed

    return Method(lambda _: False, along(problem, options.line_search, direction, after))

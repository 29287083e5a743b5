"""Newton-CG, and the conjugate gradients that the trust region and the escape from a saddle use too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxopt_study.backends.jax.newton.line_search import Found
from jaxopt_study.backends.jax.newton.options import Options
from jaxopt_study.backends.jax.newton.problem import Point, Problem, Vector
from jaxopt_study.backends.jax.newton.result import Status
from jaxopt_study.backends.jax.newton.step import Direction, Method, along, tally

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
    negative: Bool[Array, ""]
    crossed: Bool[Array, ""]
    curvature: Float[Array, ""]
    largest: Float[Array, ""]
    products: Int[Array, ""]


def conjugate_gradients(
    product: Callable[[Vector], Vector], gradient: Vector, tolerance: Array, limit: Any, radius: Array
) -> Conjugate:
    """Solve H s = -gradient until |residual| <= tolerance, the curvature is <= 0, |s| > radius, or `limit` products.

    Steihaug (1983); Nocedal and Wright, Numerical Optimization, algorithms 7.1 and 7.2.
    """
    eps = jnp.finfo(gradient.dtype).eps

    def unsettled(c: Conjugate) -> Array:
        open_end = jnp.linalg.norm(c.residual) > tolerance
        return open_end & ~c.negative & ~c.crossed & (c.products < limit)

    def go_on(c: Conjugate) -> Conjugate:
        p = c.direction
        bent = product(p)
        squared = p @ p
        curvature = p @ bent / squared
        largest = jnp.maximum(c.largest, jnp.abs(curvature))
        negative = ~(curvature > eps * largest)
        length = (c.residual @ c.residual) / (curvature * squared)
        further = c.solution + length * p
        crossed = ~negative & (jnp.linalg.norm(further) > radius)
        residual = c.residual + length * bent
        turned = -residual + (residual @ residual) / (c.residual @ c.residual) * p
        made = ~negative & ~crossed
        return Conjugate(
            jnp.where(made, further, c.solution),
            jnp.where(made, residual, c.residual),
            jnp.where(made, turned, p),
            negative,
            crossed,
            curvature,
            largest,
            c.products + 1,
        )

    zero, no = jnp.zeros_like(tolerance), jnp.array(False)
    begun = Conjugate(jnp.zeros_like(gradient), gradient, -gradient, no, no, zero, zero, jnp.array(0, jnp.int32))
    return jax.lax.while_loop(unsettled, go_on, begun)


def to_edge(inside: Vector, direction: Vector, radius: Array) -> Array:
    """Return the t > 0 with |inside + t direction| = radius."""
    a, b, c = direction @ direction, inside @ direction, inside @ inside - radius**2
    return (-b + jnp.sqrt(jnp.maximum(b**2 - a * c, 0))) / a


def forcing(gradient: Vector) -> Array:
    """Return the residual's bound, min(1/2, sqrt|g|) |g|: convergence is superlinear (Dembo and Steihaug, 1983)."""
    norm = jnp.linalg.norm(gradient)
    return jnp.minimum(0.5, jnp.sqrt(norm)) * norm


def accurate(gradient: Vector) -> Array:
    """Return the residual's bound after a failure; even then a direction of little curvature may be left out."""
    return jnp.sqrt(jnp.finfo(gradient.dtype).eps) * jnp.linalg.norm(gradient)


def newton_cg(problem: Problem, options: Options) -> Method:
    """Make Newton-CG: d solves H d = -g by conjugate gradients, to the accuracy of `forcing`; then a line search.

    Where the curvature is not positive, the direction is the solution so far, or -g / |curvature along g| if there is
    none yet (Nocedal and Wright, Numerical Optimization, algorithm 7.1, and SciPy for the length).
    After a search that failed, the equations are solved more accurately.
    """

    def direction(point: Point, failed: Array) -> Direction:
        g = point.gradient
        bound = jnp.where(failed, accurate(g), forcing(g))
        c = conjugate_gradients(problem.products(point.x), g, bound, 2 * g.size, jnp.full_like(point.value, jnp.inf))
        # Without a solution, the curvature along -g says how long a step is; at most ten times the point's length.
        most = 10 * jnp.maximum(1, jnp.linalg.norm(point.x)) / jnp.linalg.norm(g)
        bent = jnp.abs(c.curvature)
        length = jnp.minimum(most, 1 / jnp.where(bent > 0, bent, 1 / most))
        vector = jnp.where(jnp.all(c.solution == 0), -length * g, c.solution)
        status = jnp.where(jnp.isfinite(c.curvature), Status.RUNNING, Status.HESSIAN)
        no, counts = jnp.array(False), tally(hvp=c.products)
        return Direction(vector, g @ vector, failed, counts, no, ~c.negative, status)

    def after(failed: Array, found: Found) -> tuple[Array, Array]:
        return ~found.ok, ~failed

    return Method(lambda _: jnp.array(False), along(problem, options.line_search, direction, after))

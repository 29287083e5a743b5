"""The subproblem of a trust region within bounds: a projected gradient step, then conjugate gradients on faces."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxopt_study.backends.jax.newton.bounds import Box, on_face
from jaxopt_study.backends.jax.newton.conjugate import conjugate_gradients, to_edge
from jaxopt_study.backends.jax.newton.problem import Vector

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
    edge: Bool[Array, ""]
    products: Int[Array, ""]
    rounds: Int[Array, ""]
    done: Bool[Array, ""]
    finite: Bool[Array, ""]


class _Arc(NamedTuple):
    """A length along a projected ray, and the model's change there."""

    length: Float[Array, ""]
    end: Vector
    product: Vector
    ok: Bool[Array, ""]
    trials: Int[Array, ""]


def least_in_box(
    product: Callable[[Vector], Vector], x: Vector, gradient: Vector, box: Box, radius: Array, tolerance: Array
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
    size = jnp.linalg.norm(jnp.where(movable, gradient, 0))
    first = jnp.where(size > 0, radius / size, 1)  # where a saddle was left, the gradient may be 0
    cauchy = _along(product, x, jnp.zeros_like(x), -gradient, gradient, box, first)

    def residual(p: Projected) -> Vector:
        return jnp.where(box.free(p.end), gradient + p.product, 0)

    def unsettled(p: Projected) -> Array:
        return ~p.done & (jnp.linalg.norm(residual(p)) > tolerance) & (p.rounds < x.size)

    def go_on(p: Projected) -> Projected:
        face, slope = box.free(p.end), residual(p)
        c = conjugate_gradients(on_face(product, face), slope, tolerance, 2 * x.size, radius)
        crossed = c.negative | c.crossed
        way = jnp.where(crossed, c.solution + to_edge(c.solution, c.direction, radius) * c.direction, c.solution)
        arc = _along(product, p.end, p.product, way, slope, box, jnp.ones_like(radius))
        return Projected(
            jnp.where(arc.ok, arc.end, p.end), jnp.where(arc.ok, arc.product, p.product), p.edge | crossed,
            p.products + c.products + arc.trials, p.rounds + 1, crossed | ~arc.ok,
            p.finite & jnp.isfinite(c.curvature),
        )  # fmt: skip

    long = jnp.linalg.norm(cauchy.end - x) > FULL * radius
    finite = jnp.isfinite(cauchy.product).all()
    zero = jnp.array(0, jnp.int32)
    begun = Projected(cauchy.end, cauchy.product, long, cauchy.trials, zero, long | ~finite, finite)
    return jax.lax.while_loop(unsettled, go_on, begun)


def _along(
    product: Callable[[Vector], Vector], begin: Vector, before: Vector, way: Vector, slope: Vector, box: Box,
    length: Array,
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

    def attempt(arc: _Arc) -> _Arc:
        end = box.project(begin + arc.length * way)
        step = end - begin
        bent = product(step)
        down, curvature = slope @ step, step @ bent
        ok = down + curvature / 2 <= ENOUGH * jnp.minimum(down, 0)
        factor = jnp.clip(-down / jnp.where(curvature > 0, curvature, jnp.inf), SHORTEST, LONGEST)
        return _Arc(jnp.where(ok, 1, factor) * arc.length, end, before + bent, ok, arc.trials + 1)

    begun = _Arc(length, begin, before, jnp.array(False), jnp.array(0, jnp.int32))
    return jax.lax.while_loop(lambda arc: ~arc.ok & (arc.trials < TRIALS), attempt, begun)

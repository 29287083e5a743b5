"""L-BFGS: an approximation of the inverse Hessian from the last steps, by first derivatives alone."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxopt_study.backends.jax.newton.line_search import Found
from jaxopt_study.backends.jax.newton.options import Options
from jaxopt_study.backends.jax.newton.problem import Point, Problem, Vector
from jaxopt_study.backends.jax.newton.result import Status
from jaxopt_study.backends.jax.newton.step import Direction, Method, along, tally

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
    """The last steps s and the changes y of the gradient along them, the newest first; rows not held are 0.

    Attributes:
        point: Where the step that is being made starts.
        scale: The inverse Hessian is this times the identity before the pairs correct it: s'y / y'y of the last pair,
            and without pairs what makes the step of length 1. A step as long as the point can lead so far that an
            exponential function underflows and all gradients vanish.
        held: The number of pairs.
        seen: Orthonormal rows that span the steps along which the gradient grew; those not reached are 0. Without rows
            where there are more variables than pairs.
    """

    point: Point
    scale: Float[Array, ""]
    steps: Float[Array, "pairs P"]
    changes: Float[Array, "pairs P"]
    held: Int[Array, ""]
    seen: Float[Array, "rows P"]


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
        size = point.x.size
        empty = jnp.zeros((max(10, min(PAIRS, NUMBERS // size)), size), point.x.dtype)
        seen = jnp.zeros((size if size <= SPANNED else 0, size), point.x.dtype)
        return Memory(point, 1 / jnp.linalg.norm(point.gradient), empty, empty, jnp.array(0, jnp.int32), seen)

    def direction(point: Point, memory: Memory) -> Direction:
        vector = -_inverse_times(memory, point.gradient)
        no, memory = jnp.array(False), memory._replace(point=point)
        convex = jnp.any(memory.seen[-1:] != 0)
        return Direction(vector, point.gradient @ vector, memory, tally(), convex, no, jnp.asarray(Status.RUNNING))

    def after(memory: Memory, found: Found) -> tuple[Memory, Bool[Array, ""]]:
        """Remember the step if the gradient grew along it; after a failure forget all, and try again."""
        s, y = found.point.x - memory.point.x, found.point.gradient - memory.point.gradient
        curved = found.ok & (s @ y > jnp.finfo(s.dtype).eps * jnp.linalg.norm(s) * jnp.linalg.norm(y))

        def updated(rows: Array, row: Vector) -> Array:
            kept = jnp.where(curved, jnp.concatenate([row[None], rows[:-1]]), rows)
            return jnp.where(found.ok, kept, 0)

        scale = jnp.where(curved, (s @ y) / jnp.where(curved, y @ y, 1), memory.scale)
        scale = jnp.where(found.ok, scale, 1 / jnp.linalg.norm(memory.point.gradient))
        held = jnp.where(found.ok, jnp.minimum(memory.held + curved, len(memory.steps)), 0)
        steps, changes = updated(memory.steps, s), updated(memory.changes, _corrected(memory.point, found, s, y))
        seen = jnp.where(curved, _with(memory.seen, s), memory.seen)
        return Memory(memory.point, scale, steps, changes, held, seen), memory.held > 0

    return Method(init, along(problem, "strong_wolfe", direction, after))


def _corrected(start: Point, found: Found, s: Vector, y: Vector) -> Vector:
    """Return y + (6 (f0 - f1) + 3 (g0 + g1)'s) / s's s, or y where that is not sure to be positive along s."""
    end, squared = found.point, s @ s
    extra = 6 * (start.value - end.value) + 3 * ((start.gradient + end.gradient) @ s)
    shown = jnp.abs(start.value - end.value) > SHOWN * jnp.abs(start.value)
    fits = shown & (s @ y + extra > s @ y / 10)
    return y + jnp.where(fits, extra / jnp.where(squared > 0, squared, 1), 0) * s


def _with(seen: Array, s: Vector) -> Array:
    """Return the orthonormal rows with one more if the step leads out of their space."""
    unit = s / jnp.linalg.norm(s)
    unit = unit - seen.T @ (seen @ unit)
    size = jnp.linalg.norm(unit)
    free = jnp.arange(len(seen)) == jnp.count_nonzero(jnp.any(seen != 0, axis=1))
    return jnp.where((free & (size > NEW))[:, None], unit / size, seen)


def _inverse_times(memory: Memory, gradient: Vector) -> Vector:
    """Return the approximate inverse Hessian times the gradient.

    The two loops are Nocedal and Wright's, Numerical Optimization, algorithm 7.4.
    """
    steps, changes = memory.steps, memory.changes
    inverse = jnp.sum(steps * changes, axis=1)
    inverse = jnp.where(inverse > 0, 1 / jnp.where(inverse > 0, inverse, 1), 0)

    def down(row: Array, state: tuple[Vector, Array]) -> tuple[Vector, Array]:
        q, parts = state
        part = inverse[row] * (steps[row] @ q)
        return q - part * changes[row], parts.at[row].set(part)

    def up(back: Array, r: Vector) -> Vector:
        row = memory.held - 1 - back
        return r + (parts[row] - inverse[row] * (changes[row] @ r)) * steps[row]

    q, parts = jax.lax.fori_loop(0, memory.held, down, (gradient, jnp.zeros_like(inverse)))
    return jax.lax.fori_loop(0, memory.held, up, memory.scale * q)

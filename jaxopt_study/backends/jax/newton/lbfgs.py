"""L-BFGS: an approximation of the inverse Hessian from the last steps, by first derivatives alone."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxopt_study.backends.jax.newton.line_search import Found
from jaxopt_study.backends.jax.newton.options import Options
from jaxopt_study.backends.jax.newton.problem import Point, Problem, Vector
from jaxopt_study.backends.jax.newton.result import Status
from jaxopt_study.backends.jax.newton.step import Direction, Method, along, tally

__all__ = ["lbfgs"]

PAIRS = 10


class Memory(NamedTuple):
    """The last steps s and the changes y of the gradient along them, the newest first; rows not held are 0.

    Attributes:
        point: Where the step that is being made starts.
        scale: The inverse Hessian is this times the identity before the pairs correct it: s'y / y'y of the last pair,
            and without pairs what makes the step of length 1. A step as long as the point can lead so far that an
            exponential function underflows and all gradients vanish.
    """

    point: Point
    scale: Float[Array, ""]
    steps: Float[Array, "pairs P"]
    changes: Float[Array, "pairs P"]


def lbfgs(problem: Problem, options: Options) -> Method:
    """Make L-BFGS with a strong Wolfe line search (Liu and Nocedal, 1989); ten pairs are remembered.

    Where a search fails, the pairs and their scale are forgotten, and the next direction is minus the gradient. If that
    fails too, the run ends.
    """
    del options

    def init(point: Point) -> Memory:
        empty = jnp.zeros((PAIRS, point.x.size), point.x.dtype)
        return Memory(point, 1 / jnp.linalg.norm(point.gradient), empty, empty)

    def direction(point: Point, memory: Memory) -> Direction:
        vector = -_inverse_times(memory, point.gradient)
        no, memory = jnp.array(False), memory._replace(point=point)
        return Direction(vector, point.gradient @ vector, memory, tally(), no, no, jnp.asarray(Status.RUNNING))

    def after(memory: Memory, found: Found) -> tuple[Memory, Bool[Array, ""]]:
        """Remember the step if the gradient grew along it; after a failure forget all, and try again."""
        s, y = found.point.x - memory.point.x, found.point.gradient - memory.point.gradient
        curved = found.ok & (s @ y > jnp.finfo(s.dtype).eps * jnp.linalg.norm(s) * jnp.linalg.norm(y))

        def updated(rows: Array, row: Vector) -> Array:
            kept = jnp.where(curved, jnp.concatenate([row[None], rows[:-1]]), rows)
            return jnp.where(found.ok, kept, 0)

        scale = jnp.where(curved, (s @ y) / jnp.where(curved, y @ y, 1), memory.scale)
        scale = jnp.where(found.ok, scale, 1 / jnp.linalg.norm(memory.point.gradient))
        remembered = Memory(memory.point, scale, updated(memory.steps, s), updated(memory.changes, y))
        return remembered, jnp.any(memory.steps != 0)

    return Method(init, along(problem, "strong_wolfe", direction, after))


def _inverse_times(memory: Memory, gradient: Vector) -> Vector:
    """Return the approximate inverse Hessian times the gradient.

    The two loops are Nocedal and Wright's, Numerical Optimization, algorithm 7.4.
    """
    pairs = (memory.steps, memory.changes)

    def inverse(pair: tuple[Vector, Vector]) -> Array:
        product = pair[0] @ pair[1]
        return jnp.where(product > 0, 1 / jnp.where(product > 0, product, 1), 0)

    def down(q: Vector, pair: tuple[Vector, Vector]) -> tuple[Vector, Array]:
        part = inverse(pair) * (pair[0] @ q)
        return q - part * pair[1], part

    def up(r: Vector, row: tuple[tuple[Vector, Vector], Array]) -> tuple[Vector, None]:
        pair, part = row
        return r + (part - inverse(pair) * (pair[1] @ r)) * pair[0], None

    q, parts = jax.lax.scan(down, gradient, pairs)
    return jax.lax.scan(up, memory.scale * q, (pairs, parts), reverse=True)[0]

"""The subproblem of a trust region: the least value of a quadratic model in a ball, by Cholesky factorizations."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxopt_study.backends.jax.newton.problem import Matrix, Vector, cholesky, diagonal

__all__ = ["Solution", "least_in_ball"]

EASY = 0.1
"""A step may be this much shorter or longer than the radius, relative to it."""
HARD = 0.2
"""How much more than its least value the model may be in the hard case, relative to its decrease."""
FACTORIZATIONS = 60


class Solution(NamedTuple):
    """A step, and the shift with which (H + shift I) step = -g; in the hard case a null vector is added to it."""

    vector: Vector
    shift: Float[Array, ""]
    edge: Bool[Array, ""]


class _Search(NamedTuple):
    """The shift lies between `low` and `high`; `null` becomes the eigenvector of the least eigenvalue."""

    shift: Float[Array, ""]
    low: Float[Array, ""]
    high: Float[Array, ""]
    null: Vector
    vector: Vector
    edge: Bool[Array, ""]
    done: Bool[Array, ""]
    count: Int[Array, ""]


def least_in_ball(matrix: Matrix, gradient: Vector, radius: Array, newton: Vector, convex: Array) -> Solution:
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
    eye, slope = jnp.eye(len(matrix), dtype=matrix.dtype), jnp.linalg.norm(gradient)
    bound = jnp.abs(matrix).sum(axis=1).max()
    tiny = jnp.sqrt(jnp.finfo(matrix.dtype).eps) * jnp.where(bound > 0, bound, 1)
    low = jnp.maximum(0, jnp.maximum(-diagonal(matrix).min(), slope / radius - bound))
    high = slope / radius + bound + tiny

    def attempt(s: _Search) -> _Search:
        factor, ok = cholesky(matrix + s.shift * eye)
        both = -jax.scipy.linalg.cho_solve((factor, True), jnp.stack([gradient, -s.null], axis=1))
        vector, null = both[:, 0], both[:, 1] / jnp.linalg.norm(both[:, 1])
        size = jnp.linalg.norm(vector)
        half = jax.scipy.linalg.solve_triangular(factor, vector, lower=True)
        further = s.shift + (size - radius) / radius * size**2 / (half @ half)
        inside, bent = size < radius, null @ (matrix @ null)
        # The hard case: no shift fills the ball, and along the null vector the model falls on.
        middle, room = vector @ null, jnp.maximum(radius**2 - size**2, 0)
        reach = room / (middle + jnp.where(middle < 0, -1, 1) * jnp.sqrt(middle**2 + room))
        model = vector @ (matrix @ vector) + s.shift * (size**2 + radius**2)
        hard = reach**2 * (bent + s.shift) <= HARD * model
        flat = s.shift <= tiny
        low = jnp.where(ok & inside, jnp.maximum(s.low, -bent), jnp.maximum(s.low, s.shift))
        high = jnp.where(ok & inside, s.shift, s.high)
        added = ok & inside & hard & (bent < -tiny * EASY)
        near = ok & (jnp.abs(size - radius) <= EASY * radius)
        edge = near | added
        done = edge | ok & inside & flat
        safe = jnp.maximum(jnp.sqrt(low * high), low + 0.01 * (high - low))
        shift = jnp.where(ok & (further > low) & (further < high), further, safe)
        step = jnp.where(added & ~near, vector + reach * null, vector)
        kept = ok & (jnp.isfinite(size))
        return _Search(
            jnp.where(done, s.shift, shift), low, high, jnp.where(kept, null, s.null), jnp.where(kept, step, s.vector),
            edge, done, s.count + 1,
        )  # fmt: skip

    whole = convex & (jnp.linalg.norm(newton) <= radius * (1 + EASY))
    probe = jnp.cos(jnp.arange(len(matrix), dtype=matrix.dtype))
    zero, no = jnp.zeros_like(low), jnp.array(False)
    first = jnp.where(convex, low, jnp.maximum(low, tiny))
    begun = _Search(
        jnp.where(whole, zero, first), low, high, probe, jnp.where(whole, newton, jnp.zeros_like(gradient)),
        whole & (jnp.linalg.norm(newton) >= radius * (1 - EASY)), whole | no, jnp.array(0, jnp.int32),
    )  # fmt: skip
    end = jax.lax.while_loop(lambda s: ~s.done & (s.count < FACTORIZATIONS), attempt, begun)
    return Solution(end.vector, end.shift, end.edge | ~end.done)

"""The derivative of a minimizer by the implicit function theorem: of the solution, not of the loop that finds it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from jaxopt_study.backends.jax.newton.bounds import Box, on_face
from jaxopt_study.backends.jax.newton.options import Options
from jaxopt_study.backends.jax.newton.problem import Vector
from jaxopt_study.backends.jax.newton.program import bind

__all__ = ["solution"]

DENSE = 2000
"""With more variables, the equations are solved by conjugate gradients."""


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def solution(program: Any, options: Options, data: Any, end: Any) -> Any:
    """Return the end (x, value) of a run as a function of its data, in forward and in reverse mode.

    With H the Hessian at x and g(x, data) the gradient, which is 0 there,

        dx = -H^-1 (dg / d data) d data        d value = (d value / d data) d data

    The start has no influence. Along directions in which the Hessian is singular, dx is 0. A variable at its bound
    moves with it; the equations are then those of the others.
    """
    del program, options, data
    return end


@solution.defjvp
def _tangents(program: Any, options: Options, primals: Any, tangents: Any) -> Any:
    data, end = primals
    x, value = solution(program, options, data, end)
    flat, unravel = ravel_pytree(x)

    def objective(v: Vector, data: Any) -> Array:
        return bind(program, options, data.arrays)[0](unravel(v), *data.args)

    def slope(v: Vector, data: Any) -> Vector:
        return jax.grad(objective)(v, data)

    def product(v: Vector) -> Vector:
        return jax.jvp(lambda p: slope(p, data), (flat,), (v,))[1]

    change = jax.jvp(lambda d: slope(flat, d), (data,), (tangents[0],))[1]
    higher = jax.jvp(lambda d: objective(flat, d), (data,), (tangents[0],))[1]
    if data.box is None:
        return (x, value), (unravel(-_solve(product, change)), higher)
    face, pushed = data.box.free(flat), _pushed(flat, data.box, tangents[0].box)
    moved = _solve(on_face(product, face), jnp.where(face, change + product(pushed), 0))
    return (x, value), (unravel(pushed - moved), higher + slope(flat, data) @ pushed)


def _pushed(x: Vector, box: Box, change: Box) -> Vector:
    """Return how far its bound moves each variable that it holds; 0 for the others."""
    return jnp.where(x == box.lower, change.lower, jnp.where(x == box.upper, change.upper, 0))


def _solve(product: Callable[[Vector], Vector], right: Vector) -> Vector:
    if right.size <= DENSE:
        return _pseudo_inverse(jax.lax.map(product, jnp.eye(right.size, dtype=right.dtype))) @ right
    solved: Vector = jax.lax.custom_linear_solve(product, right, _conjugate, symmetric=True)  # it has a transpose
    return solved


def _conjugate(product: Any, right: Vector) -> Vector:
    return jax.scipy.sparse.linalg.cg(product, right, tol=1e-10, maxiter=10 * right.size)[0]


def _pseudo_inverse(matrix: Float[Array, "P P"]) -> Float[Array, "P P"]:
    values, vectors = jnp.linalg.eigh(matrix)
    least = len(values) * jnp.finfo(values.dtype).eps * jnp.abs(values).max()
    kept = jnp.abs(values) > least
    return (vectors * jnp.where(kept, 1 / jnp.where(kept, values, 1), 0)) @ vectors.T

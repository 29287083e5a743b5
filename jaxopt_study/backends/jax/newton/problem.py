"""The objective as a function of one vector, with its derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from jaxopt_study.backends.jax.newton.bounds import Box
from jaxopt_study.backends.jax.newton.options import Limits, Options, System

__all__ = ["Point", "Problem", "dense_system", "flat_problem"]

Vector = Float[Array, " P"]
Matrix = Float[Array, "P P"]


class Point(NamedTuple):
    """A point of a run.

    Attributes:
        gradient_norm: The largest absolute entry of the gradient, with bounds of the projected one.
    """

    x: Vector
    value: Float[Array, ""]
    gradient: Vector
    gradient_norm: Float[Array, ""]

    @property
    def finite(self) -> Array:
        """Whether the objective and its gradient are finite here; one entry that is not makes the norm so."""
        return jnp.isfinite(self.value) & jnp.isfinite(self.gradient_norm)


class Problem(NamedTuple):
    """The objective on vectors.

    Attributes:
        at: at(x) is the `Point` with its value and gradient.
        products: products(x) is the function v -> H v, with the Hessian H at x.
        hessian: hessian(x) is the dense Hessian, or the Gauss-Newton matrix.
        system: The Newton equations, on vectors.
        limits: When to stop.
        box: The bounds, if there are any.
    """

    at: Callable[[Vector], Point]
    products: Callable[[Vector], Callable[[Vector], Vector]]
    hessian: Callable[[Vector], Matrix]
    system: System
    limits: Limits
    box: Box | None


def flat_problem(
    fun: Any, x0: Any, args: tuple[Any, ...], options: Options, limits: Limits, box: Box | None
) -> tuple[Problem, Vector, Callable]:
    """Return the problem, the start as a vector and the way back to a tree."""
    start, unravel = ravel_pytree(x0)

    def value(x: Vector) -> Array:
        return fun(unravel(x), *args)

    def at(x: Vector) -> Point:
        x = x if box is None else box.project(x)  # the objective may have no value outside
        height, slope = jax.value_and_grad(value)(x)
        size = jnp.abs(slope).max()
        if box is not None:
            size = jnp.where(jnp.isfinite(size), jnp.abs(box.slope(x, slope)).max(), size)
        return Point(x, height, slope, size)

    def products(x: Vector) -> Callable[[Vector], Vector]:
        """V -> H v, forward over reverse; what depends on x alone is computed once."""
        return jax.linearize(jax.grad(value), x)[1]

    def differences(x: Vector) -> Callable[[Vector], Vector]:
        """V -> H v by central differences of the gradient, for a method that needs first derivatives only."""
        size = jnp.finfo(x.dtype).eps ** (1 / 3) * jnp.maximum(1, jnp.linalg.norm(x))

        def product(v: Vector) -> Vector:
            step = size / jnp.linalg.norm(v)
            ahead, behind = jax.lax.map(jax.grad(value), jnp.stack([x + step * v, x - step * v]))
            return (ahead - behind) / (2 * step)

        return product

    def gauss_newton(x: Vector) -> Callable[[Vector], Vector]:
        """V -> J' L J v, with J of the inner function and L the outer's Hessian."""
        outputs, push = jax.linearize(lambda p: fun.inner(unravel(p), *args), x)
        pull = jax.linear_transpose(push, x)
        bend = jax.linearize(jax.grad(lambda z: fun.outer(z, *args)), outputs)[1]
        return lambda v: pull(bend(push(v)))[0]

    columns = gauss_newton if options.method == "gauss_newton" else products

    def hessian(x: Vector) -> Matrix:
        if callable(options.hessian):
            return options.hessian(unravel(x), *args)
        # Blocks fit the cache, and bound the memory to activations x block_size.
        return jax.lax.map(columns(x), jnp.eye(x.size, dtype=x.dtype), batch_size=options.block_size or x.size)

    problem = Problem(
        at=jax.jit(at),  # a run needs it at several places, and so it is traced once
        products=differences if options.method == "lbfgs" else products,
        hessian=hessian,
        system=_on_vectors(options.hessian, unravel, args)
        if isinstance(options.hessian, System)
        else dense_system(hessian),
        limits=limits,
        box=box,
    )
    return problem, start, unravel


def dense_system(hessian: Callable[[Vector], Matrix]) -> System:
    """Return the Newton equations of a dense Hessian, solved by Cholesky.

    A matrix with a pivot at the rounding level is called not positive definite: its solution would be noise.
    """

    def solve(matrix: Matrix, gradient: Vector, damping: Array) -> tuple[Vector, Array]:
        factor, ok = cholesky(matrix + damping * jnp.diag(units(matrix)))
        return -jax.scipy.linalg.cho_solve((factor, True), gradient), ok

    return System(lambda _, x: hessian(x), solve)


def units(matrix: Matrix) -> Vector:
    """Return |diag H|, and for an entry of 0 the largest one: the units of the variables do not matter."""
    entries = jnp.abs(diagonal(matrix))
    most = jnp.where(entries.max() > 0, entries.max(), jnp.where(jnp.any(matrix != 0), jnp.abs(matrix).max(), 1))
    return jnp.where(entries > 0, entries, most)


def cholesky(matrix: Matrix) -> tuple[Matrix, Array]:
    """Return the lower factor, and whether all pivots are above rounding."""
    factor = jax.lax.linalg.cholesky(matrix, symmetrize_input=False)
    rounding = len(matrix) * jnp.finfo(matrix.dtype).eps * diagonal(matrix)
    # A comparison with NaN, which LAPACK's failure leaves behind, is false.
    return factor, jnp.all(diagonal(factor) ** 2 > rounding)


def diagonal(matrix: Matrix) -> Vector:
    """Return the diagonal; as a slice it compiles in a third of the time that `jnp.diagonal`'s gather takes."""
    return matrix.ravel()[:: len(matrix) + 1]


def all_finite(tree: Any) -> Array:
    """Say whether all numbers are finite."""
    numbers = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)]
    return jnp.all(jnp.array([jnp.isfinite(leaf).all() for leaf in numbers]))


def symmetric(matrix: Any) -> Array:
    """Say whether a matrix and its transpose give a vector the same product; cheaper than comparing their entries."""
    probe = jnp.cos(jnp.arange(len(matrix), dtype=matrix.dtype))
    forth, back = matrix @ probe, probe @ matrix
    size = jnp.abs(matrix).max() * len(matrix)
    return ~(jnp.abs(forth - back).max() > jnp.sqrt(jnp.finfo(matrix.dtype).eps) * size)


def _on_vectors(system: System, unravel: Callable, args: tuple[Any, ...]) -> System:
    def solve(built: Any, gradient: Vector, damping: Array) -> tuple[Vector, Array]:
        direction, ok = system.solve(built, unravel(gradient), damping)
        return ravel_pytree(direction)[0], ok

    prepared = system.prepare(*args)
    return System(lambda _, x: system.build(prepared, unravel(x), *args), solve)

"""Functions of two numbers, on which an optimizer is tried from a thousand starts at once; only JAX has this module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

__all__ = ["SURFACES", "Surface", "descend"]

Point = Float[Array, "2"]


class Surface(NamedTuple):
    """A function to minimize, where to start and what counts as success.

    Attributes:
        value: The function of a point.
        box: Each coordinate of a start is drawn evenly from -box to box.
        passed: A run succeeds if its last value is at most this.
    """

    value: Callable[[Point], Float[Array, ""]]
    box: float
    passed: float


def _quadratic(p: Point) -> Array:
    return (p[0] ** 2 + 1000 * p[1] ** 2) / 2


def _rosenbrock(p: Point) -> Array:
    return (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2


def _beale(p: Point) -> Array:
    x, y = p
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def _saddle(p: Point) -> Array:
    return p[0] ** 2 - p[1] ** 2 + p[1] ** 4 / 4


def _rastrigin(p: Point) -> Array:
    return 20 + jnp.sum(p**2 - 10 * jnp.cos(2 * jnp.pi * p))


def _plateau(p: Point) -> Array:
    return 1 - jnp.exp(-jnp.sum(p**2) / 2)


SURFACES: dict[str, Surface] = {
    "quadratic": Surface(_quadratic, box=2.0, passed=1e-3),  # least 0; the curvatures differ by a factor of 1,000
    "rosenbrock": Surface(_rosenbrock, box=2.0, passed=1e-2),  # least 0, at the end of a bent valley
    "beale": Surface(_beale, box=4.0, passed=1e-2),  # least 0; flat, and steep towards the corners
    "saddle": Surface(_saddle, box=1e-2, passed=-0.99),  # least -1; the starts surround the saddle, where it is 0
    "rastrigin": Surface(_rastrigin, box=5.0, passed=0.5),  # least 0; the next of its local minima is at 1
    "plateau": Surface(_plateau, box=4.0, passed=1e-2),  # least 0; far away the gradient is 1e-6
}
"""Name -> surface."""


def descend(optimizer: Callable[[Any], optax.GradientTransformation], steps: int) -> Callable[..., dict[str, Array]]:
    """Return the function (starts, rates) -> the last value on each surface, compiled: name -> (rates, starts).

    One run holds a point on every surface and minimizes the sum of all values. Each point has a leaf of its own, and
    the optimizers of `more_optimizers` update a vector without looking at other leaves, so that a surface on which a
    run diverges changes nothing on the others.

    Args:
        optimizer: A row of the optimizer table.
        steps: Steps of each run.
    """

    def total(points: Mapping[str, Point]) -> Array:
        return sum((SURFACES[name].value(point) for name, point in points.items()), jnp.zeros(()))

    def run(points: Mapping[str, Point], rate: Array) -> dict[str, Array]:
        rule = optimizer(rate)

        def step(_: Any, carried: Any) -> Any:
            points, state = carried
            updates, state = rule.update(jax.grad(total)(points), state, points)
            return optax.apply_updates(points, updates), state

        points, _ = jax.lax.fori_loop(0, steps, step, (points, rule.init(points)))
        return {name: SURFACES[name].value(point) for name, point in points.items()}

    return jax.jit(jax.vmap(jax.vmap(run, (0, None)), (None, 0)))

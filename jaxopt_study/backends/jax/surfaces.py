"""Functions of a few numbers, on which an optimizer is tried from a thousand starts at once; JAX alone has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jaxopt_study.backends.jax import grid, more_optimizers

__all__ = ["DRAWN", "SURFACES", "Surface", "descend", "keys", "paths"]

Point = Float[Array, " numbers"]
DRAWN = 3
"""Random numbers of a step."""


class Surface(NamedTuple):
    """A function to minimize, where to start and what counts as success.

    Attributes:
        value: The function of a point.
        box: Each coordinate of a start is drawn evenly from -box to box.
        passed: A run succeeds if its last value is at most this.
        numbers: How many numbers a point has.
        seen: seen(point, drawn, made) is what the optimizer minimizes in a step: a random loss whose mean is the value.
            `drawn` are `DRAWN` numbers from a normal distribution, and `made` is the part of the steps that were made.
            Nothing, where it sees the value itself.
    """

    value: Callable[[Point], Float[Array, ""]]
    box: float
    passed: float
    numbers: int = 2
    seen: Callable[[Point, Array, Array], Float[Array, ""]] | None = None


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


def keys(seed: int, starts: int) -> Array:
    """Return the key of each start's noise, which is the same for all optimizers and learning rates."""
    return jax.vmap(partial(jax.random.fold_in, jax.random.key(seed)))(jnp.arange(starts))


Optimizer = Callable[[Any], optax.GradientTransformation]


def descend(surfaces: Mapping[str, Surface], optimizer: Optimizer, steps: int) -> Callable[..., dict[str, Array]]:
    """Return the function (starts, keys, rates) -> the last value on each surface, compiled: name -> (rates, starts).

    One run holds a point on every surface and minimizes the sum of all values. Each point has a leaf of its own, and
    the optimizers of `more_optimizers` update a vector without looking at other leaves, so that a surface on which a
    run diverges changes nothing on the others.

    Args:
        surfaces: Name -> surface.
        optimizer: A row of the optimizer table.
        steps: Steps of each run.
    """
    begin, step, points_of = _stepper(surfaces, optimizer, steps)

    def run(points: Mapping[str, Point], key: Array, rate: Array) -> dict[str, Array]:
        drawn = jax.random.normal(key, (steps, DRAWN))
        last = jax.lax.fori_loop(0, steps, lambda n, carried: step(carried, n, drawn, rate), begin(points, rate))
        return {name: surfaces[name].value(point) for name, point in points_of(last).items()}

    return grid.compiled(jax.vmap(jax.vmap(run, (0, 0, None)), (None, None, 0)))


def paths(surfaces: Mapping[str, Surface], optimizer: Optimizer, steps: int) -> Callable[..., dict[str, Array]]:
    """Return the function (points, key, rates) -> all points of one run on each surface: (rates, steps + 1, numbers).

    The arguments are those of `descend`, without the axis of the starts.
    """
    begin, step, points_of = _stepper(surfaces, optimizer, steps)

    def run(points: Mapping[str, Point], key: Array, rate: Array) -> dict[str, Array]:
        drawn = jax.random.normal(key, (steps, DRAWN))

        def kept(carried: Any, number: Array) -> Any:
            return step(carried, number, drawn, rate), points_of(carried)

        last, found = jax.lax.scan(kept, begin(points, rate), jnp.arange(steps))
        return {name: jnp.concatenate([found[name], point[None]]) for name, point in points_of(last).items()}

    return grid.compiled(jax.vmap(run, (None, None, 0)))


def _stepper(surfaces: Mapping[str, Surface], optimizer: Optimizer, steps: int) -> tuple[Any, Any, Any]:
    """Return the functions of a run: its beginning, a step, and the points at which the optimizer is evaluated."""

    def total(points: Mapping[str, Point], drawn: Array, made: Array) -> Array:
        seen = [
            surface.value(points[name]) if surface.seen is None else surface.seen(points[name], drawn, made)
            for name, surface in surfaces.items()
        ]
        return sum(seen, jnp.zeros(()))

    def begin(points: Mapping[str, Point], rate: Array) -> Any:
        return points, optimizer(rate).init(points)

    def step(carried: Any, number: Array, drawn: Array, rate: Array) -> Any:
        points, state = carried
        gradient = jax.grad(total)(points, drawn[number], number / steps)
        updates, state = optimizer(rate).update(gradient, state, points)
        return optax.apply_updates(points, updates), state

    return begin, step, lambda carried: more_optimizers.evaluated(*carried)

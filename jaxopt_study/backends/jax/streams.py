"""Linear regressions on streams of random rows: what an optimizer sees is noisy; only JAX has this module.

In each step an optimizer sees a new row a and its target, which is noise: the loss is (a.x - noise)^2 / 2, and the
value is its mean less that of x = 0, the minimum. No unbiased estimate from T such rows has an expected value below
d NOISE^2 / (2 T) for d numbers (Cramer and Rao); least squares on all of them comes near. A run passes within ten times
of that bound, which no optimizer decides.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax.scipy.stats import norm
from jaxtyping import Array, Float

from jaxopt_study.backends.jax.surfaces import Point, Surface

__all__ = ["NOISE", "streams"]

NOISE = 0.1
"""The standard deviation of a target."""
FACTOR = 10
BOX = 2.0
CURVATURES = (1.0, 10.0)
WORDS = 10
"""The numbers of the sparse stream. The rarest is seen in 34 of 1,000 steps on average."""
SCALE = 100.0
"""The rescaled stream's loss grows by this in the middle of the steps."""


def streams(steps: int) -> dict[str, Surface]:
    """Return name -> stream, for runs of so many steps."""
    curvatures = jnp.array(CURVATURES)
    frequencies = 1 / jnp.arange(1.0, WORDS + 1)
    frequencies = frequencies / frequencies.sum()
    quantiles = norm.ppf(jnp.cumsum(frequencies)[:-1])

    def dense(drawn: Array) -> Array:
        return jnp.sqrt(curvatures) * drawn

    def sparse(drawn: Array) -> Array:
        place = jnp.sum(drawn[0] > quantiles)
        return (jnp.arange(WORDS) == place).astype(drawn.dtype)

    def rescaled(made: Array) -> Array:
        return jnp.where(made < 0.5, 1.0, SCALE)

    return {
        "noisy": _stream(dense, curvatures, steps),
        "sparse": _stream(sparse, frequencies, steps),
        "rescaled": _stream(dense, curvatures, steps, rescaled),
    }


def _stream(
    row: Callable[[Array], Array],
    curvatures: Float[Array, " numbers"],
    steps: int,
    scale: Callable[[Array], Array] = jnp.ones_like,
) -> Surface:
    """Return a stream.

    Args:
        row: row(drawn) is a random row, made of two numbers drawn from a normal distribution.
        curvatures: The mean of the square of each number of a row. Two of its numbers are not correlated.
        steps: How many rows a run sees.
        scale: scale(made) multiplies the loss of a step, which leaves what a row tells about x as it is.
    """

    def value(point: Point) -> Array:
        return jnp.sum(curvatures * point**2) / 2

    def seen(point: Point, drawn: Array, made: Array) -> Array:
        # As sum(row * point), XLA on a CPU (jax 0.10.2) computes wrong numbers from 6,500 runs at once on.
        return scale(made) * (row(drawn[1:]) @ point - NOISE * drawn[0]) ** 2 / 2

    least = len(curvatures) * NOISE**2 / (2 * steps)
    return Surface(value, BOX, FACTOR * least, len(curvatures), seen)

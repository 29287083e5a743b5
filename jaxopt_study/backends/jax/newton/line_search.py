"""Line searches: one loop, and two criteria for the length of a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxopt_study.backends.jax.newton.problem import Point, Problem, Vector

__all__ = ["LINE_SEARCHES", "Found", "Line", "backtracking", "strong_wolfe"]

DECREASE = 1e-4
CURVATURE = 0.9
TRIALS = 40
"""2^-40 is 1e-12: a shorter step changes the objective by less than its rounding."""
MARGIN = 0.1
"""The next length stays this part of the bracket away from both of its ends."""
LONGER = (1.1, 4.0)
"""A step that is too short grows by a factor between these."""


class Line(NamedTuple):
    """A ray from a point.

    Attributes:
        slope: The objective's derivative along the direction, at most 0.
        curvature: Its second derivative where that is known and negative, as at a saddle; else 0.
    """

    start: Point
    direction: Vector
    slope: Float[Array, ""]
    curvature: Float[Array, ""]


class Found(NamedTuple):
    """The last point tried, whether it is accepted, and how many points were tried."""

    point: Point
    ok: Bool[Array, ""]
    trials: Int[Array, ""]


class Fit(NamedTuple):
    """How a step's length fits a criterion; one that is neither too long nor too short is accepted.

    Attributes:
        slope: The objective's derivative along the direction there; None where the criterion does not ask for it.
    """

    too_long: Bool[Array, ""]
    too_short: Bool[Array, ""]
    slope: Float[Array, ""] | None


class Knot(NamedTuple):
    """A length, and the objective and its slope there."""

    length: Float[Array, ""]
    value: Float[Array, ""]
    slope: Float[Array, ""]


def lower(line: Line, length: Array, trial: Point) -> Array:
    """Say whether the trial is lower by a sufficient part of the predicted decrease (Armijo).

    Near the minimum, rounding hides the decrease. There a smaller gradient is accepted instead, as in Hager and Zhang's
    approximate condition (2005).
    """
    start = line.start
    predicted = length * line.slope + length**2 / 2 * line.curvature
    hidden = 10 * jnp.finfo(start.value.dtype).eps * jnp.abs(start.value)
    armijo = trial.value <= start.value + DECREASE * predicted
    approximate = (trial.value <= start.value + hidden) & (trial.gradient_norm < start.gradient_norm)
    return trial.finite & (trial.value != start.value) & armijo | trial.finite & approximate


def backtracking(line: Line, length: Array, trial: Point) -> Fit:
    """Halve the step until the objective is lower by a sufficient part of the predicted decrease."""
    fine = lower(line, length, trial)
    return Fit(~fine, jnp.zeros_like(fine), None)


def strong_wolfe(line: Line, length: Array, trial: Point) -> Fit:
    """Require a lower objective and a flatter slope: |slope| <= 0.9 |slope at the start|.

    Nocedal and Wright, Numerical Optimization (2006), (3.7). The bracket is that of Lewis and Overton (2013).
    """
    slope = trial.gradient @ line.direction
    fine, bound = lower(line, length, trial), CURVATURE * jnp.abs(line.slope)
    escaping = line.curvature < 0  # the slope at a saddle is 0: no slope is flatter
    return Fit(~fine | (slope > bound) & ~escaping, fine & (slope < -bound) & ~escaping, slope)


LINE_SEARCHES: dict[str, Callable[[Line, Array, Point], Fit]] = {
    "backtracking": backtracking,
    "strong_wolfe": strong_wolfe,
}


def search(problem: Problem, line: Line, criterion: Callable[[Line, Array, Point], Fit]) -> Found:
    """Try the whole step, then lengths between one that is too short and one that is too long.

    The next length is where a cubic has its minimum that fits the objective and its slope at both ends; where it has
    none, or the criterion does not ask for slopes, the middle.
    """

    class Bracket(NamedTuple):
        length: Array
        short: Knot
        long: Knot
        trials: Array
        too_long: Array
        too_short: Array
        trial: Point

    def unsettled(b: Bracket) -> Array:
        return (b.too_long | b.too_short) & (b.trials < TRIALS)

    def attempt(b: Bracket) -> Bracket:
        trial = problem.at(line.start.x + b.length * line.direction)
        fit = criterion(line, b.length, trial)
        here = Knot(b.length, trial.value, line.slope if fit.slope is None else fit.slope)
        long = jax.tree.map(lambda new, old: jnp.where(fit.too_long, new, old), here, b.long)
        short = jax.tree.map(lambda new, old: jnp.where(fit.too_short, new, old), here, b.short)
        if fit.slope is None:  # fewer operations, which take time to compile
            longer, between = 2 * b.length, (short.length + long.length) / 2
        else:
            longer, between = _longer(b.short, here), _between(short, long)
        length = jnp.where(jnp.isinf(long.length), longer, between)
        return Bracket(length, short, long, b.trials + 1, fit.too_long, fit.too_short, trial)

    one, yes = jnp.ones_like(line.slope), jnp.array(True)  # so that the loop is entered; its body is compiled once
    none = Knot(0 * one, line.start.value, line.slope)
    begun = Bracket(one, none, none._replace(length=jnp.inf * one), jnp.array(0, jnp.int32), yes, yes, line.start)
    end = jax.lax.while_loop(unsettled, attempt, begun)
    # A step that is too short by its slope is lower too.
    return Found(end.trial, ~end.too_long, end.trials)


def _longer(short: Knot, here: Knot) -> Array:
    """Return a length beyond `here`, where the objective still falls."""
    least = _least(short, here)
    low, high = (factor * here.length for factor in LONGER)
    return jnp.where(least > here.length, jnp.clip(least, low, high), high)


def _between(short: Knot, long: Knot) -> Array:
    """Return a length between the two."""
    width = long.length - short.length
    part = jnp.clip((_least(short, long) - short.length) / width, MARGIN, 1 - MARGIN)
    return short.length + width * jnp.where(jnp.isnan(part), 0.5, part)


def _least(a: Knot, b: Knot) -> Array:
    """Return where the cubic through both has its minimum, NaN if it has none (Nocedal and Wright, (3.59))."""
    first = a.slope + b.slope - 3 * (a.value - b.value) / (a.length - b.length)
    second = jnp.sign(b.length - a.length) * jnp.sqrt(first**2 - a.slope * b.slope)
    return b.length - (b.length - a.length) * (b.slope + second - first) / (b.slope - a.slope + 2 * second)

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
    """How a step's length fits a criterion; one that is neither too long nor too short is accepted."""

    too_long: Bool[Array, ""]
    too_short: Bool[Array, ""]


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
    return Fit(~fine, jnp.zeros_like(fine))


def strong_wolfe(line: Line, length: Array, trial: Point) -> Fit:
    """Require a lower objective and a flatter slope: |slope| <= 0.9 |slope at the start|.

    Nocedal and Wright, Numerical Optimization (2006), (3.7); the bracket is bisected, as in Lewis and Overton (2013).
    """
    slope = trial.gradient @ line.direction
    fine, bound = lower(line, length, trial), CURVATURE * jnp.abs(line.slope)
    escaping = line.curvature < 0  # the slope at a saddle is 0: no slope is flatter
    return Fit(~fine | (slope > bound) & ~escaping, fine & (slope < -bound) & ~escaping)


LINE_SEARCHES: dict[str, Callable[[Line, Array, Point], Fit]] = {
    "backtracking": backtracking,
    "strong_wolfe": strong_wolfe,
}


def search(problem: Problem, line: Line, criterion: Callable[[Line, Array, Point], Fit]) -> Found:
    """Try the whole step, then bisect between a length that is too short and one that is too long."""

    class Bracket(NamedTuple):
        length: Array
        short: Array
        long: Array
        trials: Array
        fit: Fit
        trial: Point

    def unsettled(b: Bracket) -> Array:
        return (b.fit.too_long | b.fit.too_short) & (b.trials < TRIALS)

    def attempt(b: Bracket) -> Bracket:
        trial = problem.at(line.start.x + b.length * line.direction)
        fit = criterion(line, b.length, trial)
        long = jnp.where(fit.too_long, b.length, b.long)
        short = jnp.where(fit.too_short, b.length, b.short)
        length = jnp.where(jnp.isinf(long), 2 * b.length, (short + long) / 2)
        return Bracket(length, short, long, b.trials + 1, fit, trial)

    one = jnp.ones_like(line.slope)
    untried = Fit(jnp.array(True), jnp.array(True))  # so that the loop is entered; its body is compiled once
    end = jax.lax.while_loop(
        unsettled, attempt, Bracket(one, 0 * one, jnp.inf * one, jnp.array(0, jnp.int32), untried, line.start)
    )
    # A step that is too short by its slope is lower too.
    return Found(end.trial, ~end.fit.too_long, end.trials)

"""Line searches: one loop, and two opinions on when a step is good."""

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
"""2^-40 is 1e-12: a shorter part of a step is below what the objective can show."""


class Line(NamedTuple):
    """A ray from a point.

    Attributes:
        slope: The objective's derivative along the direction, at most 0.
        curvature: Its second derivative where that is negative and known, else 0: what a step away from a saddle
            is promised.
    """

    start: Point
    direction: Vector
    slope: Float[Array, ""]
    curvature: Float[Array, ""]


class Found(NamedTuple):
    """The last point tried, whether it is good, and how many were tried."""

    point: Point
    ok: Bool[Array, ""]
    trials: Int[Array, ""]


class Verdict(NamedTuple):
    """An opinion on a step; one that is neither too long nor too short is good."""

    too_long: Bool[Array, ""]
    too_short: Bool[Array, ""]


def lower(line: Line, length: Array, trial: Point) -> Array:
    """Say whether the trial is lower by a fair part of what the model promised (Armijo).

    Near the minimum the objective's own rounding hides the decrease. There a smaller gradient counts instead, as in
    Hager and Zhang's approximate condition (2005).
    """
    start = line.start
    promised = length * line.slope + length**2 / 2 * line.curvature
    hidden = 10 * jnp.finfo(start.value.dtype).eps * jnp.abs(start.value)
    armijo = trial.value <= start.value + DECREASE * promised
    approximate = (trial.value <= start.value + hidden) & (trial.gradient_norm < start.gradient_norm)
    return trial.finite & (trial.value != start.value) & armijo | trial.finite & approximate


def backtracking(line: Line, length: Array, trial: Point) -> Verdict:
    """Halve the step until the objective is lower by a fair part of what was promised."""
    fine = lower(line, length, trial)
    return Verdict(~fine, jnp.zeros_like(fine))


def strong_wolfe(line: Line, length: Array, trial: Point) -> Verdict:
    """Ask for a lower objective and a flatter slope: |slope| <= 0.9 |slope at the start|.

    Nocedal and Wright, Numerical Optimization (2006), (3.7); the bracket is bisected, as in Lewis and Overton (2013).
    """
    slope = trial.gradient @ line.direction
    fine, bound = lower(line, length, trial), CURVATURE * jnp.abs(line.slope)
    escaping = line.curvature < 0  # the slope at a saddle is 0, and nothing is flatter
    return Verdict(~fine | (slope > bound) & ~escaping, fine & (slope < -bound) & ~escaping)


LINE_SEARCHES: dict[str, Callable[[Line, Array, Point], Verdict]] = {
    "backtracking": backtracking,
    "strong_wolfe": strong_wolfe,
}


def search(problem: Problem, line: Line, judge: Callable[[Line, Array, Point], Verdict]) -> Found:
    """Try the whole step, then bisect between what was too short and what was too long."""

    class Bracket(NamedTuple):
        length: Array
        short: Array
        long: Array
        trials: Array
        verdict: Verdict
        trial: Point

    def unsettled(b: Bracket) -> Array:
        return (b.verdict.too_long | b.verdict.too_short) & (b.trials < TRIALS)

    def attempt(b: Bracket) -> Bracket:
        trial = problem.at(line.start.x + b.length * line.direction)
        verdict = judge(line, b.length, trial)
        long = jnp.where(verdict.too_long, b.length, b.long)
        short = jnp.where(verdict.too_short, b.length, b.short)
        length = jnp.where(jnp.isinf(long), 2 * b.length, (short + long) / 2)
        return Bracket(length, short, long, b.trials + 1, verdict, trial)

    one = jnp.ones_like(line.slope)
    untried = Verdict(jnp.array(True), jnp.array(True))  # so that the loop is entered; its body is compiled once
    end = jax.lax.while_loop(
        unsettled, attempt, Bracket(one, 0 * one, jnp.inf * one, jnp.array(0, jnp.int32), untried, line.start)
    )
    # A step that is too short by the slope is lower all the same.
    return Found(end.trial, ~end.verdict.too_long, end.trials)

"""Line searches: one loop, and two criteria for the length of a step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch

from torch_reference.newton.problem import Point, Problem, Vector

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
    slope: float
    curvature: float


class Found(NamedTuple):
    """The last point tried, whether it is accepted, and how many points were tried."""

    point: Point
    ok: bool
    trials: int


class Fit(NamedTuple):
    """How a step's length fits a criterion; one that is neither too long nor too short is accepted.

    Attributes:
        slope: The objective's derivative along the direction there; None where the criterion does not ask for it.
    """

    too_long: bool
    too_short: bool
    slope: float | None


class Knot(NamedTuple):
    """A length, and the objective and its slope there."""

    length: float
    value: float
    slope: float


def lower(line: Line, length: float, trial: Point) -> bool:
    """Say whether the trial is lower by a sufficient part of the predicted decrease (Armijo).

    Near the minimum, rounding hides the decrease. There a smaller gradient is accepted instead, as in Hager and Zhang's
    approximate condition (2005).
    """
    start = line.start
    predicted = length * line.slope + length**2 / 2 * line.curvature
    hidden = 10 * torch.finfo(start.x.dtype).eps * abs(start.value)
    armijo = trial.value != start.value and trial.value <= start.value + DECREASE * predicted
    approximate = trial.value <= start.value + hidden and trial.gradient_norm < start.gradient_norm
    return trial.finite and (armijo or approximate)


def backtracking(line: Line, length: float, trial: Point) -> Fit:
    """Halve the step until the objective is lower by a sufficient part of the predicted decrease."""
    return Fit(not lower(line, length, trial), False, None)


def strong_wolfe(line: Line, length: float, trial: Point) -> Fit:
    """Require a lower objective and a flatter slope: |slope| <= 0.9 |slope at the start|.

    Nocedal and Wright, Numerical Optimization (2006), (3.7). The bracket is that of Lewis and Overton (2013).
    """
    slope = (trial.gradient @ line.direction).item()
    fine, bound = lower(line, length, trial), CURVATURE * abs(line.slope)
    escaping = line.curvature < 0  # the slope at a saddle is 0: no slope is flatter
    return Fit(not fine or (slope > bound and not escaping), fine and slope < -bound and not escaping, slope)


LINE_SEARCHES: dict[str, Callable[[Line, float, Point], Fit]] = {
    "backtracking": backtracking,
    "strong_wolfe": strong_wolfe,
}


def search(problem: Problem, line: Line, criterion: Callable[[Line, float, Point], Fit]) -> Found:
    """Try the whole step, then lengths between one that is too short and one that is too long.

    The next length is where a cubic has its minimum that fits the objective and its slope at both ends; where it has
    none, or the criterion does not ask for slopes, the middle.
    """
    length, short, long = 1.0, Knot(0.0, line.start.value, line.slope), Knot(math.inf, math.nan, math.nan)
    for trials in range(1, TRIALS + 1):  # noqa: B007 - counted, and read at the end
        trial = problem.at(line.start.x + length * line.direction)
        fit = criterion(line, length, trial)
        if not (fit.too_long or fit.too_short):
            break
        here, before = Knot(length, trial.value, math.nan if fit.slope is None else fit.slope), short
        long = here if fit.too_long else long
        short = here if fit.too_short else short
        length = _longer(before, here) if math.isinf(long.length) else _between(short, long)
    # A step that is too short by its slope is lower too.
    return Found(trial, not fit.too_long, trials)


def _longer(short: Knot, here: Knot) -> float:
    """Return a length beyond `here`, where the objective still falls."""
    least = _least(short, here)
    low, high = (factor * here.length for factor in LONGER)
    return min(max(least, low), high) if least > here.length else high


def _between(short: Knot, long: Knot) -> float:
    """Return a length between the two."""
    width = long.length - short.length
    part = (_least(short, long) - short.length) / width if width else math.nan
    return short.length + width * (0.5 if math.isnan(part) else min(max(part, MARGIN), 1 - MARGIN))


def _least(a: Knot, b: Knot) -> float:
    """Return where the cubic through both has its minimum, NaN if it has none (Nocedal and Wright, (3.59))."""
    first = a.slope + b.slope - 3 * (a.value - b.value) / (a.length - b.length)
    square = first * first - a.slope * b.slope  # a power would raise where it overflows
    second = math.copysign(math.sqrt(square), b.length - a.length) if square >= 0 else math.nan
    below = b.slope - a.slope + 2 * second
    return b.length - (b.length - a.length) * (b.slope + second - first) / below if below else math.nan

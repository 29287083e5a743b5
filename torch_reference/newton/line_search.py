"""Line searches: one loop, and two opinions on when a step is good."""

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
    slope: float
    curvature: float


class Found(NamedTuple):
    """The last point tried, whether it is good, and how many were tried."""

    point: Point
    ok: bool
    trials: int


class Verdict(NamedTuple):
    """An opinion on a step; one that is neither too long nor too short is good."""

    too_long: bool
    too_short: bool


def lower(line: Line, length: float, trial: Point) -> bool:
    """Say whether the trial is lower by a fair part of what the model promised (Armijo).

    Near the minimum the objective's own rounding hides the decrease. There a smaller gradient counts instead, as in
    Hager and Zhang's approximate condition (2005).
    """
    start = line.start
    promised = length * line.slope + length**2 / 2 * line.curvature
    hidden = 10 * torch.finfo(start.x.dtype).eps * abs(start.value)
    armijo = trial.value != start.value and trial.value <= start.value + DECREASE * promised
    approximate = trial.value <= start.value + hidden and trial.gradient_norm < start.gradient_norm
    return trial.finite and (armijo or approximate)


def backtracking(line: Line, length: float, trial: Point) -> Verdict:
    """Halve the step until the objective is lower by a fair part of what was promised."""
    return Verdict(not lower(line, length, trial), False)


def strong_wolfe(line: Line, length: float, trial: Point) -> Verdict:
    """Ask for a lower objective and a flatter slope: |slope| <= 0.9 |slope at the start|.

    Nocedal and Wright, Numerical Optimization (2006), (3.7); the bracket is bisected, as in Lewis and Overton (2013).
    """
    slope = (trial.gradient @ line.direction).item()
    fine, bound = lower(line, length, trial), CURVATURE * abs(line.slope)
    escaping = line.curvature < 0  # the slope at a saddle is 0, and nothing is flatter
    return Verdict(not fine or (slope > bound and not escaping), fine and slope < -bound and not escaping)


LINE_SEARCHES: dict[str, Callable[[Line, float, Point], Verdict]] = {
    "backtracking": backtracking,
    "strong_wolfe": strong_wolfe,
}


def search(problem: Problem, line: Line, judge: Callable[[Line, float, Point], Verdict]) -> Found:
    """Try the whole step, then bisect between what was too short and what was too long."""
    length, short, long = 1.0, 0.0, math.inf
    for trials in range(1, TRIALS + 1):  # noqa: B007 - counted, and read at the end
        trial = problem.at(line.start.x + length * line.direction)
        verdict = judge(line, length, trial)
        if not (verdict.too_long or verdict.too_short):
            break
        long = length if verdict.too_long else long
        short = length if verdict.too_short else short
        length = 2 * length if math.isinf(long) else (short + long) / 2
    # A step that is too short by the slope is lower all the same.
    return Found(trial, not verdict.too_long, trials)

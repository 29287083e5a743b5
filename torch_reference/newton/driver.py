"""The loop of all algorithms: step, stop, leave a saddle, keep the path."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from torch_reference.newton.bounds import on_face
from torch_reference.newton.conjugate import conjugate_gradients
from torch_reference.newton.line_search import Line, backtracking, search
from torch_reference.newton.options import Options
from torch_reference.newton.problem import Point, Problem, Vector
from torch_reference.newton.result import Counts, Status
from torch_reference.newton.step import Method, Step

__all__ = ["State", "drive"]

PROBES = 20
"""Hessian-vector products spent at most on the search for negative curvature."""
PART = 32
"""With more variables than that, one product for so many gradients that the run took, and at least two: after a run of
many steps the search then adds at most a sixteenth to its work."""
SHORT = 1e-3
"""A last step shorter than this part of the way shows that the run came to rest, and does not creep to infinity."""
FURTHER = 1e4
"""An optimum at infinity is looked for this many times as far from the start."""
NEAR = 1.01
"""The objective rises this far from the start, in units of the way made, if the run ended in a local minimum."""
FAR = 100.0
"""A run that is this many times as far as its start's own length, and still falls, goes to infinity."""


class State(NamedTuple):
    """What the next iteration needs.

    Attributes:
        bottom: With a value below it, far from the start, the objective has no minimum.
        tolerance: Of the largest absolute entry of the gradient.
    """

    point: Point
    memory: Any
    counts: Counts
    iteration: int
    decrement: float
    convex: bool
    whole: bool
    short: bool
    status: Status
    bottom: float
    tolerance: float
    path: list[tuple[Vector, Counts]]


def drive(
    problem: Problem, method: Method, start: Vector, options: Options, seen: Callable[[State], Status] | None = None
) -> State:
    """Take steps from `start` until there is a reason to stop; seen(state) is asked after each, and may give one."""
    point = problem.at(start)
    bottom = -(1 + abs(point.value)) / torch.finfo(start.dtype).eps
    status = Status.RUNNING if point.finite else Status.NOT_FINITE
    state = State(
        point, method.init(point), Counts(1, 1), 0, 0.0, False, False, False, status, bottom,
        _tolerance(problem, point),
        [(start, Counts(1, 1))],
    )  # fmt: skip
    # From a stationary start, no step is taken.
    state = state._replace(status=_ended(problem, start, state, status))
    while True:
        while state.status == Status.RUNNING:
            state = _step(problem, method, start, options, state)
            state = state if seen is None else state._replace(status=seen(state))
        if state.status in (Status.STOPPED, Status.TIME):
            return state
        state = _settle(problem, method, _look_further(problem, start, state))
        if state.status != Status.RUNNING:
            return state


def _tolerance(problem: Problem, start: Point) -> float:
    """Return the gradient's tolerance; by default it falls with an objective whose values are small everywhere."""
    if problem.limits.tolerance is not None:
        return float(problem.limits.tolerance)
    scale = max(start.gradient_norm, abs(start.value))
    return torch.finfo(start.x.dtype).eps ** 0.5 * min(1.0, scale)


def _step(problem: Problem, method: Method, start: Vector, options: Options, state: State) -> State:
    made = method.step(state.point, state.memory)
    counts = state.counts.plus(made.counts)
    moved = state._replace(
        point=made.point, memory=made.memory, counts=counts, iteration=state.iteration + 1, decrement=made.decrement,
        convex=made.convex, whole=made.whole, short=_is_short(start, state.point.x, made.point.x),
        path=[*state.path, (made.point.x, counts)] if options.keep_path else state.path,
    )  # fmt: skip
    status = _ended(problem, start, moved, made.status)
    return moved._replace(status=status)


def _ended(problem: Problem, start: Vector, state: State, status: Status) -> Status:
    """Return why to stop, or RUNNING; the first reason that holds counts."""
    point = state.point
    if status in (Status.NOT_FINITE, Status.ASYMMETRIC):
        return status
    if point.gradient_norm <= state.tolerance:
        return Status.GRADIENT
    allowed = problem.limits.decrement_tolerance
    if allowed is not None and state.whole and state.decrement / 2 <= allowed:
        return Status.DECREMENT
    if status != Status.RUNNING:
        return status
    if point.value < state.bottom and _is_far(start, point.x):
        return Status.UNBOUNDED
    return Status.ITERATIONS if state.iteration >= problem.limits.max_iterations else Status.RUNNING


def _settle(problem: Problem, method: Method, state: State) -> State:
    """Leave a saddle: where the gradient vanishes, and the Hessian was not found positive definite."""
    if state.status != Status.GRADIENT or state.convex:
        return state
    made = _off_saddle(problem, state)
    left = made.status == Status.RUNNING
    counts = state.counts.plus(made.counts)
    return state._replace(
        point=made.point,
        memory=method.init(made.point) if left else state.memory,
        counts=counts,
        status=Status.ITERATIONS if left and state.iteration >= problem.limits.max_iterations else made.status,
        path=[*state.path[:-1], (made.point.x, counts)],
    )


def _off_saddle(problem: Problem, state: State) -> Step:
    """Look for negative curvature by conjugate gradients from a fixed vector, and step along it if there is any."""
    point = state.point
    probe = torch.as_tensor(np.random.default_rng(0).standard_normal(len(point.x))).to(point.x)
    product = problem.products(point.x)
    if problem.box is not None:  # a variable at its bound stays there
        face = problem.box.free(point.x)
        probe, product = torch.where(face, probe, 0.0), on_face(product, face)
    c = conjugate_gradients(product, probe, 0.0, _probes(state), math.inf)
    counts = Counts(hvp=c.products)
    if not (c.negative and c.curvature < -(torch.finfo(probe.dtype).eps ** 0.5) * c.largest):
        return Step(point, (), counts, 0.0, True, True, Status.GRADIENT)
    size = max(1.0, torch.linalg.vector_norm(point.x).item()) / torch.linalg.vector_norm(c.direction).item()
    down = (-size if (point.gradient @ c.direction).item() > 0 else size) * c.direction
    slope = min((point.gradient @ down).item(), 0.0)
    found = search(problem, Line(point, down, slope, c.curvature * (down @ down).item()), backtracking)
    counts = counts.plus(Counts(found.trials, found.trials))
    status = Status.RUNNING if found.ok else Status.GRADIENT  # what was seen was rounding
    return Step(found.point if found.ok else point, (), counts, 0.0, False, False, status)


def _probes(state: State) -> int:
    """Return how many products the search for negative curvature may take."""
    size, counts = len(state.point.x), state.counts
    spent = int(counts.gradient) + 2 * int(counts.hvp) + 2 * size * int(counts.hessian)
    return min(size, PROBES) if size <= PROBES or not state.iteration else min(max(spent // PART, 2), PROBES)


def _is_far(start: Vector, x: Vector) -> bool:
    return torch.linalg.vector_norm(x - start).item() > FAR * (1 + torch.linalg.vector_norm(start).item())


def _is_short(start: Vector, before: Vector, x: Vector) -> bool:
    """Say whether the step was short beside the way made."""
    return torch.linalg.vector_norm(x - before).item() <= SHORT * torch.linalg.vector_norm(x - start).item()


def _open(problem: Problem, start: Vector, x: Vector) -> bool:
    """Say whether the ray from the start through x stays within the bounds."""
    return problem.box is None or problem.box.open_along(x, x - start)


def _look_further(problem: Problem, start: Vector, state: State) -> State:
    """Set INFINITY where the run came to rest or is far away, and the objective is lower further on."""
    if state.status == Status.GRADIENT and state.short:
        return state
    x, value = state.point.x, state.point.value
    hidden = 10 * torch.finfo(start.dtype).eps * abs(value)
    near, further = (problem.at(start + factor * (x - start)) for factor in (NEAR, FURTHER))
    flatter = further.gradient_norm <= max(state.point.gradient_norm, state.tolerance)
    # Where the objective first rises, the run has found a local minimum, whatever is behind.
    goes_on = _is_far(start, x) or not near.value > value + hidden
    ahead = further.finite and flatter and goes_on and _open(problem, start, x)
    lower = ahead and further.value < value - hidden
    much_lower = lower and further.value < value - 1e-3 * abs(value)
    at_rest = state.status in (Status.GRADIENT, Status.DECREMENT, Status.ROUNDING, Status.STALLED)
    away = (at_rest and much_lower) or ((at_rest or state.status == Status.ITERATIONS) and lower and _is_far(start, x))
    return state._replace(status=Status.INFINITY if away else state.status, counts=state.counts.plus(Counts(2, 2)))

"""The loop of all algorithms: step, stop, leave a saddle, keep the path."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxopt_study.backends.jax.newton.bounds import on_face
from jaxopt_study.backends.jax.newton.conjugate import conjugate_gradients
from jaxopt_study.backends.jax.newton.line_search import Line, backtracking, search
from jaxopt_study.backends.jax.newton.options import Options
from jaxopt_study.backends.jax.newton.problem import Point, Problem, Vector
from jaxopt_study.backends.jax.newton.result import Counts, Status
from jaxopt_study.backends.jax.newton.step import Method, Step, tally, when

__all__ = ["State", "advance", "begin", "drive", "look_further", "settle", "take"]

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
    iteration: Int[Array, ""]
    decrement: Float[Array, ""]
    convex: Bool[Array, ""]
    whole: Bool[Array, ""]
    short: Bool[Array, ""]
    status: Int[Array, ""]
    bottom: Float[Array, ""]
    tolerance: Float[Array, ""]
    path: Path | None


class Path(NamedTuple):
    """The points so far, and the counts when each was reached; rows not reached are NaN, and -1."""

    points: Float[Array, "points P"]
    counts: Int[Array, "points 4"]

    def at(self, iteration: Array, point: Vector, counts: Counts) -> Path:
        """Return the path with this point for that iteration."""
        put = jax.lax.dynamic_update_index_in_dim
        return Path(put(self.points, point, iteration, 0), put(self.counts, jnp.stack(counts), iteration, 0))


def begin(problem: Problem, method: Method, start: Vector, options: Options) -> State:
    """Return the state at the start; from a stationary start, no step is taken."""
    point = problem.at(start)
    path = None
    if options.rows is not None:
        points = jnp.full((options.rows, start.size), jnp.nan, start.dtype)
        path = Path(points, jnp.full((options.rows, 4), -1, jnp.int32))
        path = path.at(jnp.array(0), start, tally(1, 1))
    bottom = -(1 + jnp.abs(point.value)) / jnp.finfo(start.dtype).eps
    status = jnp.where(point.finite, Status.RUNNING, Status.NOT_FINITE)
    zero, no = jnp.zeros_like(point.value), jnp.array(False)
    state = State(
        point, method.init(point), tally(1, 1), jnp.array(0, jnp.int32), zero, no, no, no, status, bottom,
        _tolerance(problem, point), path,
    )  # fmt: skip
    return state._replace(status=_ended(problem, start, state, status))


def _tolerance(problem: Problem, start: Point) -> Array:
    """Return the gradient's tolerance; by default it falls with an objective whose values are small everywhere."""
    given = jnp.asarray(problem.limits.tolerance, start.value.dtype)
    scale = jnp.minimum(1, jnp.maximum(start.gradient_norm, jnp.abs(start.value)))
    return jnp.where(jnp.isnan(given), jnp.sqrt(jnp.finfo(scale.dtype).eps).astype(scale.dtype) * scale, given)


def running(state: State) -> Array:
    """Whether there is no reason to stop yet."""
    return state.status == Status.RUNNING


def unsettled(state: State) -> Array:
    """Whether the gradient vanishes, and the Hessian was not found positive definite: the point may be a saddle."""
    return (state.status == Status.GRADIENT) & ~state.convex


def advance(problem: Problem, method: Method, start: Vector, state: State) -> State:
    """Take steps until there is a reason to stop; say so if the optimum is at infinity."""
    state = jax.lax.while_loop(running, lambda s: _step(problem, method, start, s), state)
    return look_further(problem, start, state)


def take(problem: Problem, method: Method, start: Vector, state: State, until: Array) -> State:
    """Take steps until there is a reason to stop, or so many iterations are made."""
    return jax.lax.while_loop(
        lambda s: running(s) & (s.iteration < until), lambda s: _step(problem, method, start, s), state
    )


def drive(problem: Problem, method: Method, start: Vector, options: Options) -> State:
    """Run from the start to the end in one compiled function, as `jit` and `vmap` around it need."""

    def advance_and_settle(state: State) -> State:
        state = advance(problem, method, start, state)
        return when(unsettled(state), lambda s: settle(problem, method, s), state)

    begun = begin(problem, method, start, options)
    return jax.lax.while_loop(lambda s: running(s) | unsettled(s), advance_and_settle, begun)


def _step(problem: Problem, method: Method, start: Vector, state: State) -> State:
    made = method.step(state.point, state.memory)
    iteration = state.iteration + 1
    counts = state.counts.plus(made.counts)
    path = None if state.path is None else state.path.at(iteration, made.point.x, counts)
    moved = state._replace(
        point=made.point, memory=made.memory, counts=counts, iteration=iteration, decrement=made.decrement,
        convex=made.convex, whole=made.whole, short=_is_short(start, state.point.x, made.point.x), path=path,
    )  # fmt: skip
    return moved._replace(status=_ended(problem, start, moved, made.status).astype(state.status.dtype))


def _ended(problem: Problem, start: Vector, state: State, status: Array) -> Array:
    """Return why to stop, or RUNNING; the first reason that holds counts."""
    small = state.whole & (state.decrement / 2 <= problem.limits.decrement_tolerance)
    reasons = [
        (status == Status.NOT_FINITE, Status.NOT_FINITE),
        (status == Status.ASYMMETRIC, Status.ASYMMETRIC),
        (state.point.gradient_norm <= state.tolerance, Status.GRADIENT),
        (small, Status.DECREMENT),
        (status != Status.RUNNING, status),
        ((state.point.value < state.bottom) & _is_far(start, state.point.x), Status.UNBOUNDED),
        (state.iteration >= problem.limits.max_iterations, Status.ITERATIONS),
    ]  # fmt: skip
    return jnp.select([holds for holds, _ in reasons], [jnp.asarray(code) for _, code in reasons], Status.RUNNING)


def settle(problem: Problem, method: Method, state: State) -> State:
    """Leave a saddle: where the gradient vanishes, and the Hessian was not found positive definite."""
    made = _off_saddle(problem, state)
    left = made.status == Status.RUNNING
    counts = state.counts.plus(made.counts)
    path = None if state.path is None else state.path.at(state.iteration, made.point.x, counts)
    status = jnp.where(left & (state.iteration >= problem.limits.max_iterations), Status.ITERATIONS, made.status)
    return state._replace(
        point=made.point,
        memory=jax.tree.map(lambda new, old: jnp.where(left, new, old), method.init(made.point), state.memory),
        counts=counts,
        convex=~left,
        status=status.astype(state.status.dtype),
        path=path,
    )


def _off_saddle(problem: Problem, state: State) -> Step:
    """Look for negative curvature by conjugate gradients from a fixed vector, and step along it if there is any."""
    point = state.point
    probe = jnp.asarray(np.random.default_rng(0).standard_normal(point.x.size), point.x.dtype)
    zero = jnp.zeros_like(point.value)
    product = problem.products(point.x)
    if problem.box is not None:  # a variable at its bound stays there
        face = problem.box.free(point.x)
        probe, product = jnp.where(face, probe, 0), on_face(product, face)
    c = conjugate_gradients(product, probe, zero, _probes(state), zero + jnp.inf)
    saddle = c.negative & (c.curvature < -jnp.sqrt(jnp.finfo(probe.dtype).eps) * c.largest)
    size = jnp.maximum(1, jnp.linalg.norm(point.x)) / jnp.linalg.norm(c.direction)
    down = jnp.where(point.gradient @ c.direction > 0, -size, size) * c.direction
    line = Line(point, down, jnp.minimum(point.gradient @ down, 0), c.curvature * (down @ down))

    def leave(step: Step) -> Step:
        found = search(problem, line, backtracking)
        new = jax.tree.map(lambda a, b: jnp.where(found.ok, a, b), found.point, point)
        status = jnp.where(found.ok, Status.RUNNING, Status.GRADIENT)  # what was seen was rounding
        return step._replace(point=new, counts=step.counts.plus(tally(found.trials, found.trials)), status=status)

    stay = Step(point, (), tally(hvp=c.products), zero, ~saddle, ~saddle, jnp.asarray(Status.GRADIENT))
    return when(saddle, leave, stay)


def _probes(state: State) -> Array:
    """Return how many products the search for negative curvature may take."""
    size, counts = state.point.x.size, state.counts
    spent = counts.gradient + 2 * counts.hvp + 2 * size * counts.hessian
    few = jnp.clip(spent // PART, 2, PROBES)
    return jnp.where((size <= PROBES) | (state.iteration == 0), min(size, PROBES), few)


def _is_far(start: Vector, x: Vector) -> Array:
    return jnp.linalg.norm(x - start) > FAR * (1 + jnp.linalg.norm(start))


def _is_short(start: Vector, before: Vector, x: Vector) -> Array:
    """Say whether the step was short beside the way made."""
    return jnp.linalg.norm(x - before) <= SHORT * jnp.linalg.norm(x - start)


def _open(problem: Problem, start: Vector, x: Vector) -> Array:
    """Say whether the ray from the start through x stays within the bounds."""
    return jnp.array(True) if problem.box is None else problem.box.open_along(x, x - start)


def look_further(problem: Problem, start: Vector, state: State) -> State:
    """Set INFINITY where the objective is lower further on, unless the run plainly came to rest."""
    clear = (state.status == Status.GRADIENT) & state.short
    return when(~clear, lambda s: _look(problem, start, s), state)


def _look(problem: Problem, start: Vector, state: State) -> State:
    """Set INFINITY where the run came to rest or is far away, and the objective is lower further on."""
    x, value = state.point.x, state.point.value
    hidden = 10 * jnp.finfo(start.dtype).eps * jnp.abs(value)
    points = jax.lax.map(lambda factor: problem.at(start + factor * (x - start)), jnp.array([NEAR, FURTHER], x.dtype))
    near, further = (jax.tree.map(lambda leaf, i=i: leaf[i], points) for i in range(2))
    flatter = further.gradient_norm <= jnp.maximum(state.point.gradient_norm, state.tolerance)
    # Where the objective first rises, the run has found a local minimum, whatever is behind.
    ahead = further.finite & flatter & _open(problem, start, x) & (_is_far(start, x) | ~(near.value > value + hidden))
    lower = ahead & (further.value < value - hidden)
    much_lower = lower & (further.value < value - 1e-3 * jnp.abs(value))
    s = state.status
    at_rest = (s == Status.GRADIENT) | (s == Status.DECREMENT) | (s == Status.ROUNDING) | (s == Status.STALLED)
    away = at_rest & much_lower | (at_rest | (s == Status.ITERATIONS)) & lower & _is_far(start, x)
    return state._replace(status=jnp.where(away, Status.INFINITY, state.status), counts=state.counts.plus(tally(2, 2)))

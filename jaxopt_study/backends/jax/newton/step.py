"""The interface between an algorithm and the driver, and the step along a direction by a line search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxopt_study.backends.jax.newton.line_search import LINE_SEARCHES, Found, Line, search
from jaxopt_study.backends.jax.newton.problem import Point, Problem, Vector
from jaxopt_study.backends.jax.newton.result import Counts, Status

__all__ = ["Direction", "Method", "Step", "along", "tally", "when"]


class Step(NamedTuple):
    """The outcome of one iteration.

    Attributes:
        memory: The algorithm's own state.
        decrement: Twice the decrease that the model predicted.
        convex: Whether the Hessian was found positive definite; if not, the point may be a saddle.
        whole: Whether neither damping nor a radius shortened the step. Half the decrement is then an estimate of how
            far the value is above the minimum.
        status: RUNNING, or why no further step can be made.
    """

    point: Point
    memory: Any
    counts: Counts
    decrement: Float[Array, ""]
    convex: Bool[Array, ""]
    whole: Bool[Array, ""]
    status: Array


class Method(NamedTuple):
    """An algorithm: init(point) returns its memory, step(point, memory) makes one iteration."""

    init: Callable[[Point], Any]
    step: Callable[[Point, Any], Step]


class Direction(NamedTuple):
    """A descent direction and the objective's slope along it; the rest as in `Step`.

    Attributes:
        sure: Whether no step can be expected to lower the objective by much more than this one.
    """

    vector: Vector
    slope: Float[Array, ""]
    memory: Any
    counts: Counts
    convex: Bool[Array, ""]
    whole: Bool[Array, ""]
    status: Array
    sure: Any = False


def tally(function: Any = 0, gradient: Any = 0, hvp: Any = 0, hessian: Any = 0) -> Counts:
    """Return counts as arrays, which a compiled loop can carry."""
    return Counts(*(jnp.asarray(count, jnp.int32) for count in (function, gradient, hvp, hessian)))


def when(condition: Array, act: Callable[[Any], Any], state: Any) -> Any:
    """Return act(state) where the condition holds, else the state.

    This is a loop of at most one iteration. Under `vmap`, `lax.cond` would always act, and the loop acts only if a
    run needs it.
    """
    _, state = jax.lax.while_loop(lambda s: s[0], lambda s: (jnp.array(False), act(s[1])), (condition, state))
    return state


def along(
    problem: Problem,
    line_search: str,
    direction: Callable[[Point, Any], Direction],
    after: Callable[[Any, Found], Any],
) -> Callable[[Point, Any], Step]:
    """Return the step along a direction, whose length a line search chooses.

    Args:
        problem: The objective.
        line_search: A name of `LINE_SEARCHES`.
        direction: direction(point, memory), a descent direction.
        after: after(memory, found) returns the memory after the line search, and whether to try again.
    """

    def step(point: Point, memory: Any) -> Step:
        d = direction(point, memory)
        slope = jnp.minimum(d.slope, 0)
        line = Line(point, d.vector, slope, jnp.zeros_like(slope))
        found = search(problem, line, LINE_SEARCHES[line_search])
        memory, again = after(d.memory, found)
        rounding = d.sure & at_rounding_level(point, -slope)
        stuck = jnp.where(rounding, Status.ROUNDING, jnp.where(again, Status.RUNNING, Status.STALLED))
        status = jnp.where(d.status != Status.RUNNING, d.status, jnp.where(found.ok, Status.RUNNING, stuck))
        moved = found.ok & (d.status == Status.RUNNING)
        point = jax.tree.map(lambda new, old: jnp.where(moved, new, old), found.point, point)
        return Step(point, memory, d.counts.plus(tally(found.trials, found.trials)), -slope, d.convex, d.whole, status)

    return step


def at_rounding_level(point: Point, decrement: Array) -> Array:
    """Whether the predicted decrease is too small for the objective's last digits to show."""
    return decrement / 2 <= 100 * jnp.finfo(point.value.dtype).eps * jnp.abs(point.value)

"""What an algorithm is to the driver, and how a direction and a line search make one."""

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
    """What one iteration comes to.

    Attributes:
        memory: What the algorithm itself needs next.
        decrement: Twice the decrease that the model promised.
        convex: Whether the Hessian was seen to be positive definite: no saddle is near.
        whole: Whether the model's own minimum was promised, not one held back by damping or a radius: half the
            decrement is then an estimate of the value above the minimum.
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
    """An algorithm: init(point) is its memory, step(point, memory) one iteration."""

    init: Callable[[Point], Any]
    step: Callable[[Point, Any], Step]


class Direction(NamedTuple):
    """A descent direction and the objective's slope along it; the rest as in `Step`."""

    vector: Vector
    slope: Float[Array, ""]
    memory: Any
    counts: Counts
    convex: Bool[Array, ""]
    whole: Bool[Array, ""]
    status: Array


def tally(function: Any = 0, gradient: Any = 0, hvp: Any = 0, hessian: Any = 0) -> Counts:
    """Return counts as arrays, which a compiled loop can carry."""
    return Counts(*(jnp.asarray(count, jnp.int32) for count in (function, gradient, hvp, hessian)))


def when(condition: Array, act: Callable[[Any], Any], state: Any) -> Any:
    """Return act(state) where the condition holds, else the state.

    A loop of at most one turn: under `vmap`, `lax.cond` would act always, and this acts only if one run needs it.
    """
    _, state = jax.lax.while_loop(lambda s: s[0], lambda s: (jnp.array(False), act(s[1])), (condition, state))
    return state


def along(
    problem: Problem,
    line_search: str,
    direction: Callable[[Point, Any], Direction],
    after: Callable[[Any, Found], Any],
) -> Callable[[Point, Any], Step]:
    """Return the step that follows a direction as far as the line search allows.

    Args:
        problem: The objective.
        line_search: A name of `LINE_SEARCHES`.
        direction: direction(point, memory), a descent direction.
        after: after(memory, found) is the memory once the line search has spoken: (memory, whether to try again).
    """

    def step(point: Point, memory: Any) -> Step:
        d = direction(point, memory)
        slope = jnp.minimum(d.slope, 0)
        line = Line(point, d.vector, slope, jnp.zeros_like(slope))
        found = search(problem, line, LINE_SEARCHES[line_search])
        memory, again = after(d.memory, found)
        stuck = jnp.where(at_floor(point, -slope), Status.FLOOR, jnp.where(again, Status.RUNNING, Status.STALLED))
        status = jnp.where(d.status != Status.RUNNING, d.status, jnp.where(found.ok, Status.RUNNING, stuck))
        moved = found.ok & (d.status == Status.RUNNING)
        point = jax.tree.map(lambda new, old: jnp.where(moved, new, old), found.point, point)
        return Step(point, memory, d.counts.plus(tally(found.trials, found.trials)), -slope, d.convex, d.whole, status)

    return step


def at_floor(point: Point, decrement: Array) -> Array:
    """Whether the decrease that is promised is below what the objective's last digits can show."""
    return decrement / 2 <= 100 * jnp.finfo(point.value.dtype).eps * jnp.abs(point.value)

"""Newton's method with the Hessian itself, damped where it is not positive definite."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from jaxopt_study.backends.jax.newton.line_search import Found
from jaxopt_study.backends.jax.newton.options import Options
from jaxopt_study.backends.jax.newton.problem import Point, Problem, Vector, all_finite, symmetric
from jaxopt_study.backends.jax.newton.result import Status
from jaxopt_study.backends.jax.newton.step import Direction, Method, along, tally

__all__ = ["exact"]

GROWTH = 10.0
MOST = 1e12
"""The damping is relative to the Hessian's diagonal. With this much, a step is a very short gradient step."""


class Solved(NamedTuple):
    """A solution of the damped Newton equations, and the objective's slope along it."""

    damping: Array
    direction: Vector
    slope: Array
    ok: Bool[Array, ""]


def exact(problem: Problem, options: Options) -> Method:
    """Make Newton's method.

        (H + damping |diag H|) d = -g
        x <- x + length d

    The damping is 0 as long as H is positive definite and its steps succeed. Otherwise it grows tenfold from sqrt(eps)
    until they do, and shrinks afterwards (Levenberg; Nocedal and Wright, Numerical Optimization, algorithm 3.3).
    """
    return Method(
        init=lambda point: jnp.zeros_like(point.value),
        step=along(
            problem, options.line_search, lambda point, damping: _direction(problem, options, point, damping), _after
        ),
    )


def _direction(problem: Problem, options: Options, point: Point, damping: Array) -> Direction:
    built = problem.system.build(None, point.x)
    finite = all_finite(built)
    solved = _damped(problem, built, point.gradient, jnp.where(finite, damping, MOST))
    status = jnp.where(solved.ok, Status.RUNNING, jnp.where(finite, Status.STALLED, Status.HESSIAN))
    if callable(options.hessian):
        status = jnp.where(finite & ~symmetric(built), Status.ASYMMETRIC, status)
    return Direction(
        solved.direction,
        solved.slope,
        solved.damping,
        tally(hessian=1),
        solved.damping == 0,
        solved.damping == 0,
        status,
        solved.damping <= _least(damping),
    )


def _damped(problem: Problem, built: Any, gradient: Vector, damping: Array) -> Solved:
    """Solve with the least damping, from `damping` upwards, that makes the matrix positive definite."""

    def attempt(damping: Array) -> Solved:
        direction, ok = problem.system.solve(built, gradient, damping)
        slope = gradient @ direction
        # An entry of the direction that is not finite makes the slope so.
        return Solved(damping, direction, slope, ok & jnp.isfinite(slope) & (slope <= 0))

    def again(state: tuple[Array, Solved]) -> tuple[Array, Solved]:
        solved = attempt(state[0])
        return _more(solved.damping), solved

    none = jnp.zeros_like(damping)
    untried = Solved(none, jnp.zeros_like(gradient), none, jnp.array(False))
    return jax.lax.while_loop(lambda s: ~s[1].ok & (s[1].damping < MOST), again, (damping, untried))[1]


def _after(damping: Array, found: Found) -> tuple[Array, Array]:
    """Damp more after a failure, less after a success."""
    less = jnp.where(damping / GROWTH < _least(damping), 0, damping / GROWTH)
    return jnp.where(found.ok, less, _more(damping)), damping < MOST


def _more(damping: Array) -> Array:
    return jnp.maximum(GROWTH * damping, _least(damping))


def _least(damping: Array) -> Array:
    return jnp.sqrt(jnp.finfo(damping.dtype).eps).astype(damping.dtype)

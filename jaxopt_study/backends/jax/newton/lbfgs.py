"""L-BFGS, as optax has it."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from jaxopt_study.backends.jax.newton.options import Options
from jaxopt_study.backends.jax.newton.problem import Point, Problem, Vector
from jaxopt_study.backends.jax.newton.result import Status
from jaxopt_study.backends.jax.newton.step import Method, Step, at_rounding_level, tally

__all__ = ["lbfgs"]


class Memory(NamedTuple):
    """The optimizer's state."""

    optimizer: Any


def lbfgs(problem: Problem, options: Options) -> Method:
    """Make `optax.lbfgs` with its own zoom line search (Liu and Nocedal, 1989); ten pairs are remembered."""
    del options
    optimizer = optax.lbfgs()

    def value(x: Vector) -> Any:
        return problem.at(x).value

    def init(point: Point) -> Memory:
        return Memory(optimizer.init(point.x))

    def step(point: Point, memory: Memory) -> Step:
        updates, state = optimizer.update(
            point.gradient, memory.optimizer, point.x, value=point.value, grad=point.gradient, value_fn=value
        )
        new = problem.at(point.x + updates)
        rounding = 10 * jnp.finfo(point.value.dtype).eps * jnp.abs(point.value)
        ok = new.finite & (new.value <= point.value + rounding) & jnp.any(new.x != point.x)
        decrement = jnp.abs(point.gradient @ updates)
        moved = jnp.any(new.x != point.x)  # a search that found no length predicts nothing
        stuck = jnp.where(moved & at_rounding_level(point, decrement), Status.ROUNDING, Status.STALLED)
        trials = state[-1].info.num_linesearch_steps + 1
        point = Point(*(jnp.where(ok, a, b) for a, b in zip(new, point, strict=True)))
        return Step(
            point, Memory(state), tally(trials, trials), decrement, jnp.array(False), jnp.array(False),
            jnp.where(ok, Status.RUNNING, stuck),
        )  # fmt: skip

    return Method(init, step)

"""Pure training steps, and `Loop`, the type of the loops in `loops`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

__all__ = ["Loop", "State", "full_batch", "make_step", "nothing_to_compile", "row_by_row"]

Params = Any
Batch = tuple[Array, Array]


class State(NamedTuple):
    """The parameters and the optimizer's state."""

    params: Params
    optimizer: optax.OptState


def nothing_to_compile(state: Any, data: Any, order: Any) -> Iterator[str]:
    """Return no stages."""
    del state, data, order
    return iter(())


class Loop(NamedTuple):
    """A way to loop over training steps, as a tuple of functions.

    Attributes:
        load: load(array) converts a NumPy array of inputs, targets or row numbers to the form that `run` takes.
        init: init(params) returns the state before the first step.
        run: run(state, data, order) makes one step for each entry of `order`, on the rows of data = (inputs, targets)
            with these numbers. A single number means one row without a batch axis. It returns the state after the last
            step and the loss before each step, as an array or a list of scalars.
        stages: stages(state, data, order) compiles the functions that `run` calls with these arguments, and yields the
            name of each stage when it is done: `trace`, `lower`, `compile`.
    """

    load: Callable[[Any], Any]
    init: Callable[[Params], Any]
    run: Callable[[Any, Batch, Int[Array, steps * batch]], tuple[Any, Float[Array, " steps"]]]
    stages: Callable[[Any, Batch, Int[Array, steps * batch]], Iterator[str]] = nothing_to_compile


def make_step(
    loss: Callable[[Params, Batch], Array], optimizer: optax.GradientTransformation
) -> Callable[[State, Batch], tuple[State, Array]]:
    """Return step(state, batch): the state after one update, and the loss before it."""

    def step(state: State, batch: Batch) -> tuple[State, Array]:
        value, gradient = jax.value_and_grad(loss)(state.params, batch)
        updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.params)
        return State(optax.apply_updates(state.params, updates), optimizer_state), value

    return step


Descent = Callable[[Params, Batch, Array, Array], Params]


def full_batch(
    loss: Callable[..., Array], optimizer: Callable[[Array], optax.GradientTransformation], marks: int, stride: int
) -> Descent:
    """Return the function (params, batch, penalty, learning_rate) -> the parameters at the start and at each mark.

    Each step takes all rows. There are `stride` steps from one mark to the next. The learning rate is an argument of
    the compiled function, so a grid of learning rates needs one compilation.

    Args:
        loss: loss(params, batch, penalty).
        optimizer: A row of the optimizer table.
        marks: The number of marks.
        stride: The number of steps between two marks.
    """

    def run(params: Params, batch: Batch, penalty: Array, learning_rate: Array) -> Params:
        step, state = _penalized_step(loss, optimizer(learning_rate), params, penalty)

        def to_mark(state: State, _: None) -> tuple[State, Params]:
            state = jax.lax.fori_loop(0, stride, lambda _, s: step(s, batch)[0], state)
            return state, state.params

        return _with_start(params, jax.lax.scan(to_mark, state, None, length=marks)[1])

    return jax.jit(run)


def row_by_row(
    loss: Callable[..., Array], optimizer: Callable[[Array], optax.GradientTransformation], epochs: int
) -> Descent:
    """Return the same function for the notebook's training: each step takes one row, each epoch ends with a mark."""

    def run(params: Params, batch: Batch, penalty: Array, learning_rate: Array) -> Params:
        step, state = _penalized_step(loss, optimizer(learning_rate), params, penalty)

        def epoch(state: State, _: None) -> tuple[State, Params]:
            state, _losses = jax.lax.scan(step, state, batch)
            return state, state.params

        return _with_start(params, jax.lax.scan(epoch, state, None, length=epochs)[1])

    return jax.jit(run)


def _penalized_step(
    loss: Callable[..., Array], optimizer: optax.GradientTransformation, params: Params, penalty: Array
) -> tuple[Callable[[State, Batch], tuple[State, Array]], State]:
    step = make_step(lambda params, batch: loss(params, batch, penalty), optimizer)
    return step, State(params, optimizer.init(params))


def _with_start(params: Params, marks: Params) -> Params:
    return jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), params, marks)

"""Trainings as paths of parameters: with gradients given (replay), or computed on the way (closed loop)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import numpy.typing as npt
import optax

from jaxopt_study.backends.jax import models, runtime, training
from jaxopt_study.backends.jax.compiling import quick_options

__all__ = ["replay", "search", "train"]

Tree = Mapping[str, Mapping[str, npt.NDArray[Any]]]
Array = npt.NDArray[Any]


def replay(
    optimizer: optax.GradientTransformation, params: Tree, gradients: Tree, kept: Sequence[int]
) -> dict[str, Array]:
    """Return the parameters after each number of steps in `kept`, with these gradients at every step.

    Args:
        optimizer: The optimizer.
        params: Initial parameters in flax's layout.
        gradients: For each leaf the gradients, with the steps as first axis.
        kept: Numbers of steps made.
    """
    start = runtime.params_from_numpy(params)

    def step(state: training.State, gradient: Any) -> tuple[training.State, Any]:
        updates, memory = optimizer.update(gradient, state.optimizer, state.params)
        state = training.State(optax.apply_updates(state.params, updates), memory)
        return state, state.params

    return _path(optimizer, start, step, runtime.params_from_numpy(gradients), kept)


def train(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    params: Tree,
    data: tuple[Array, Array],
    order: Array,
    kept: Sequence[int],
) -> dict[str, Array]:
    """Return the parameters after each number of steps in `kept`, trained by cross-entropy.

    Args:
        model: What `models.network` returned.
        optimizer: The optimizer.
        params: Initial parameters in flax's layout.
        data: Inputs (rows, features) and targets (rows,).
        order: The row, or rows, of each step.
        kept: Numbers of steps made.
    """
    inputs, targets = (runtime.from_numpy(array) for array in data)
    one_step = training.make_step(models.loss(model), optimizer)

    def step(state: training.State, rows: jax.Array) -> tuple[training.State, Any]:
        state, _ = one_step(state, (inputs[rows], targets[rows]))
        return state, state.params

    return _path(optimizer, runtime.params_from_numpy(params), step, runtime.from_numpy(order), kept)


def search(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    params: Tree,
    data: tuple[Array, Array],
    iterations: int,
) -> dict[str, Array]:
    """Minimize the loss of all rows by L-BFGS with a line search.

    Args:
        model: What `models.network` returned.
        optimizer: `optax.lbfgs`, which searches by zoom.
        params: Initial parameters in flax's layout.
        data: Inputs (rows, features) and targets (rows,).
        iterations: How many are made.

    Returns:
        The loss after each iteration, and how often it was computed up to there.
    """
    batch = tuple(runtime.from_numpy(array) for array in data)
    loss = models.loss(model)

    def value(params: Any) -> Any:
        return loss(params, batch)

    value_and_gradient = optax.value_and_grad_from_state(value)

    def step(state: training.State, _: Any) -> tuple[training.State, Any]:
        before, gradient = value_and_gradient(state.params, state=state.optimizer)
        updates, memory = optimizer.update(
            gradient, state.optimizer, state.params, value=before, grad=gradient, value_fn=value
        )
        evaluations = optax.tree.get(memory, "info").num_linesearch_steps
        after = training.State(optax.apply_updates(state.params, updates), memory)
        return after, (optax.tree.get(memory, "value"), evaluations)

    start = runtime.params_from_numpy(params)
    first = training.State(start, optimizer.init(start))
    run = jax.jit(lambda s: jax.lax.scan(step, s, length=iterations), compiler_options=quick_options())
    _, (losses, evaluations) = run(first)
    # The first value is computed before any search.
    return {"losses": runtime.to_numpy(losses), "evaluations": 1 + np.cumsum(runtime.to_numpy(evaluations))}


def _path(
    optimizer: optax.GradientTransformation,
    start: Any,
    step: Callable[[training.State, Any], tuple[training.State, Any]],
    inputs: Any,
    kept: Sequence[int],
) -> dict[str, Array]:
    """Scan over `inputs`; return each leaf by name, with the numbers of steps as first axis."""

    def run(params: Any, inputs: Any) -> Any:
        return jax.lax.scan(step, training.State(params, optimizer.init(params)), inputs)[1]

    path = jax.jit(run, compiler_options=quick_options())(start, inputs)
    places = np.array(kept) - 1
    tree = runtime.params_to_numpy(jax.tree.map(lambda leaf: leaf[places], path))
    return {f"{layer}/{name}": leaf for layer, leaves in tree.items() for name, leaf in leaves.items()}

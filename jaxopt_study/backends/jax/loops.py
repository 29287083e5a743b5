"""Ways to loop over training steps, from the slowest to the fastest. Each returns a `training.Loop`.

All loops make the same steps. They differ in how many steps one call covers, and so in the overhead per step. A step's
loss is `output_loss(outputs, targets)`, one of `models`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from jaxopt_study.backends.jax import models, runtime
from jaxopt_study.backends.jax.compiling import wide_options
from jaxopt_study.backends.jax.models import OutputLoss
from jaxopt_study.backends.jax.native import marked
from jaxopt_study.backends.jax.training import Batch, Loop, Params, State, make_step

__all__ = [
    "donated",
    "flat_scan",
    "jitted",
    "native_scan",
    "nnx_jitted",
    "operator_by_operator",
    "scan",
    "unrolled_scan",
]

Step = Callable[[State, Batch, Any], tuple[State, Array]]


def operator_by_operator(
    model: nn.Module, optimizer: optax.GradientTransformation, output_loss: OutputLoss = models.cross_entropy
) -> Loop:
    """Return the loop without `jax.jit`: Python calls each operator of each step."""
    return _called_from_python(_row_step(model, optimizer, output_loss), optimizer, compiles=False)


def jitted(
    model: nn.Module, optimizer: optax.GradientTransformation, output_loss: OutputLoss = models.cross_entropy
) -> Loop:
    """Return the usual loop: Python calls one compiled function for each step."""
    return _called_from_python(jax.jit(_row_step(model, optimizer, output_loss)), optimizer)


def donated(
    model: nn.Module, optimizer: optax.GradientTransformation, output_loss: OutputLoss = models.cross_entropy
) -> Loop:
    """Return the usual loop with the state's buffers donated, so that each step writes its result in place."""
    return _called_from_python(
        jax.jit(_row_step(model, optimizer, output_loss), donate_argnums=0), optimizer, donates=True
    )


def nnx_jitted(
    model: models.Network, optimizer: optax.GradientTransformation, output_loss: OutputLoss = models.cross_entropy
) -> Loop:
    """Return the usual loop in flax.nnx: Python calls one step under `nnx.jit`, see `nnx_loop`."""
    from jaxopt_study.backends.jax import nnx_loop  # flax.nnx takes a quarter of a second to load

    return nnx_loop.nnx_jitted(model, optimizer, output_loss)


def scan(
    model: nn.Module, optimizer: optax.GradientTransformation, output_loss: OutputLoss = models.cross_entropy
) -> Loop:
    """Return the loop that compiles all its steps into one `lax.scan`."""
    return _compiled(_scanned(_row_step(model, optimizer, output_loss)), optimizer)


def unrolled_scan(
    model: nn.Module, optimizer: optax.GradientTransformation, output_loss: OutputLoss = models.cross_entropy
) -> Loop:
    """Return the scan in which each iteration makes four steps."""
    return _compiled(_scanned(_row_step(model, optimizer, output_loss), unroll=4), optimizer)


def flat_scan(
    model: nn.Module, optimizer: optax.GradientTransformation, output_loss: OutputLoss = models.cross_entropy
) -> Loop:
    """Return the scan with all parameters in one vector, so that the optimizer updates one leaf."""

    def run(state: State, data: Batch, order: Array) -> tuple[State, Array]:
        vector, unravel = ravel_pytree(state.params)
        loss = models.batch_loss(model, output_loss)
        step = make_step(lambda flat, batch: loss(unravel(flat), batch), optimizer)
        last, losses = _scanned(_on_rows(step))(State(vector, state.optimizer), data, order)
        return State(unravel(last.params), last.optimizer), losses

    def init(params: Params) -> State:
        return State(params, optimizer.init(ravel_pytree(params)[0]))

    return _loop(init, jax.jit(run))


def native_scan(
    model: nn.Module, optimizer: optax.GradientTransformation, output_loss: OutputLoss = models.cross_entropy
) -> Loop:
    """Return the scan that XLA compiles into one native function on a CPU, see `native`; elsewhere this is `scan`."""
    return _compiled(marked(_scanned(_row_step(model, optimizer, output_loss))), optimizer, wide_options())


def _on_rows(step: Callable[[State, Batch], tuple[State, Array]]) -> Step:
    """Return the step that takes all data and the numbers of its rows."""

    def on_rows(state: State, data: Batch, rows: Any) -> tuple[State, Array]:
        inputs, targets = data
        return step(state, (inputs[rows], targets[rows]))

    return on_rows


def _row_step(model: nn.Module, optimizer: optax.GradientTransformation, output_loss: OutputLoss) -> Step:
    return _on_rows(make_step(models.batch_loss(model, output_loss), optimizer))


def _scanned(step: Step, unroll: int = 1) -> Callable[[State, Batch, Array], tuple[State, Array]]:
    def run(state: State, data: Batch, order: Array) -> tuple[State, Array]:
        return jax.lax.scan(lambda s, rows: step(s, data, rows), state, order, unroll=unroll)

    return run


def _compiled(
    run: Callable[..., tuple[State, Array]],
    optimizer: optax.GradientTransformation,
    options: dict[str, Any] | None = None,
) -> Loop:
    return _loop(lambda params: State(params, optimizer.init(params)), jax.jit(run, compiler_options=options))


def _loop(init: Callable[[Params], State], run: Any) -> Loop:
    """Return the loop with this compiled `run`."""

    def stages(state: State, data: Batch, order: Array) -> Iterator[str]:
        return runtime.compilation(run, state, data, order)

    return Loop(runtime.from_numpy, jax.jit(init), run, stages)


def _called_from_python(
    step: Any, optimizer: optax.GradientTransformation, donates: bool = False, compiles: bool = True
) -> Loop:
    """Return the loop in which Python calls `step`; the losses stay on the device in a list."""

    def init(params: Params) -> State:
        state = State(params, optimizer.init(params))
        return jax.tree.map(lambda leaf: leaf.copy(), state) if donates else state

    def run(state: State, data: Batch, order: Array) -> tuple[State, list[Array]]:
        losses = []
        for rows in np.asarray(order):
            state, loss = step(state, data, rows)
            losses.append(loss)
        return state, losses

    def stages(state: State, data: Batch, order: Array) -> Iterator[str]:
        return runtime.compilation(step, state, data, np.asarray(order)[0])

    return Loop(runtime.from_numpy, init, run, *([stages] if compiles else []))

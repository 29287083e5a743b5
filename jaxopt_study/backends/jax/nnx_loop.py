"""The training loop in flax.nnx, where a module holds its own parameters."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array

from jaxopt_study.backends.jax import models, runtime
from jaxopt_study.backends.jax.training import Batch, Loop, Params

__all__ = ["nnx_jitted"]


class NnxNetwork(nnx.Module):
    """`models.Network` as an nnx module: dense layers and an activation between, kernels (inputs, outputs)."""

    def __init__(self, widths: tuple[int, ...], activation: str, dtype: Any) -> None:
        self.depth, self.activation = len(widths) - 1, activation
        for number, (inputs, outputs) in enumerate(pairwise(widths), start=1):
            setattr(self, f"layer{number}", nnx.Linear(inputs, outputs, param_dtype=dtype, rngs=nnx.Rngs(0)))

    def __call__(self, x: Array) -> Array:
        """Return the logits of the rows `x`."""
        for number in range(1, self.depth + 1):
            x = models.ACTIVATIONS[self.activation](x) if number > 1 else x
            x = getattr(self, f"layer{number}")(x)
        return x


class NnxState(NamedTuple):
    """The network and its optimizer; a step changes both in place."""

    model: NnxNetwork
    optimizer: nnx.Optimizer

    @property
    def params(self) -> Params:
        """The parameters, in this backend's layout."""
        layers = {f"layer{number}": getattr(self.model, f"layer{number}") for number in range(1, self.model.depth + 1)}
        return {name: {"kernel": layer.kernel[...].T, "bias": layer.bias[...]} for name, layer in layers.items()}


def nnx_jitted(
    model: models.Network,
    optimizer: optax.GradientTransformation,
    output_loss: models.OutputLoss = models.cross_entropy,
) -> Loop:
    """Return the usual nnx loop: Python calls a step under `nnx.jit`, which splits and merges the modules at each call.

    Args:
        model: The network whose widths and activation the nnx network gets.
        optimizer: The rule that the `nnx.Optimizer` applies.
        output_loss: output_loss(outputs, targets) returns the loss of a batch.
    """

    @nnx.jit
    def step(network: NnxNetwork, state: nnx.Optimizer, data: Batch, rows: Any) -> Array:
        inputs, targets = data
        batch = inputs[rows], targets[rows]
        value, gradient = nnx.value_and_grad(lambda net: output_loss(net(batch[0]), batch[1]))(network)
        state.update(network, gradient)
        return value

    def init(params: Params) -> NnxState:
        network = NnxNetwork(model.widths, model.activation, jax.tree.leaves(params)[0].dtype)
        for name, leaves in params.items():
            layer = getattr(network, name)
            layer.kernel[...], layer.bias[...] = leaves["kernel"].T, leaves["bias"]
        return NnxState(network, nnx.Optimizer(network, optimizer, wrt=nnx.Param))

    def run(state: NnxState, data: Batch, order: Array) -> tuple[NnxState, list[Array]]:
        return state, [step(*state, data, rows) for rows in np.asarray(order)]

    def stages(state: NnxState, data: Batch, order: Array) -> Iterator[str]:
        """Compile by one step of a copy; nnx has no separate stages."""
        jax.block_until_ready(step(*init(state.params), data, np.asarray(order)[0]))
        yield "compile"

    return Loop(runtime.from_numpy, init, run, stages)

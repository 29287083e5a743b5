"""Ways to loop over training steps, from the slowest to the fastest. Each returns a `training.Loop`.

All make the same steps; they differ in how much of them one call covers, and so in what the steps cost beside their
arithmetic. Those that need what is not here raise NotImplementedError with the reason.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from torch_reference import models, runtime
from torch_reference.optimizers import Optimizer, implementation
from torch_reference.training import Batch, Loop, Params, State, make_step

__all__ = ["foreach", "fused", "notebook", "prepared"]

Order = npt.NDArray[np.integer]
LAZY = (torch.optim.Adam, torch.optim.RMSprop)
"""Optimizers whose first step makes buffers of zeros; SGD's momentum begins with the first gradient."""


def notebook(model: nn.Module, optimizer: Optimizer) -> Loop:
    """Return the notebook's own loop: data stay in NumPy, each step converts its row and reads its loss by `item`."""
    step = make_step(models.cross_entropy)

    def run(state: State, data: Batch, order: Order) -> tuple[State, npt.NDArray[np.floating]]:
        losses = []
        for rows in order:
            inputs, targets = (runtime.from_numpy(array[rows]) for array in data)
            state, value = step(state, (inputs, targets))
            losses.append(value.item())
        return state, np.array(losses)

    return Loop(np.asarray, partial(trained, model, optimizer), run)


def prepared(model: nn.Module, optimizer: Optimizer) -> Loop:
    """Return the usual loop: data are tensors, rows are taken out beforehand, and losses stay tensors until the end."""
    step = make_step(models.cross_entropy)

    def run(state: State, data: Batch, order: Order) -> tuple[State, Tensor]:
        losses = []
        for batch in batches(data, order):
            state, value = step(state, batch)
            losses.append(value.detach())
        return state, torch.stack(losses)

    return Loop(runtime.from_numpy, partial(trained, model, optimizer), run)


def foreach(model: nn.Module, optimizer: Optimizer) -> Loop:
    """Return `prepared` with the optimizer's `foreach` implementation: one call for all parameters of each operator."""
    return prepared(model, implementation(optimizer, "foreach"))


def fused(model: nn.Module, optimizer: Optimizer) -> Loop:
    """Return `prepared` with the optimizer's `fused` implementation: one kernel for the whole update.

    Raises:
        NotImplementedError: The optimizer has none.
    """
    return prepared(model, implementation(optimizer, "fused"))


def batches(data: Batch, order: Any) -> Iterable[Batch]:
    """Return the batch of each step, all taken out of the data at once."""
    return zip(*(array[order].unbind() for array in data), strict=True)


def trained(model: nn.Module, optimizer: Optimizer, params: Params) -> State:
    """Return a copy of the model with these parameters, and an optimizer of them with its buffers."""
    copied = copy.deepcopy(model).to(runtime.ravel(params).device)
    state = State(copied, optimizer(copied.parameters()))
    if isinstance(state.optimizer, LAZY):
        _make_buffers(state)
    copied.load_state_dict(dict(params))
    return state


def _make_buffers(state: State) -> None:
    """Let an optimizer make its buffers now, as optax does: its first step would, and be longer than the others.

    That step is made at parameters and gradients of zero, which leaves all but the count of steps at zero.
    """
    for leaf in state.params.values():
        leaf.grad = torch.zeros_like(leaf.detach().zero_())
    state.optimizer.step()
    state.optimizer.zero_grad()
    for buffers in state.optimizer.state.values():
        buffers["step"].zero_()

"""Ways to loop over training steps, from the slowest to the fastest. Each returns a `training.Loop`.

All loops make the same steps. They differ in how many operators one call covers, and so in the overhead per step. A
loop that this machine or this PyTorch cannot run raises NotImplementedError with the reason. A step's loss is
`output_loss(outputs, targets)`, one of `models`.
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
from torch_reference.models import OutputLoss
from torch_reference.optimizers import Optimizer, implementation
from torch_reference.training import Batch, Loop, Params, State, make_step

__all__ = ["foreach", "fused", "notebook", "prepared", "quickest"]

Order = npt.NDArray[np.integer]
LAZY = (torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop)
"""Optimizers whose first step makes buffers of zeros; SGD's momentum starts from the first gradient. Of a subclass,
which may be a user's, nothing is known."""


def notebook(model: nn.Module, optimizer: Optimizer, output_loss: OutputLoss = models.cross_entropy) -> Loop:
    """Return the notebook's loop: data stay in NumPy, each step converts its row and reads its loss by `item`."""
    step = make_step(output_loss)

    def run(state: State, data: Batch, order: Order) -> tuple[State, npt.NDArray[np.floating]]:
        losses = []
        for rows in order:
            inputs, targets = (runtime.from_numpy(array[rows]) for array in data)
            state, value = step(state, (inputs, targets))
            losses.append(value.item())
        return state, np.array(losses)

    return Loop(np.asarray, partial(trained, model, optimizer), run)


def prepared(model: nn.Module, optimizer: Optimizer, output_loss: OutputLoss = models.cross_entropy) -> Loop:
    """Return the usual loop: data are tensors, all rows are indexed before the loop, and losses stay tensors."""
    step = make_step(output_loss)

    def run(state: State, data: Batch, order: Order) -> tuple[State, Tensor]:
        losses = []
        for batch in batches(data, order):
            state, value = step(state, batch)
            losses.append(value.detach())
        return state, torch.stack(losses)

    return Loop(runtime.from_numpy, partial(trained, model, optimizer), run)


def foreach(model: nn.Module, optimizer: Optimizer, output_loss: OutputLoss = models.cross_entropy) -> Loop:
    """Return `prepared` with the optimizer's `foreach` implementation: one call per operator, for all parameters."""
    return prepared(model, implementation(optimizer, "foreach"), output_loss)


def fused(model: nn.Module, optimizer: Optimizer, output_loss: OutputLoss = models.cross_entropy) -> Loop:
    """Return `prepared` with the optimizer's `fused` implementation: one kernel for the whole update.

    Raises:
        NotImplementedError: The optimizer has no such implementation.
    """
    return prepared(model, implementation(optimizer, "fused"), output_loss)


def quickest(model: nn.Module, optimizer: Optimizer, output_loss: OutputLoss = models.cross_entropy) -> Loop:
    """Return `fused` where the optimizer has it, or else `prepared`: the quickest loops that compile nothing."""
    try:
        return fused(model, optimizer, output_loss)
    except NotImplementedError:
        return prepared(model, optimizer, output_loss)


def batches(data: Batch, order: Any) -> Iterable[Batch]:
    """Return the batch of each step; one indexing operation takes them all from the data."""
    return zip(*(array[order].unbind() for array in data), strict=True)


def trained(model: nn.Module, optimizer: Optimizer, params: Params) -> State:
    """Return a copy of the model with these parameters, and its optimizer with all buffers made."""
    copied = copy.deepcopy(model).to(runtime.ravel(params).device)
    set_params(copied, params)  # before the optimizer is made: a user's may keep a copy
    state = State(copied, optimizer(copied.parameters()))
    if type(state.optimizer) in LAZY:
        _make_buffers(state)
        set_params(copied, params)
    return state


def set_params(model: nn.Module, params: Params) -> None:
    """Copy parameters into a model; buffers that a user's model may have stay as they are."""
    with torch.no_grad():
        for name, leaf in model.named_parameters():
            leaf.copy_(params[name])


def _make_buffers(state: State) -> None:
    """Let an optimizer make its buffers now, as optax does; otherwise its first step would, and take longer.

    One step is made with parameters and gradients of zero. It leaves all buffers at zero except the count of steps,
    which is then set back.
    """
    for leaf in state.params.values():
        leaf.grad = torch.zeros_like(leaf.detach().zero_())
    state.optimizer.step()
    state.optimizer.zero_grad()
    for buffers in state.optimizer.state.values():
        buffers["step"].zero_()

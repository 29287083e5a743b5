"""Training steps, and the ways to loop over them.

A way to loop is a pair of functions, `Loop`; its `run` returns the loss of every step.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from torch_reference import models, runtime

__all__ = ["Loop", "State", "make_step", "notebook"]

Params = Mapping[str, Tensor]
Batch = tuple[Any, Any]


class State(NamedTuple):
    """What the next step needs; both parts are changed in place."""

    model: nn.Module
    optimizer: torch.optim.Optimizer

    @property
    def params(self) -> dict[str, Tensor]:
        """The parameters by name."""
        return dict(self.model.named_parameters())


class Loop(NamedTuple):
    """A way to loop over training steps.

    Attributes:
        load: load(array) puts a NumPy array of inputs or targets where `run` wants it.
        init: init(params) is the state before the first step.
        run: run(state, data, order) makes one step for each entry of `order`, on the rows of data = (inputs, targets)
            that the entry names (an integer: that row alone, without a batch axis), and returns the state after the
            last step and the losses before each.
    """

    load: Callable[[Any], Any]
    init: Callable[[Params], State]
    run: Callable[[State, Batch, npt.NDArray[np.integer]], tuple[State, npt.NDArray[np.floating]]]


def make_step(
    loss: Callable[[Tensor, Tensor], Tensor],
) -> Callable[[State, Batch], tuple[State, Tensor]]:
    """Return step(state, batch): the state after one update, and the loss before it."""

    def step(state: State, batch: Batch) -> tuple[State, Tensor]:
        inputs, targets = batch
        state.optimizer.zero_grad()
        value = loss(state.model(inputs), targets)
        value.backward()
        state.optimizer.step()
        return state, value

    return step


def notebook(model: nn.Module, optimizer: Callable[[Iterable[Tensor]], torch.optim.Optimizer]) -> Loop:
    """Return the notebook's own loop: data stay in NumPy, each step converts its row and reads its loss by `item`."""
    step = make_step(models.cross_entropy)

    def init(params: Params) -> State:
        trained = copy.deepcopy(model).to(runtime.ravel(params).device)
        trained.load_state_dict(dict(params))
        return State(trained, optimizer(trained.parameters()))

    def run(state: State, data: Batch, order: npt.NDArray[np.integer]) -> tuple[State, npt.NDArray[np.floating]]:
        losses = []
        for rows in order:
            inputs, targets = (runtime.from_numpy(array[rows]) for array in data)
            state, value = step(state, (inputs, targets))
            losses.append(value.item())
        return state, np.array(losses)

    return Loop(np.asarray, init, run)

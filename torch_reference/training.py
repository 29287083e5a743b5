"""Training steps, and `Loop`, the type of the loops in `loops`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from torch_reference.optimizers import Optimizer, quickest

__all__ = ["Loop", "State", "full_batch", "make_step", "nothing_to_compile", "row_by_row"]

Params = Mapping[str, Tensor]
Batch = tuple[Any, Any]


class State(NamedTuple):
    """The model and its optimizer; a step changes both in place."""

    model: nn.Module
    optimizer: torch.optim.Optimizer

    @property
    def params(self) -> dict[str, Tensor]:
        """The parameters by name."""
        return dict(self.model.named_parameters())


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
            name of each stage when it is done: `compile`.
    """

    load: Callable[[Any], Any]
    init: Callable[[Params], Any]
    run: Callable[[Any, Batch, npt.NDArray[np.integer]], tuple[Any, Any]]
    stages: Callable[[Any, Batch, npt.NDArray[np.integer]], Iterator[str]] = nothing_to_compile


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


Descent = Callable[[Params, Batch, Tensor, Tensor], dict[str, Tensor]]


def full_batch(
    loss: Callable[..., Tensor], optimizer: Callable[[float], Optimizer], marks: int, stride: int
) -> Descent:
    """Return the function (params, batch, penalty, learning_rate) -> the parameters at the start and at each mark.

    Each step takes all rows. There are `stride` steps from one mark to the next.

    Args:
        loss: loss(params, batch, penalty).
        optimizer: A row of the optimizer table.
        marks: The number of marks.
        stride: The number of steps between two marks.
    """
    return _descent(loss, optimizer, lambda batch: repeat(batch, stride), marks)


def row_by_row(loss: Callable[..., Tensor], optimizer: Callable[[float], Optimizer], epochs: int) -> Descent:
    """Return the same function for the notebook's training: each step takes one row, each epoch ends with a mark."""
    return _descent(loss, optimizer, lambda batch: zip(*(array.unbind() for array in batch), strict=True), epochs)


def _descent(
    loss: Callable[..., Tensor],
    optimizer: Callable[[float], Optimizer],
    between_marks: Callable[[Batch], Iterable[Batch]],
    marks: int,
) -> Descent:
    quickest(optimizer(1.0))  # makes one, because the first optimizer of a process loads torch._dynamo

    def run(params: Params, batch: Batch, penalty: Tensor, learning_rate: Tensor) -> dict[str, Tensor]:
        leaves = {name: leaf.detach().clone().requires_grad_() for name, leaf in params.items()}
        state = quickest(optimizer(float(learning_rate)))(leaves.values())
        path = [_copied(leaves)]
        for _ in range(marks):
            for part in between_marks(batch):
                state.zero_grad()
                loss(leaves, part, penalty).backward()
                state.step()
            path.append(_copied(leaves))
        return {name: torch.stack([point[name] for point in path]) for name in leaves}

    return run


def _copied(leaves: Params) -> dict[str, Tensor]:
    return {name: leaf.detach().clone() for name, leaf in leaves.items()}

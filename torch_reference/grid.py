"""One training of the ranking's grid, in the usual loop of PyTorch; JAX makes the whole grid in one program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torch_reference.loops import batches, trained
from torch_reference.models import OutputLoss
from torch_reference.optimizers import Optimizer
from torch_reference.training import make_step

__all__ = ["Curves", "training"]


class Curves(NamedTuple):
    """The losses of a training.

    Attributes:
        training: The mean loss of the steps of each epoch: (epochs,).
        validation: The loss of the validation rows after each epoch: (epochs,).
        test: The loss of the test rows after the last epoch: ().
    """

    training: Float[Tensor, " epochs"]
    validation: Float[Tensor, " epochs"]
    test: Float[Tensor, ""]


Run = Callable[..., Curves]
"""run(params, order, rates, train, validation, test) -> Curves.

`order` has the rows of each step, (epochs, steps) or (epochs, steps, batch), and `rates` the learning rate of each
step, (epochs, steps). The last three are pairs of inputs and targets.
"""


def training(model: nn.Module, optimizer: Callable[[Any], Optimizer], output_loss: OutputLoss) -> Run:
    """Return the function that makes one training.

    Args:
        model: What `models` made.
        optimizer: A row of the optimizer table.
        output_loss: The loss of outputs and targets.
    """
    step = make_step(output_loss)

    def run(params: Any, order: Tensor, rates: Tensor, train: Any, validation: Any, test: Any) -> Curves:
        by_step: list[list[float]] = rates.tolist()
        state, losses, held_out = trained(model, optimizer(by_step[0][0]), params), [], []
        for rows, of_epoch in zip(order, by_step, strict=True):
            of_steps = []
            for batch, rate in zip(batches(train, rows), of_epoch, strict=True):
                for group in state.optimizer.param_groups:
                    group["lr"] = rate
                state, value = step(state, batch)
                of_steps.append(value.detach())
            losses.append(torch.stack(of_steps).mean())
            held_out.append(_evaluated(state.model, output_loss, validation))
        return Curves(torch.stack(losses), torch.stack(held_out), _evaluated(state.model, output_loss, test))

    return run


@torch.no_grad()
def _evaluated(model: nn.Module, output_loss: OutputLoss, rows: Any) -> Tensor:
    inputs, targets = rows
    return output_loss(model(inputs), targets)

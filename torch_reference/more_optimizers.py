"""The optimizers that the ranking trains with in PyTorch: the table of `optimizers`, and others of torch.optim."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from torch_reference import optimizers
from torch_reference.optimizers import Optimizer

__all__ = ["OPTIMIZERS", "nesterov"]


def nesterov(learning_rate: float, decay: float = 0.9) -> Optimizer:
    """Make gradient descent with Nesterov momentum (1983), `torch.optim.SGD` with `nesterov=True`.

    m <- decay m + g
    p <- p - learning_rate (g + decay m)
    """
    return partial(torch.optim.SGD, lr=learning_rate, momentum=decay, nesterov=True)


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {**optimizers.OPTIMIZERS, "nesterov": nesterov}

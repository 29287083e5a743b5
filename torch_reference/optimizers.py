"""The optimizer table in torch.optim: as in optax, an optimizer is made first and gets its parameters later.

`b1`, `b2` and `eps` have optax's meaning.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor

from torch_reference import runtime

__all__ = ["OPTIMIZERS", "adagrad", "adam", "adamw", "implementation", "momentum", "quickest", "rmsprop", "sgd"]

Optimizer = Callable[[Iterable[Tensor]], torch.optim.Optimizer]


def adam(learning_rate: float, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Optimizer:
    """Make Adam (Kingma and Ba, 2015), `torch.optim.Adam`.

    m <- b1 m + (1 - b1) g,    v <- b2 v + (1 - b2) g^2
    p <- p - learning_rate m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)
    """
    return partial(torch.optim.Adam, lr=learning_rate, betas=(b1, b2), eps=eps)


def adamw(
    learning_rate: float, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, weight_decay: float = 1e-2
) -> Optimizer:
    """Make Adam with decoupled weight decay (Loshchilov and Hutter, 2019), `torch.optim.AdamW`.

    Adam's update, and p <- p - learning_rate weight_decay p.
    """
    return partial(torch.optim.AdamW, lr=learning_rate, betas=(b1, b2), eps=eps, weight_decay=weight_decay)


def rmsprop(learning_rate: float, decay: float = 0.99, eps: float = 1e-8) -> Optimizer:
    """Make RMSprop (Tieleman and Hinton, 2012), `torch.optim.RMSprop`, which calls the decay alpha.

    v <- decay v + (1 - decay) g^2
    p <- p - learning_rate g / (sqrt(v) + eps)
    """
    return partial(torch.optim.RMSprop, lr=learning_rate, alpha=decay, eps=eps)


def sgd(learning_rate: float) -> Optimizer:
    """Make stochastic gradient descent, `torch.optim.SGD`.

    p <- p - learning_rate g
    """
    return partial(torch.optim.SGD, lr=learning_rate)


def momentum(learning_rate: float, decay: float = 0.9) -> Optimizer:
    """Make gradient descent with heavy-ball momentum (Polyak, 1964), `torch.optim.SGD` with `momentum=decay`.

    m <- decay m + g
    p <- p - learning_rate m
    """
    return partial(torch.optim.SGD, lr=learning_rate, momentum=decay)


def adagrad(learning_rate: float, eps: float = 1e-10) -> Optimizer:
    """Make Adagrad (Duchi, Hazan and Singer, 2011), `torch.optim.Adagrad`.

    s <- s + g^2
    p <- p - learning_rate g / (sqrt(s) + eps)
    """
    return partial(torch.optim.Adagrad, lr=learning_rate, eps=eps)


def implementation(optimizer: Optimizer, name: str) -> Optimizer:
    """Make the optimizer with the implementation of that name, `foreach` or `fused`.

    Raises:
        NotImplementedError: It has no such implementation, or not for the device that `runtime.configure` set.
    """
    kind = getattr(optimizer, "func", optimizer)
    place = "torch.optim." if kind.__module__.startswith("torch.optim") else ""
    words = f"{place}{getattr(kind, '__name__', kind)} has no {name} implementation"
    if name not in inspect.signature(kind).parameters:
        raise NotImplementedError(words)
    device = runtime.from_numpy(np.zeros(())).device
    if not _accepts(kind, name, device):
        raise NotImplementedError(f"{words} for {device.type}")
    return partial(optimizer, **{name: True})


@cache
def _accepts(kind: Callable[..., torch.optim.Optimizer], name: str, device: torch.device) -> bool:
    """Return whether an optimizer has the implementation for a device; fused Adagrad, for example, has none for a GPU.

    PyTorch raises only at the first step, so one is made.
    """
    parameter = torch.zeros(1, device=device, requires_grad=True)
    parameter.grad = torch.zeros_like(parameter)
    try:
        kind([parameter], **{name: True}).step()
    except RuntimeError:
        return False
    return True


def quickest(optimizer: Optimizer) -> Optimizer:
    """Make the optimizer with `fused`, one kernel for the whole update, or else with `foreach`."""
    try:
        return implementation(optimizer, "fused")
    except NotImplementedError:
        return implementation(optimizer, "foreach")


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adam": adam,
    "rmsprop": rmsprop,
    "sgd": sgd,
    "adagrad": adagrad,
    "momentum": momentum,
    "adamw": adamw,
}

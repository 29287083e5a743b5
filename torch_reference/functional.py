"""The optimizer table as pairs of pure functions, (init, update), as in optax, for `torch.compile`.

Each makes the update of the torch.optim class of the same name, in the same order of operations. The count of steps is
a tensor, because a Python number would be a constant of the compiled code.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["FUNCTIONAL", "Pure"]

Params = dict[str, Tensor]
Leaf = tuple[Tensor, ...]


class Pure(NamedTuple):
    """An optimizer that holds no state.

    Attributes:
        init: init(params) returns the state before the first step.
        update: update(gradient, state, params) returns (new params, new state).
    """

    init: Callable[[Params], Any]
    update: Callable[[Params, Any, Params], tuple[Params, Any]]


def _adam(
    g: Tensor, p: Tensor, t: Tensor, m: Tensor, v: Tensor, learning_rate: float, b1: float, b2: float, eps: float
) -> tuple[Tensor, Leaf]:
    m = m + (1 - b1) * (g - m)
    v = b2 * v + (1 - b2) * g * g
    root = v.sqrt() / (1 - b2**t).sqrt().to(p.dtype) + eps
    return p - (learning_rate / (1 - b1**t)).to(p.dtype) * (m / root), (m, v)


def _rmsprop(
    g: Tensor, p: Tensor, t: Tensor, v: Tensor, learning_rate: float, decay: float, eps: float
) -> tuple[Tensor, Leaf]:
    del t
    v = decay * v + (1 - decay) * g * g
    return p - learning_rate * (g / (v.sqrt() + eps)), (v,)


def _sgd(g: Tensor, p: Tensor, t: Tensor, learning_rate: float) -> tuple[Tensor, Leaf]:
    del t
    return p - learning_rate * g, ()


def _adagrad(g: Tensor, p: Tensor, t: Tensor, s: Tensor, learning_rate: float, eps: float) -> tuple[Tensor, Leaf]:
    del t
    s = s + g * g
    return p - learning_rate * (g / (s.sqrt() + eps)), (s,)


def _pure(rule: Callable[..., tuple[Tensor, Leaf]], buffers: int) -> Pure:
    """Return the optimizer that applies `rule` to each leaf; each leaf has this number of buffers, which start at 0."""

    def init(params: Params) -> Any:
        like = next(iter(params.values()))
        leaves = {name: tuple(torch.zeros_like(p) for _ in range(buffers)) for name, p in params.items()}
        return torch.zeros((), dtype=torch.float64, device=like.device), leaves

    def update(gradient: Params, state: Any, params: Params) -> tuple[Params, Any]:
        t, leaves = state[0] + 1, state[1]
        new = {name: rule(gradient[name], p, t, *leaves[name]) for name, p in params.items()}
        return {name: p for name, (p, _) in new.items()}, (t, {name: leaf for name, (_, leaf) in new.items()})

    return Pure(init, update)


def adam(learning_rate: float, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Pure:
    """Make Adam. m <- b1 m + (1 - b1) g is written as m + (1 - b1) (g - m), as torch's `lerp_` computes it."""
    return _pure(partial(_adam, learning_rate=learning_rate, b1=b1, b2=b2, eps=eps), buffers=2)


def rmsprop(learning_rate: float, decay: float = 0.99, eps: float = 1e-8) -> Pure:
    """Make RMSprop."""
    return _pure(partial(_rmsprop, learning_rate=learning_rate, decay=decay, eps=eps), buffers=1)


def sgd(learning_rate: float) -> Pure:
    """Make stochastic gradient descent."""
    return _pure(partial(_sgd, learning_rate=learning_rate), buffers=0)


def adagrad(learning_rate: float, eps: float = 1e-10) -> Pure:
    """Make Adagrad."""
    return _pure(partial(_adagrad, learning_rate=learning_rate, eps=eps), buffers=1)


FUNCTIONAL: dict[str, Callable[..., Pure]] = {"adam": adam, "rmsprop": rmsprop, "sgd": sgd, "adagrad": adagrad}

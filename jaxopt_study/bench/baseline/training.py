"""Training by hand, in NumPy: what an epoch must give, from formulas that share no code with a framework."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from jaxopt_study.bench import workload
from jaxopt_study.bench.baseline.derivatives import gradient_network, loss_network

__all__ = ["RULES", "train"]

Array = npt.NDArray[Any]
Memory = tuple[Array, Array]
Rule = Callable[[Array, int, Memory], tuple[Array, Memory]]


def train(
    params: Any, data: tuple[Array, Array], order: npt.NDArray[np.integer], optimizer: str, learning_rate: float
) -> tuple[Array, Any]:
    """Train a network of dense layers with tanh between them on the mean cross-entropy, in the arrays' own type.

    Args:
        params: Initial parameters in flax's layout.
        data: Inputs (rows, features) and integer targets (rows,).
        order: The row, or rows, of each step: (steps,) or (steps, batch).
        optimizer: A name in `RULES`.
        learning_rate: What the rule's direction is multiplied by.

    Returns:
        The loss before each step, (steps,), and the parameters after the last.
    """
    rule, losses = RULES[optimizer], np.empty(len(order))
    zeros = np.zeros_like(workload.ravel(params))
    memory = (zeros, zeros)
    for number, rows in enumerate(order):
        batch = tuple(array[np.atleast_1d(rows)] for array in data)
        losses[number] = loss_network(params, batch)
        direction, memory = rule(gradient_network(params, batch), number + 1, memory)
        params = workload.shift(params, -learning_rate * direction)
    return losses, params


def adam(gradient: Array, step: int, memory: Memory) -> tuple[Array, Memory]:
    """Return Adam's direction (Kingma and Ba, 2015), with b1 = 0.9, b2 = 0.999, eps = 1e-8."""
    m = 0.9 * memory[0] + (1 - 0.9) * gradient
    v = 0.999 * memory[1] + (1 - 0.999) * gradient**2
    return m / (1 - 0.9**step) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8), (m, v)


def rmsprop(gradient: Array, step: int, memory: Memory) -> tuple[Array, Memory]:
    """Return RMSprop's direction (Tieleman and Hinton, 2012), with decay 0.99 and eps = 1e-8 outside the root."""
    del step
    v = 0.99 * memory[0] + (1 - 0.99) * gradient**2
    return gradient / (np.sqrt(v) + 1e-8), (v, memory[1])


def sgd(gradient: Array, step: int, memory: Memory) -> tuple[Array, Memory]:
    """Return the gradient."""
    del step
    return gradient, memory


def adagrad(gradient: Array, step: int, memory: Memory) -> tuple[Array, Memory]:
    """Return Adagrad's direction (Duchi, Hazan and Singer, 2011), with eps = 1e-10 outside the root of a sum from 0."""
    del step
    total = memory[0] + gradient**2
    return gradient / (np.sqrt(total) + 1e-10), (total, memory[1])


RULES: dict[str, Rule] = {"adam": adam, "rmsprop": rmsprop, "sgd": sgd, "adagrad": adagrad}

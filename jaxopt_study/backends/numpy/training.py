"""Training by formula, in float64: the reference for the losses of every loop."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from jaxopt_study.backends.numpy.derivatives import loss_and_gradient
from jaxopt_study.backends.numpy.runtime import Array, ParameterTree

Rule = Callable[..., Array]
"""rule(gradient, first buffer, second buffer, number of the step, from 1): the update without the learning rate. It
changes the buffers in place."""


def train(
    params: ParameterTree,
    data: tuple[Array, Array],
    order: Array,
    optimizer: str,
    learning_rate: float,
    activation: str = "tanh",
) -> tuple[Array, ParameterTree]:
    """Make one step for each entry of `order`; return the losses before each, and the parameters after the last.

    Args:
        params: In flax's layout; dense layers.
        data: Inputs (rows, features) and integer targets (rows,).
        order: The rows of each step: (steps,) for one row each, or (steps, batch).
        optimizer: A name in `RULES`; its other options have the defaults of the optimizer table.
        learning_rate: The learning rate.
        activation: `tanh` or `relu`, between the layers.
    """
    inputs, targets = data
    leaves = {(k, n): np.asarray(leaf, dtype=float) for k, layer in params.items() for n, leaf in layer.items()}
    buffers = {path: np.zeros((2, *leaf.shape)) for path, leaf in leaves.items()}
    rule, losses = RULES[optimizer], []
    for t, rows in enumerate(order, start=1):
        chosen = np.atleast_1d(rows)
        loss, slopes = loss_and_gradient(leaves, inputs[chosen].astype(float), targets[chosen], activation)
        leaves = {p: leaf - learning_rate * rule(slopes[p], *buffers[p], t) for p, leaf in leaves.items()}
        losses.append(loss)
    return np.array(losses), {k: {n: leaves[k, n] for n in layer} for k, layer in params.items()}


def _adam(g: Array, m: Array, v: Array, t: int) -> Array:
    m += 0.1 * (g - m)
    v += 0.001 * (g * g - v)
    return m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)


def _rmsprop(g: Array, m: Array, v: Array, t: int) -> Array:
    del m, t
    v += 0.01 * (g * g - v)
    return g / (np.sqrt(v) + 1e-8)


def _sgd(g: Array, m: Array, v: Array, t: int) -> Array:
    del m, v, t
    return g


def _adagrad(g: Array, m: Array, v: Array, t: int) -> Array:
    del m, t
    v += g * g
    return g / (np.sqrt(v) + 1e-10)


RULES: dict[str, Rule] = {"adam": _adam, "rmsprop": _rmsprop, "sgd": _sgd, "adagrad": _adagrad}

"""Derivatives of a network by hand-written backpropagation and by differences: no automatic differentiation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from jaxopt_study.backends.numpy.runtime import Array, ParameterTree

Leaves = dict[tuple[str, str], Array]
"""A parameter tree by path, (layer, name)."""

ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "tanh": (np.tanh, lambda h: 1 - h**2),
    "relu": (lambda z: np.maximum(z, 0), lambda h: h > 0),
}
"""Name -> the function, and its slope where it has the value h."""


def loss_and_gradient(leaves: Leaves, x: Array, targets: Array, activation: str = "tanh") -> tuple[float, Leaves]:
    """Return the mean cross-entropy of a network of dense layers, and its gradient.

    Args:
        leaves: By (layer, name); a kernel is (inputs, outputs).
        x: Inputs, (rows, features).
        targets: Integer classes, (rows,).
        activation: A name in `ACTIVATIONS`, between the layers.
    """
    layers, (function, slope) = sorted({layer for layer, _ in leaves}), ACTIVATIONS[activation]
    entering = [x]
    for number, layer in enumerate(layers):
        z = entering[-1] @ leaves[layer, "kernel"] + leaves[layer, "bias"]
        entering.append(z if number == len(layers) - 1 else function(z))
    z = entering.pop()
    z = z - z.max(axis=1, keepdims=True)
    sums, rows = np.exp(z).sum(axis=1), np.arange(len(x))
    delta = np.exp(z) / sums[:, None]
    delta[rows, targets] -= 1
    delta /= len(x)
    slopes = {}
    for layer, h in zip(reversed(layers), reversed(entering), strict=True):
        slopes[layer, "kernel"], slopes[layer, "bias"] = h.T @ delta, delta.sum(axis=0)
        delta = (delta @ leaves[layer, "kernel"].T) * slope(h)
    return float(np.mean(np.log(sums) - z[rows, targets])), slopes


def gradient_network(params: ParameterTree, batch: tuple[Array, Array]) -> Array:
    """Return the gradient of `loss_and_gradient` as a vector, in the order of `runtime.ravel`."""
    return _gradient(_by_path(params), batch)


def hessian_product_by_differences(params: ParameterTree, batch: tuple[Array, Array], direction: Array) -> Array:
    """Return H v as the central difference of `gradient_network` along v; in float64 its error is about 1e-9."""
    leaves, step = _by_path(params), 1e-6
    ends = [_gradient(_shifted(leaves, sign * step * direction), batch) for sign in (1, -1)]
    return (ends[0] - ends[1]) / (2 * step)


def softmax(logits: Array) -> Array:
    """Return the probabilities of each row of logits."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def _by_path(params: ParameterTree) -> Leaves:
    """Return the leaves in the order of `runtime.ravel`."""
    return {(layer, name): params[layer][name] for layer in sorted(params) for name in sorted(params[layer])}


def _gradient(leaves: Leaves, batch: tuple[Array, Array]) -> Array:
    _, slopes = loss_and_gradient(leaves, *batch)
    return np.concatenate([slopes[path].ravel() for path in leaves])


def _shifted(leaves: Leaves, by: Array) -> Leaves:
    """Return the leaves with a vector, in the order of `runtime.ravel`, added to them."""
    pieces = np.split(by, np.cumsum([leaf.size for leaf in leaves.values()])[:-1])
    return {path: leaf + piece.reshape(leaf.shape) for (path, leaf), piece in zip(leaves.items(), pieces, strict=True)}

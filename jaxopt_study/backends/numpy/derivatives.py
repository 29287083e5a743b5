"""Derivatives of a network by hand and by differences, in NumPy: the check that uses no automatic differentiation."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from jaxopt_study.data import workload

Array = npt.NDArray[Any]


def gradient_network(params: Any, batch: tuple[Array, Array]) -> Array:
    """Return the gradient of the mean cross-entropy of a network of dense layers with tanh between, as a vector.

    Backpropagation written out; the vector counts parameters as `workload.ravel` does.
    """
    inputs, targets = batch
    layers = [params[name] for name in sorted(params)]
    activations = [inputs]
    for number, layer in enumerate(layers):
        z = activations[-1] @ layer["kernel"] + layer["bias"]
        activations.append(np.tanh(z) if number + 1 < len(layers) else z)
    errors = softmax(activations.pop())
    errors[np.arange(len(errors)), targets] -= 1
    errors /= len(errors)
    gradients: list[Array] = []
    for layer in reversed(layers):
        below = activations.pop()
        gradients = [errors.sum(axis=0), (below.T @ errors).ravel(), *gradients]
        errors = (errors @ layer["kernel"].T) * (1 - below**2)
    return np.concatenate(gradients)


def hessian_product_by_differences(params: Any, batch: tuple[Array, Array], direction: Array) -> Array:
    """Return H v as the central difference of `gradient_network` along v: in float64, good to about 1e-9."""
    step = 1e-6
    ends = [gradient_network(workload.shift(params, sign * step * direction), batch) for sign in (1, -1)]
    return (ends[0] - ends[1]) / (2 * step)


def softmax(logits: Array) -> Array:
    """Return the probabilities of each row of logits."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)

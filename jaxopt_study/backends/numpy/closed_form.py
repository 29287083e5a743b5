"""Derivatives of softmax regression by formula: they share no code with automatic differentiation."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxopt_study.backends.numpy.derivatives import softmax
from jaxopt_study.backends.numpy.runtime import Array


def gradient_closed_form(params: Any, batch: tuple[Array, Array]) -> Array:
    """Return the gradient of the mean cross-entropy of a linear layer, mean of x (p - e_y)', as a vector.

    The order is that of `runtime.ravel`: the bias first, because a row is (1, x), then the kernel.
    """
    inputs, targets = batch
    rows, probabilities = _rows_and_probabilities(params, inputs)
    errors = probabilities - np.eye(probabilities.shape[1], dtype=rows.dtype)[targets]
    return (rows.T @ errors).ravel() / len(rows)


def hessian_closed_form(params: Any, batch: tuple[Array, Array]) -> Array:
    """Return the Hessian of the mean cross-entropy of a linear layer: mean of x x' (x) (diag p - p p').

    One matrix product for each pair of classes, half of the pairs by symmetry. The matrix is (P, P), its rows and
    columns in the order of `runtime.ravel`.
    """
    inputs, _ = batch
    rows, probabilities = _rows_and_probabilities(params, inputs)
    features, classes = rows.shape[1], probabilities.shape[1]
    hessian = np.empty((features, classes, features, classes), dtype=rows.dtype)
    for k in range(classes):
        for m in range(k, classes):
            weights = probabilities[:, k] * ((k == m) - probabilities[:, m]) / len(rows)
            hessian[:, k, :, m] = rows.T @ (weights[:, None] * rows)
            hessian[:, m, :, k] = hessian[:, k, :, m]
    return hessian.reshape(features * classes, features * classes)


def rows_and_weights(params: Any, batch: tuple[Array, Array]) -> tuple[Array, Array]:
    """Return the closed form's factors: the rows (1, x), and p_k ([k = m] - p_m) / n for each class pair k <= m."""
    rows, probabilities = _rows_and_probabilities(params, batch[0])
    first, second = np.triu_indices(probabilities.shape[1])
    p = probabilities.T
    return rows, p[first] * ((first == second)[:, None] - p[second]) / len(rows)


def _rows_and_probabilities(params: Any, inputs: Array) -> tuple[Array, Array]:
    layer = params["layer1"]
    rows = np.concatenate([np.ones_like(inputs[:, :1]), inputs], axis=1)
    return rows, softmax(inputs @ layer["kernel"] + layer["bias"])

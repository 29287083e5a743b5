"""The Hessian of softmax regression by formula: mean over rows of (x, 1)(x, 1)' (x) (diag p - p p')."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

__all__ = ["class_pair_products", "hessian_closed_form"]

Params = Any


@jax.jit
def class_pair_products(rows: Float[Array, "n f"], weights: Float[Array, "pairs n"]) -> Float[Array, "pairs f f"]:
    """Return rows' diag(w) rows for each pair of classes: almost all of the arithmetic of the closed form."""
    return jax.lax.map(lambda weight: (rows * weight[:, None]).T @ rows, weights)


@jax.jit
def hessian_closed_form(params: Params, batch: Any) -> Float[Array, "P P"]:
    """Return the Hessian of the mean cross-entropy of a network of one dense layer, in the order of `runtime.ravel`.

    It takes one matrix product for each pair of classes (k, l); symmetry saves half of the pairs.
    """
    inputs, _ = batch
    layer = params["layer1"]
    probabilities = jax.nn.softmax(inputs @ layer["kernel"].T + layer["bias"])
    rows = jnp.concatenate([jnp.ones_like(inputs[:, :1]), inputs], axis=1)
    features, classes = rows.shape[1], probabilities.shape[1]
    first, second = np.triu_indices(classes)
    weights = pair_weights(probabilities, first, second)
    products = class_pair_products(rows, weights)
    place = np.zeros((classes, classes), int)
    place[first, second] = place[second, first] = np.arange(len(first))
    blocks = products[place]  # (k, l, feature, feature), feature 0 is the bias
    size = classes * (features - 1)
    kernel = blocks[:, :, 1:, 1:].transpose(0, 2, 1, 3).reshape(size, size)
    mixed = blocks[:, :, 0, 1:].reshape(classes, size)
    return jnp.block([[blocks[:, :, 0, 0], mixed], [mixed.T, kernel]])


def pair_weights(probabilities: Float[Array, "n k"], first: Any, second: Any) -> Float[Array, "pairs n"]:
    """Return p_k ([k = l] - p_l) / n for each pair of classes."""
    p = probabilities.T
    return p[first] * ((first == second)[:, None] - p[second]) / probabilities.shape[0]

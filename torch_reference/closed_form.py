"""The Hessian of softmax regression by formula: mean over rows of (x, 1)(x, 1)' (x) (diag p - p p')."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["class_pair_products", "hessian_closed_form"]

Params = Mapping[str, Tensor]


def class_pair_products(rows: Float[Tensor, "n f"], weights: Float[Tensor, "pairs n"]) -> Float[Tensor, "pairs f f"]:
    """Return rows' diag(w) rows for each pair of classes: almost all of the arithmetic of the closed form."""
    return torch.stack([(rows * weight[:, None]).T @ rows for weight in weights])


@torch.no_grad()
def hessian_closed_form(params: Params, batch: Any) -> Float[Tensor, "P P"]:
    """Return the Hessian of the mean cross-entropy of a network of one dense layer, in the order of `runtime.ravel`.

    It takes one matrix product for each pair of classes (k, l); symmetry saves half of the pairs.
    """
    inputs, _ = batch
    probabilities = torch.softmax(inputs @ params["layer1.weight"].T + params["layer1.bias"], dim=1)
    rows = torch.cat([torch.ones_like(inputs[:, :1]), inputs], dim=1)
    features, classes = rows.shape[1], probabilities.shape[1]
    first, second = torch.triu_indices(classes, classes, device=inputs.device)
    products = class_pair_products(rows, pair_weights(probabilities, first, second))
    place = torch.zeros(classes, classes, dtype=torch.int64, device=inputs.device)
    place[first, second] = place[second, first] = torch.arange(len(first), device=inputs.device)
    blocks = products[place]  # (k, l, feature, feature), feature 0 is the bias
    size = classes * (features - 1)
    kernel = blocks[:, :, 1:, 1:].permute(0, 2, 1, 3).reshape(size, size)
    mixed = blocks[:, :, 0, 1:].reshape(classes, size)
    corner = blocks[:, :, 0, 0]
    if next(iter(params)).endswith("bias"):
        return torch.cat([torch.cat([corner, mixed], dim=1), torch.cat([mixed.T, kernel], dim=1)])
    return torch.cat([torch.cat([kernel, mixed.T], dim=1), torch.cat([mixed, corner], dim=1)])


def pair_weights(probabilities: Float[Tensor, "n k"], first: Tensor, second: Tensor) -> Float[Tensor, "pairs n"]:
    """Return p_k ([k = l] - p_l) / n for each pair of classes."""
    p = probabilities.T
    return p[first] * ((first == second)[:, None].to(p.dtype) - p[second]) / len(probabilities)

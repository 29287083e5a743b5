"""Closed forms of the Hessians of linear models, for objectives (params, batch, penalty) of `models.penalized`."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from torch_reference.newton.options import System
from torch_reference.newton.problem import cholesky

__all__ = ["logistic_hessian", "softmax_system"]

Params = Any
Batch = tuple[Float[Tensor, "rows inputs"], Any]


def logistic_hessian(params: Params, batch: Batch, penalty: Tensor) -> Float[Tensor, "P P"]:
    """Return the Hessian of penalized logistic regression: the mean of p (1 - p) (x, 1)(x, 1)', and the penalty."""
    inputs, _ = batch
    rows = torch.cat([inputs, torch.ones_like(inputs[:, :1])], dim=1)  # the weights come before the bias here
    weight, bias = params.values()
    probability = torch.sigmoid(rows @ torch.cat([weight[0], bias]))
    weights = probability * (1 - probability) / len(rows)
    return (rows.T * weights) @ rows + penalty * torch.diag(_penalized(rows).flip(0))


class Built(NamedTuple):
    """The reduced Hessian of softmax regression and its penalty."""

    matrix: Float[Tensor, "reduced reduced"]
    penalty: Float[Tensor, ""]


def softmax_system(dtype: str | None = None) -> System:
    """Return the Newton equations of penalized softmax regression, reduced to what determines them.

        H = mean over rows of (diag p - p p') (x) x x' + penalty I        x: a row with 1 in front

    - One vector added to all classes does not change the loss, only the penalty. So the last class's change is fixed at
      0, the equations of the other classes are solved, and the change is centred afterwards. The Hessian of the common
      part is penalty I.
    - Block (k, l) is the mean of w_kl x x' with w_kl = p_k ([k = l] - p_l). Its entries sum w_kl x_a x_b over the rows.
      The products x_a x_b do not depend on the parameters. By symmetry, half of the pairs (k, l) and half of the (a, b)
      are enough. One matrix product of the two tables gives all blocks. The table of products takes
      rows x (inputs + 1)(inputs + 2) / 2 numbers.

    Args:
        dtype: The type in which the matrix is built and factored; by default that of the parameters. With `float32`
            under float64 gradients, steps are nearly Newton's: a few more of them, each cheaper.
    """

    def prepare(batch: Batch, penalty: Tensor) -> Tensor:
        del penalty
        rows = _with_ones(batch[0])
        a, b = np.tril_indices(rows.shape[1])
        kind = rows.dtype if dtype is None else getattr(torch, dtype)
        return (rows[:, a] * rows[:, b]).to(kind) / len(rows)

    def build(products: Tensor, params: Params, batch: Batch, penalty: Tensor) -> Built:
        rows = _with_ones(batch[0])
        p = torch.softmax(rows @ _matrix(params).T, dim=1).to(products.dtype)
        k, m = np.tril_indices(p.shape[1] - 1)
        weights = p[:, k] * (torch.as_tensor(k == m).to(p) - p[:, m])
        blocks = _assemble(weights.T @ products, p.shape[1] - 1, rows.shape[1])
        penalty = torch.as_tensor(penalty).to(p)
        return Built(blocks + penalty * _centred(p.shape[1], _penalized(rows).to(p)), penalty)

    def solve(built: Built, gradient: Params, damping: float) -> tuple[Params, bool]:
        g = _matrix(gradient)
        classes, features = g.shape
        shift = damping * torch.diagonal(built.matrix).abs().max()
        damped = built.matrix + shift * _centred(classes, torch.ones(features).to(built.matrix))
        factor, ok = cholesky(damped, 0.0)
        common = g.mean(dim=0)
        reduced = (g - common)[:-1].reshape(-1, 1).to(factor.dtype)
        change = torch.cholesky_solve(reduced, factor).reshape(classes - 1, features).to(g.dtype)
        change = torch.cat([change, torch.zeros_like(change[:1])])
        own = (built.penalty + shift).to(g.dtype)
        shared = common / own if own.item() > 0 else torch.zeros_like(common)
        shared[0] = 0  # the same change of all biases has no effect
        return _like(gradient, change.mean(dim=0) - change - shared), ok

    return System(build, solve, prepare)


def _with_ones(inputs: Tensor) -> Tensor:
    return torch.cat([torch.ones_like(inputs[:, :1]), inputs], dim=1)


def _penalized(rows: Tensor) -> Tensor:
    """1 for each input's weight, 0 for the bias."""
    penalized = torch.ones_like(rows[0])
    penalized[0] = 0
    return penalized


def _matrix(params: Params) -> Float[Tensor, "classes features"]:
    """The bias as a column before the weight."""
    weight, bias = params.values()
    return torch.cat([bias[:, None], weight], dim=1)


def _like(params: Params, matrix: Tensor) -> Params:
    weight, bias = params
    return {weight: matrix[:, 1:], bias: matrix[:, 0]}


def _centred(classes: int, diagonal: Tensor) -> Tensor:
    """Return (I - 1/classes) (x) diag(diagonal): the square of a change once it is centred over the classes."""
    centre = torch.eye(classes - 1).to(diagonal) - 1 / classes
    return torch.kron(centre, torch.diag(diagonal))


def _assemble(table: Tensor, classes: int, features: int) -> Tensor:
    """Return the symmetric matrix from its table (pairs of classes, pairs of features)."""
    blocks = table[_pairs(classes).ravel()][:, _pairs(features).ravel()]
    blocks = blocks.reshape(classes, classes, features, features)
    return blocks.swapaxes(1, 2).reshape(classes * features, classes * features)


def _pairs(size: int) -> np.ndarray:
    """Return the number of the unordered pair (i, j) in `np.tril_indices`."""
    i, j = np.indices((size, size))
    high, low = np.maximum(i, j), np.minimum(i, j)
    return high * (high + 1) // 2 + low

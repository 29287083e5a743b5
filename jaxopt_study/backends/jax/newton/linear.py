"""Closed forms of the Hessians of linear models, for objectives (params, batch, penalty) of `models.penalized`."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxopt_study.backends.jax.newton.options import System
from jaxopt_study.backends.jax.newton.problem import cholesky, diagonal

__all__ = ["logistic_hessian", "softmax_system"]

Params = Any
Batch = tuple[Float[Array, "rows inputs"], Any]


def logistic_hessian(params: Params, batch: Batch, penalty: Array) -> Float[Array, "P P"]:
    """Return the Hessian of penalized logistic regression: the mean of p (1 - p) (1, x)(1, x)', and the penalty."""
    inputs, _ = batch
    rows = _with_ones(inputs)
    probability = jax.nn.sigmoid(rows @ _matrix(params)[0])
    weights = probability * (1 - probability) / len(rows)
    return (rows.T * weights) @ rows + penalty * jnp.diag(_penalized(rows))


class Built(NamedTuple):
    """The reduced Hessian of softmax regression and its penalty."""

    matrix: Float[Array, "reduced reduced"]
    penalty: Float[Array, ""]


@cache  # what is compiled for a system is found again by it
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

    def prepare(batch: Batch, penalty: Array) -> Array:
        del penalty
        rows = _with_ones(batch[0])
        a, b = np.tril_indices(rows.shape[1])
        columns = rows.T  # pairs as rows: on a CPU the product with the weights then takes a third less time
        return (columns[a] * columns[b]).astype(dtype or rows.dtype) / len(rows)

    def build(products: Array, params: Params, batch: Batch, penalty: Array) -> Built:
        rows = _with_ones(batch[0])
        p = jax.nn.softmax(rows @ _matrix(params).T).astype(products.dtype)
        k, m = np.tril_indices(p.shape[1] - 1)
        weights = p[:, k] * (jnp.asarray(k == m, p.dtype) - p[:, m])
        blocks = _assemble((products @ weights).T, p.shape[1] - 1, rows.shape[1])
        penalty = jnp.asarray(penalty, p.dtype)
        return Built(blocks + penalty * _centred(p.shape[1], _penalized(rows).astype(p.dtype)), penalty)

    def solve(built: Built, gradient: Params, damping: Array) -> tuple[Params, Array]:
        g = _matrix(gradient)
        classes, features = g.shape
        shift = damping.astype(built.matrix.dtype) * jnp.abs(diagonal(built.matrix)).max()
        factor, ok = cholesky(built.matrix + shift * _centred(classes, jnp.ones(features, built.matrix.dtype)))
        common = g.mean(axis=0)
        reduced = (g - common)[:-1].ravel().astype(factor.dtype)
        change = jax.scipy.linalg.cho_solve((factor, True), reduced).reshape(classes - 1, features).astype(g.dtype)
        change = jnp.concatenate([change, jnp.zeros_like(change[:1])])
        own = (built.penalty + shift).astype(g.dtype)
        inverse = jnp.where(own > 0, 1 / jnp.where(own > 0, own, 1), 0)
        shared = inverse * common * _penalized(g)  # the same change of all biases has no effect
        return _like(gradient, change.mean(axis=0) - change - shared), ok

    return System(build, solve, prepare)


def _with_ones(inputs: Array) -> Array:
    return jnp.concatenate([jnp.ones_like(inputs[:, :1]), inputs], axis=1)


def _penalized(rows: Array) -> Array:
    """1 for each input's weight, 0 for the bias."""
    return jnp.asarray(np.arange(rows.shape[1]) > 0, rows.dtype)


def _matrix(params: Params) -> Float[Array, "classes features"]:
    """The bias as a column before the kernel."""
    (layer,) = params.values()
    return jnp.concatenate([layer["bias"][:, None], layer["kernel"]], axis=1)


def _like(params: Params, matrix: Array) -> Params:
    (name,) = params
    return {name: {"bias": matrix[:, 0], "kernel": matrix[:, 1:]}}


def _centred(classes: int, diagonal: Array) -> Array:
    """Return (I - 1/classes) (x) diag(diagonal): the square of a change once it is centred over the classes."""
    centre = jnp.eye(classes - 1, dtype=diagonal.dtype) - jnp.asarray(1 / classes, diagonal.dtype)
    return jnp.kron(centre, jnp.diag(diagonal))


def _assemble(table: Array, classes: int, features: int) -> Array:
    """Return the symmetric matrix from its table (pairs of classes, pairs of features)."""
    blocks = table[_pairs(classes).ravel()][:, _pairs(features).ravel()]
    blocks = blocks.reshape(classes, classes, features, features)
    return blocks.swapaxes(1, 2).reshape(classes * features, classes * features)


def _pairs(size: int) -> np.ndarray:
    """Return the number of the unordered pair (i, j) in `np.tril_indices`."""
    i, j = np.indices((size, size))
    high, low = np.maximum(i, j), np.minimum(i, j)
    return (high * (high + 1) // 2 + low).astype(np.int32)

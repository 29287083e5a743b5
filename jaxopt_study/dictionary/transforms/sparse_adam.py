"""SparseAdam as torch has it, on dense gradients."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

__all__ = ["scale_by_torch_sparse_adam"]


class SparseAdamState(NamedTuple):
    """Steps made, and both moments."""

    count: jax.Array
    mu: optax.Updates
    nu: optax.Updates


def scale_by_torch_sparse_adam(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> optax.GradientTransformation:
    """Make the step of `torch.optim.SparseAdam`, without its learning rate, for gradients that are zero by rows.

        in rows (along the first axis) where the gradient is not all zero:
            m <- b1 m + (1 - b1) g,    v <- b2 v + (1 - b2) g^2
            step = sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps)
        in the others, step = 0, and m and v stay.

    t counts all steps. eps comes before the correction of v, where Adam adds it after. torch learns from the sparse
    gradient which rows a batch had; here a row counts as absent if its gradient is zero throughout.
    """

    def init(params: optax.Params) -> SparseAdamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return SparseAdamState(jnp.zeros((), jnp.int32), zeros, zeros)

    def update(
        gradient: optax.Updates, state: SparseAdamState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, SparseAdamState]:
        del params
        count = state.count + 1
        step = count.astype(float)
        correction = jnp.sqrt(1 - b2**step) / (1 - b1**step)
        there = jax.tree.map(_present, gradient)
        mu = jax.tree.map(lambda t, m, g: jnp.where(t, m + (1 - b1) * (g - m), m), there, state.mu, gradient)
        nu = jax.tree.map(lambda t, v, g: jnp.where(t, v + (1 - b2) * (g * g - v), v), there, state.nu, gradient)

        def leaf(t: jax.Array, m: jax.Array, v: jax.Array) -> jax.Array:
            return jnp.where(t, correction.astype(m.dtype) * (m / (jnp.sqrt(v) + eps)), 0)

        return jax.tree.map(leaf, there, mu, nu), SparseAdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)


def _present(g: jax.Array) -> jax.Array:
    """Say which rows have a gradient, in a shape that broadcasts against the leaf."""
    return jnp.any(g != 0, axis=tuple(range(1, g.ndim)), keepdims=True)

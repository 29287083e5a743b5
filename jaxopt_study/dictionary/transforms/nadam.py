"""NAdam as torch has it."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

__all__ = ["scale_by_torch_nadam"]


class NAdamState(NamedTuple):
    """Steps made, both moments, and the product of the momenta so far."""

    count: jax.Array
    mu: optax.Updates
    nu: optax.Updates
    product: jax.Array


def scale_by_torch_nadam(
    b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, momentum_decay: float = 4e-3
) -> optax.GradientTransformation:
    """Make the step of `torch.optim.NAdam` (Dozat, 2016), without its learning rate.

        c_t = b1 (1 - 0.96^(t momentum_decay) / 2),    P_t = c_1 c_2 ... c_t
        m <- b1 m + (1 - b1) g,    v <- b2 v + (1 - b2) g^2
        step = ((1 - c_t) / (1 - P_t) g + c_(t+1) / (1 - P_t c_(t+1)) m) / (sqrt(v / (1 - b2^t)) + eps)

    `optax.nadam` has the constant c = b1: the same in the limit of a large `momentum_decay`.
    """

    def momentum(step: jax.Array) -> jax.Array:
        return b1 * (1 - 0.5 * 0.96 ** (step * momentum_decay))

    def init(params: optax.Params) -> NAdamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return NAdamState(jnp.zeros((), jnp.int32), zeros, zeros, jnp.ones((), float))

    def update(
        gradient: optax.Updates, state: NAdamState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, NAdamState]:
        del params
        count = state.count + 1
        step = count.astype(float)  # a power of an int32 would be float32, also under x64
        now, following = momentum(step), momentum(step + 1)
        product = state.product * now
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, gradient)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.nu, gradient)
        of_gradient, of_mean = (1 - now) / (1 - product), following / (1 - product * following)
        correction = 1 - b2**step

        def leaf(g: jax.Array, m: jax.Array, v: jax.Array) -> jax.Array:
            root = jnp.sqrt(v / correction.astype(v.dtype)) + eps
            return (of_gradient.astype(g.dtype) * g + of_mean.astype(g.dtype) * m) / root

        return jax.tree.map(leaf, gradient, mu, nu), NAdamState(count, mu, nu, product)

    return optax.GradientTransformation(init, update)

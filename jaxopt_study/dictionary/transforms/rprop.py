"""Rprop as torch has it."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

__all__ = ["torch_rprop"]


class RpropState(NamedTuple):
    """The gradient before (0 where it was dropped) and the step size of each element."""

    before: optax.Updates
    sizes: optax.Updates


def torch_rprop(
    learning_rate: float = 0.01, etas: tuple[float, float] = (0.5, 1.2), step_sizes: tuple[float, float] = (1e-6, 50.0)
) -> optax.GradientTransformation:
    """Make `torch.optim.Rprop` (Riedmiller and Braun, 1993).

        s = sign(g g_before)
        size <- clip(size * (etas[1] if s > 0, etas[0] if s < 0, else 1), step_sizes),    size starts at learning_rate
        g <- 0 where s < 0
        p <- p - sign(g) size

    `optax.rprop` 0.2.8 applies the update of the step before (optax pull request 1725), and compares signs with the
    update before rather than the gradient. The product g g_before can underflow: XLA flushes subnormal numbers to zero
    on a CPU, and torch does so when told by `torch.set_flush_denormal(True)`.
    """
    shrink, grow = etas

    def init(params: optax.Params) -> RpropState:
        return RpropState(
            jax.tree.map(jnp.zeros_like, params), jax.tree.map(lambda p: jnp.full_like(p, learning_rate), params)
        )

    def resize(size: jax.Array, agreement: jax.Array) -> jax.Array:
        factor = jnp.where(agreement > 0, grow, jnp.where(agreement < 0, shrink, 1.0)).astype(size.dtype)
        return jnp.clip(size * factor, *step_sizes)

    def update(
        gradient: optax.Updates, state: RpropState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, RpropState]:
        del params
        agreement = jax.tree.map(lambda g, b: g * b, gradient, state.before)
        sizes = jax.tree.map(resize, state.sizes, agreement)
        kept = jax.tree.map(lambda g, a: jnp.where(a < 0, 0, g).astype(g.dtype), gradient, agreement)
        return jax.tree.map(lambda g, s: -_sign(g) * s, kept, sizes), RpropState(kept, sizes)

    return optax.GradientTransformation(init, update)


def _sign(g: jax.Array) -> jax.Array:
    """Return torch's sign, which is 0 of NaN; that of JAX is NaN."""
    return (jnp.where(g > 0, 1, 0) - jnp.where(g < 0, 1, 0)).astype(g.dtype)

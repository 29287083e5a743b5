"""Adafactor as torch has it, with the clamps of its eps."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

__all__ = ["torch_adafactor"]


class AdafactorState(NamedTuple):
    """Steps made; for a matrix its row and column means of squares, for other leaves the squares twice."""

    count: jax.Array
    rows: optax.Updates
    columns: optax.Updates


def torch_adafactor(
    learning_rate: optax.ScalarOrSchedule = 0.01,
    beta2_decay: float = -0.8,
    eps: tuple[float | None, float] = (None, 1e-3),
    d: float = 1.0,
    weight_decay: float = 0.0,
) -> optax.GradientTransformation:
    """Make `torch.optim.Adafactor` (Shazeer and Stern, 2018).

        w = t^beta2_decay,    R <- R + w (mean(g^2, last axis) - R),    C likewise over the axis before the last
        V = R C / max(mean(R), eps[0]);    a leaf of fewer than two axes: V <- V + w (g^2 - V)
        u = g / sqrt(max(V, eps[0]^2))
        p <- p - lr weight_decay p - min(lr, 1 / sqrt(t)) max(eps[1], rms(p)) u / max(1, rms(u) / d)

    eps[0] is the machine epsilon of the leaf's type if None. `optax.adafactor` does not factor axes below 128, adds
    1e-30 to g^2 where torch clamps, keeps the learning rate constant, and decays by `weight_decay_rate` alone.
    """

    def init(params: optax.Params) -> AdafactorState:
        rows = jax.tree.map(lambda p: jnp.zeros_like(p if p.ndim < 2 else p[..., :1]), params)
        columns = jax.tree.map(lambda p: jnp.zeros_like(p if p.ndim < 2 else p[..., :1, :]), params)
        return AdafactorState(jnp.zeros((), jnp.int32), rows, columns)

    def update(
        gradient: optax.Updates, state: AdafactorState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, AdafactorState]:
        if params is None:
            raise ValueError("torch_adafactor scales by the size of the parameters: give them to update")
        rate = learning_rate(state.count) if callable(learning_rate) else learning_rate
        count = state.count + 1
        step = count.astype(float)
        weight = step**beta2_decay
        rows = jax.tree.map(lambda r, g: _follow(r, _mean_square(g, -1), weight), state.rows, gradient)
        columns = jax.tree.map(lambda c, g: _follow(c, _mean_square(g, -2), weight), state.columns, gradient)

        def leaf(g: jax.Array, p: jax.Array, r: jax.Array, c: jax.Array) -> jax.Array:
            least = jnp.finfo(p.dtype).eps if eps[0] is None else eps[0]
            squares = r if g.ndim < 2 else r @ c / jnp.maximum(r.mean(-2, keepdims=True), least)
            u = g / jnp.sqrt(jnp.maximum(squares, least * least))
            size = jnp.minimum(rate, 1 / jnp.sqrt(step)) * jnp.maximum(eps[1], _rms(p))
            size = jnp.asarray(size / jnp.maximum(1.0, _rms(u) / d), p.dtype)
            return -size * u - jnp.asarray(rate * weight_decay, p.dtype) * p

        return jax.tree.map(leaf, gradient, params, rows, columns), AdafactorState(count, rows, columns)

    return optax.GradientTransformation(init, update)


def _mean_square(g: jax.Array, axis: int) -> jax.Array:
    return g * g if g.ndim < 2 else jnp.mean(g * g, axis, keepdims=True)


def _follow(mean: jax.Array, now: jax.Array, weight: Any) -> jax.Array:
    """Interpolate as `torch.lerp` does: from the nearer end, so that a weight of 1 gives `now` without rounding."""
    near, far = jnp.asarray(weight, mean.dtype), jnp.asarray(1 - weight, mean.dtype)
    return jnp.where(near < 0.5, mean + near * (now - mean), now - far * (now - mean))


def _rms(x: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.mean(x * x))

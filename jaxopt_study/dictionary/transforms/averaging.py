"""torch.optim.swa_utils.AveragedModel: averages of parameters, as a pair of pure functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class AveragedState(NamedTuple):
    """The averaged tree, and how many trees it is made of."""

    params: Any
    n_averaged: jax.Array


class Averaging(NamedTuple):
    """A way to average.

    Attributes:
        init: init(params), the state before the first update.
        update: update(state, params), the state after one `update_parameters(model)`.
    """

    init: Callable[[Any], AveragedState]
    update: Callable[[AveragedState, Any], AveragedState]


def averaged_model(decay: float | None = None) -> Averaging:
    """Average parameters as `torch.optim.swa_utils.AveragedModel` does; the first update copies them.

    The update is a + (1 - decay) (p - a), where 1 - decay is 1 / (n + 1) without a decay; integers are cut off.

    Args:
        decay: Of an exponential moving average; none for equal weights.

    Example:
        >>> average = averaged_model(decay=0.5)
        >>> state = average.init({"w": jnp.float32(0.0)})
        >>> for value in (1.0, 3.0):
        ...     state = average.update(state, {"w": jnp.float32(value)})
        >>> float(state.params["w"]), int(state.n_averaged)
        (2.0, 2)
    """

    def init(params: Any) -> AveragedState:
        return AveragedState(jax.tree.map(jnp.asarray, params), jnp.zeros((), jnp.int32))

    def update(state: AveragedState, params: Any) -> AveragedState:
        count = state.n_averaged
        # A float32 quotient of int32 numbers would lose the digits of float64.
        share = 1 / (count + 1.0) if decay is None else jnp.asarray(1 - decay)

        def average(old: Any, new: Any) -> jax.Array:
            old, new = jnp.asarray(old), jnp.asarray(new)
            if jnp.issubdtype(old.dtype, jnp.inexact):
                wide = jnp.promote_types(old.dtype, jnp.float32)  # as torch computes of 16 bits
                made = _interpolate(old.astype(wide), new.astype(wide), share.astype(wide))
            elif decay is None:
                made = old + (new - old) / (count + 1)
            else:
                made = old * decay + new * (1 - decay)
            return jnp.where(count == 0, new, made).astype(old.dtype)

        return AveragedState(jax.tree.map(average, state.params, params), count + 1)

    return Averaging(init, update)


def _interpolate(old: jax.Array, new: jax.Array, share: jax.Array) -> jax.Array:
    """Return `torch.lerp`: from the nearer end, so that a share of 1 gives `new` without rounding."""
    gap = new - old
    return jnp.where(jnp.abs(share) < 0.5, old + share * gap, new - gap * (1 - share))

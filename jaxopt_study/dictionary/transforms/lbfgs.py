"""L-BFGS as torch has it, without a line search."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

__all__ = ["torch_lbfgs"]


class LBFGSState(NamedTuple):
    """What an iteration needs of the ones before.

    Attributes:
        count: Iterations made.
        gradient: The gradient before.
        step: The step before.
        gradients: Changes y of the gradient, the newest last; only the last `pairs` rows count.
        steps: Changes s of the parameters, likewise.
        pairs: How many are held.
        scale: The initial inverse Hessian, a multiple of one.
    """

    count: jax.Array
    gradient: jax.Array
    step: jax.Array
    gradients: jax.Array
    steps: jax.Array
    pairs: jax.Array
    scale: jax.Array


def torch_lbfgs(
    learning_rate: optax.ScalarOrSchedule = 1.0,
    history_size: int = 100,
    tolerance_grad: float = 1e-7,
    tolerance_change: float = 1e-9,
) -> optax.GradientTransformation:
    """Make one iteration of `torch.optim.LBFGS` (Liu and Nocedal, 1989) with `line_search_fn=None`.

        y = g - g_before,  s = the step before;  kept if y's > 1e-10, and then scale = y's / y'y
        d = -H g by the two loops over the pairs kept, from H0 = scale;  at first d = -g
        p <- p + lr d, at first p <- p + lr min(1, 1 / sum|g|) d

    Nothing moves where max|g| <= tolerance_grad or g'd > -tolerance_change. One `step(closure)` of torch makes up to
    `max_iter` such iterations on one batch. `optax.scale_by_lbfgs` keeps every pair, and scales its first step by the
    2-norm of the gradient.
    """

    def init(params: optax.Params) -> LBFGSState:
        flat, _ = ravel_pytree(params)
        pairs = jnp.zeros((history_size, flat.size), flat.dtype)
        zero = jnp.zeros((), jnp.int32)
        return LBFGSState(
            zero, jnp.zeros_like(flat), jnp.zeros_like(flat), pairs, pairs, zero, jnp.ones((), flat.dtype)
        )

    def update(
        gradient: optax.Updates, state: LBFGSState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, LBFGSState]:
        del params
        g, unravel = ravel_pytree(gradient)
        rate = learning_rate(state.count) if callable(learning_rate) else learning_rate
        known = _remember(state, g)
        first = state.count == 0
        d = jnp.where(first, -g, _direction(known, g))
        length = jnp.asarray(rate, g.dtype) * jnp.where(first, jnp.minimum(1.0, 1 / jnp.sum(jnp.abs(g))), 1.0)
        optimal = jnp.max(jnp.abs(g)) <= tolerance_grad
        moved = jnp.where(g @ d > -tolerance_change, jnp.zeros_like(d), length * d)
        following = known._replace(count=state.count + 1, gradient=g, step=length * d)
        # torch returns before it counts the iteration where the gradient is small.
        following = jax.tree.map(lambda old, new: jnp.where(optimal, old, new), state, following)
        return unravel(jnp.where(optimal, jnp.zeros_like(d), moved)), following

    return optax.GradientTransformation(init, update)


def _remember(state: LBFGSState, g: jax.Array) -> LBFGSState:
    """Add the newest pair, if its curvature is positive enough."""
    y, s = g - state.gradient, state.step
    curvature = y @ s
    size = state.steps.shape[0]
    added = state._replace(
        gradients=jnp.roll(state.gradients, -1, axis=0).at[-1].set(y),
        steps=jnp.roll(state.steps, -1, axis=0).at[-1].set(s),
        pairs=jnp.minimum(state.pairs + 1, size),
        scale=curvature / (y @ y),
    )
    keep = (curvature > 1e-10) & (state.count > 0)
    return jax.tree.map(lambda new, old: jnp.where(keep, new, old), added, state)


def _direction(state: LBFGSState, g: jax.Array) -> jax.Array:
    """Return -H g by the two loops."""
    size = state.steps.shape[0]
    first = size - state.pairs

    def backwards(q: jax.Array, place: jax.Array) -> tuple[jax.Array, jax.Array]:
        y, s = state.gradients[place], state.steps[place]
        weight = jnp.where(place >= first, (s @ q) / (y @ s), 0.0)
        return q - jnp.where(place >= first, weight, 0.0) * y, weight

    def forwards(r: jax.Array, pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        place, weight = pair
        y, s = state.gradients[place], state.steps[place]
        return r + jnp.where(place >= first, weight - (y @ r) / (y @ s), 0.0) * s, None

    places = jnp.arange(size)
    q, weights = jax.lax.scan(backwards, -g, places, reverse=True)
    return jax.lax.scan(forwards, q * state.scale, (places, weights))[0]

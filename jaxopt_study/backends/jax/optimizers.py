"""The optimizer table in optax: each row makes the update of the torch.optim class of the same name.

`b1`, `b2` and `eps` have optax's meaning. A row whose optax defaults differ from torch's says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

__all__ = ["OPTIMIZERS", "adagrad", "adam", "adamw", "folded_adam", "momentum", "rmsprop", "sgd"]


def adam(learning_rate: float, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> optax.GradientTransformation:
    """Make Adam (Kingma and Ba, 2015), `torch.optim.Adam`.

        m <- b1 m + (1 - b1) g,    v <- b2 v + (1 - b2) g^2
        p <- p - learning_rate m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)

    optax computes 1 - b2^t in float32, torch in Python's float64. They differ by at most 1.3e-5, relative, less as t
    grows.
    """
    return optax.adam(learning_rate, b1, b2, eps)


def adamw(
    learning_rate: float, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, weight_decay: float = 1e-2
) -> optax.GradientTransformation:
    """Make Adam with decoupled weight decay (Loshchilov and Hutter, 2019), `torch.optim.AdamW`.

    Adam's update, and p <- p - learning_rate weight_decay p. By default optax decays by 1e-4, torch by 1e-2.
    """
    return optax.adamw(learning_rate, b1, b2, eps, weight_decay=weight_decay)


def folded_adam(
    learning_rate: float, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
    """Make Adam with its bias corrections folded into two numbers per step, as in `torch.optim.Adam`.

        a = learning_rate / (1 - b1^t),    r = 1 / sqrt(1 - b2^t)
        p <- p - a m / (r sqrt(v) + eps)

    `optax.adam` instead divides each entry of m and of v, which takes two more divisions per entry. Here 1 - b^t is
    -expm1(t log b), which loses no digits in float32, so the difference of 1.3e-5 in `adam` does not occur.
    """

    def init(params: optax.Params) -> Moments:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return Moments(jnp.zeros((), jnp.int32), zeros, zeros)

    def update(
        gradient: optax.Updates, state: Moments, params: optax.Params | None = None
    ) -> tuple[optax.Updates, Moments]:
        del params
        count = state.count + 1
        m = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.m, gradient)
        v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.v, gradient)
        corrections = [-jnp.expm1(count.astype(float) * math.log(b)) for b in (b1, b2)]
        a, r = learning_rate / corrections[0], 1 / jnp.sqrt(corrections[1])
        step = jax.tree.map(lambda m, v: -a.astype(m.dtype) * m / (r.astype(m.dtype) * jnp.sqrt(v) + eps), m, v)
        return step, Moments(count, m, v)

    return optax.GradientTransformation(init, update)


class Moments(NamedTuple):
    """The number of steps made, and both moments."""

    count: jax.Array
    m: optax.Updates
    v: optax.Updates


def rmsprop(learning_rate: float, decay: float = 0.99, eps: float = 1e-8) -> optax.GradientTransformation:
    """Make RMSprop (Tieleman and Hinton, 2012), `torch.optim.RMSprop`.

        v <- decay v + (1 - decay) g^2
        p <- p - learning_rate g / (sqrt(v) + eps)

    By default `optax.rmsprop` has decay 0.9 and adds eps under the root; torch has 0.99 and adds it outside.
    """
    return optax.rmsprop(learning_rate, decay=decay, eps=eps, eps_in_sqrt=False)


def sgd(learning_rate: float) -> optax.GradientTransformation:
    """Make stochastic gradient descent, `torch.optim.SGD`.

    p <- p - learning_rate g
    """
    return optax.sgd(learning_rate)


def momentum(learning_rate: float, decay: float = 0.9) -> optax.GradientTransformation:
    """Make gradient descent with heavy-ball momentum (Polyak, 1964), `torch.optim.SGD` with `momentum=decay`.

    m <- decay m + g
    p <- p - learning_rate m
    """
    return optax.sgd(learning_rate, momentum=decay)


def adagrad(learning_rate: float, eps: float = 1e-10) -> optax.GradientTransformation:
    """Make Adagrad (Duchi, Hazan and Singer, 2011), `torch.optim.Adagrad`.

        s <- s + g^2
        p <- p - learning_rate g / (sqrt(s) + eps)

    `optax.adagrad` starts s at 0.1 and adds eps = 1e-7 under the root; torch starts at 0 and adds it outside.
    """
    return optax.chain(_scale_by_root_sum_of_squares(eps), optax.scale_by_learning_rate(learning_rate))


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adam": adam,
    "rmsprop": rmsprop,
    "sgd": sgd,
    "adagrad": adagrad,
    "momentum": momentum,
    "adamw": adamw,
}


def _scale_by_root_sum_of_squares(eps: float) -> optax.GradientTransformation:
    """Divide by sqrt(sum of squared gradients) + eps; `optax.scale_by_rss` can add eps only under the root."""

    def init(params: optax.Params) -> optax.Updates:
        return jax.tree.map(jnp.zeros_like, params)

    def update(
        gradient: optax.Updates, squares: optax.Updates, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.Updates]:
        del params
        squares = jax.tree.map(lambda s, g: s + g * g, squares, gradient)
        return jax.tree.map(lambda s, g: g / (jnp.sqrt(s) + eps), squares, gradient), squares

    return optax.GradientTransformation(init, update)

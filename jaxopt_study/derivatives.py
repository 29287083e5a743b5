"""Derivatives of a loss(params, batch): makers of functions of (params, batch).

A Hessian is a P x P matrix; `runtime.ravel` says in which order its rows count the parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

__all__ = ["gradient", "hessian_forward_over_reverse"]

Params = Any
Loss = Callable[[Params, Any], Array]


def gradient(loss: Loss) -> Callable[[Params, Any], Params]:
    """Return the compiled gradient of `loss` in its parameters, a tree like theirs."""
    return jax.jit(jax.grad(loss))


def hessian_forward_over_reverse(loss: Loss) -> Callable[[Params, Any], Float[Array, "P P"]]:
    """Return the compiled dense Hessian by `jax.hessian`: forward mode over reverse mode, all columns at once."""

    def hessian(params: Params, batch: Any) -> Array:
        vector, unravel = ravel_pytree(params)
        return jax.hessian(lambda v: loss(unravel(v), batch))(vector)

    return jax.jit(hessian)

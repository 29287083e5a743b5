"""Derivatives of a loss(params, batch) by automatic differentiation: makers of functions of (params, batch[, vector]).

A Hessian is a P x P matrix; `runtime.ravel` says in which order its rows count the parameters. The functions here take
the whole basis at once; `blocks` takes it a few vectors at a time.

Every Hessian made here raises what `validation` raises, before anything is compiled. A gradient or a product takes less
time than that check, and is called in loops; what is wrong there, the framework says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from jaxopt_study.backends.jax.validation import check_loss, check_params

__all__ = [
    "gradient",
    "hessian_forward_over_forward",
    "hessian_forward_over_reverse",
    "hessian_reverse_over_reverse",
    "hvp_forward_over_reverse",
    "hvp_reverse_over_forward",
    "hvp_reverse_over_reverse",
]

Params = Any
Loss = Callable[[Params, Any], Array]
Product = Callable[[Params, Any, Params], Params]
Dense = Callable[[Params, Any], Float[Array, "P P"]]


def gradient(loss: Loss) -> Callable[[Params, Any], Params]:
    """Return the compiled gradient of `loss` in its parameters, a tree like theirs."""
    return jax.jit(jax.grad(loss))


def hvp_forward_over_reverse(loss: Loss) -> Product:
    """Return the product of the Hessian with a tree like the parameters: d/de grad(p + e v), forward mode outside."""

    def product(params: Params, batch: Any, vector: Params) -> Params:
        return jax.jvp(lambda p: jax.grad(loss)(p, batch), (params,), (vector,))[1]

    return jax.jit(product)


def hvp_reverse_over_forward(loss: Loss) -> Product:
    """Return the product of the Hessian with a tree like the parameters: the gradient of d/de loss(p + e v)."""

    def product(params: Params, batch: Any, vector: Params) -> Params:
        return jax.grad(lambda p: jax.jvp(lambda q: loss(q, batch), (p,), (vector,))[1])(params)

    return jax.jit(product)


def hvp_reverse_over_reverse(loss: Loss) -> Product:
    """Return the product of the Hessian with a tree like the parameters: the gradient of <grad(p), v>."""

    def product(params: Params, batch: Any, vector: Params) -> Params:
        def slope(p: Params) -> Array:
            terms = jax.tree.map(jnp.vdot, jax.grad(loss)(p, batch), vector)
            return sum(jax.tree.leaves(terms))

        return jax.grad(slope)(params)

    return jax.jit(product)


def hessian_forward_over_reverse(loss: Loss) -> Dense:
    """Return the dense Hessian by `jax.hessian`: forward mode over reverse mode, all columns at once."""
    return _dense(loss, jax.hessian)


def hessian_reverse_over_reverse(loss: Loss) -> Dense:
    """Return the dense Hessian by reverse mode over reverse mode, all rows at once."""
    return _dense(loss, lambda f: jax.jacrev(jax.grad(f)))


def hessian_forward_over_forward(loss: Loss) -> Dense:
    """Return the dense Hessian by forward mode over forward mode: P x P directions at once, the costliest nesting."""
    return _dense(loss, lambda f: jax.jacfwd(jax.jacfwd(f)))


def _dense(loss: Loss, second: Callable[[Callable[[Array], Array]], Callable[[Array], Array]]) -> Dense:
    """Return the compiled second derivative, by `second`, of `loss` as a function of the raveled parameters."""

    @jax.jit
    def matrix(params: Params, batch: Any) -> Array:
        vector, unravel = ravel_pytree(params)
        return second(lambda v: loss(unravel(v), batch))(vector)

    return checked(loss, matrix)


def checked(loss: Loss, compute: Callable[..., Any]) -> Callable[..., Any]:
    """Return `compute`, which checks the loss when shapes are new and the parameters each time."""
    known = set()

    def check_and_compute(params: Params, batch: Any, *rest: Any) -> Any:
        check_params(params)
        leaves, structure = jax.tree.flatten((params, batch))
        shapes = (structure, *((jnp.shape(leaf), getattr(leaf, "dtype", type(leaf))) for leaf in leaves))
        if shapes not in known:
            check_loss(loss, params, batch)
            known.add(shapes)
        return compute(params, batch, *rest)

    check_and_compute.compiled = compute  # type: ignore[attr-defined] # to ask the compiler what memory it takes
    return check_and_compute

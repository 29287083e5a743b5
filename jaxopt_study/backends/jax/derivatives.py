"""Derivatives of a loss by automatic differentiation.

`hessian`, `hessian_of_network`, `hvp`, `gauss_newton` and `diagonal` compute at a point: see `curvature`. Others are
named ways to do so. They take a loss(params, batch), and return a function of (params, batch[, vector]), which can be
called many times.

A Hessian is a P x P matrix, whose rows and columns have the order of `runtime.ravel`. The functions here differentiate
along all P basis vectors at once; those of `blocks` take a few vectors at a time.

Each Hessian function first checks its arguments by `validation`. Gradients and products do not: they are called in
loops, take less time than the check, and errors in their arguments are the framework's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from jaxopt_study.backends.jax.curvature import diagonal, gauss_newton, hessian, hessian_of_network, hvp
from jaxopt_study.backends.jax.validation import checked

__all__ = [
    "diagonal",
    "gauss_newton",
    "gradient",
    "hessian",
    "hessian_forward_over_forward",
    "hessian_forward_over_reverse",
    "hessian_of_network",
    "hessian_reverse_over_reverse",
    "hvp",
    "hvp_forward_over_reverse",
    "hvp_reverse_over_forward",
    "hvp_reverse_over_reverse",
]

Params = Any
Loss = Callable[[Params, Any], Array]
Product = Callable[[Params, Any, Params], Params]
Dense = Callable[[Params, Any], Float[Array, "P P"]]


def gradient(loss: Loss) -> Callable[[Params, Any], Params]:
    """Return the compiled gradient of `loss` with respect to its parameters, a tree like theirs.

    Example:
        >>> loss = lambda params, batch: params["a"] ** 2 * params["b"]
        >>> params = {"a": jnp.array(2.0), "b": jnp.array(3.0)}
        >>> {name: leaf.item() for name, leaf in gradient(loss)(params, None).items()}
        {'a': 12.0, 'b': 4.0}
    """
    return jax.jit(jax.grad(loss))


def hvp_forward_over_reverse(loss: Loss) -> Product:
    """Return the product of the Hessian with a tree like the parameters: d/de grad(p + e v), forward mode outside.

    Example:
        >>> loss = lambda params, batch: params["a"] ** 2 * params["b"]
        >>> params = {"a": jnp.array(2.0), "b": jnp.array(3.0)}
        >>> vector = {"a": jnp.array(1.0), "b": jnp.array(0.0)}
        >>> product = hvp_forward_over_reverse(loss)(params, None, vector)
        >>> {name: leaf.item() for name, leaf in product.items()}
        {'a': 6.0, 'b': 4.0}
    """

    def product(params: Params, batch: Any, vector: Params) -> Params:
        return jax.jvp(lambda p: jax.grad(loss)(p, batch), (params,), (vector,))[1]

    return jax.jit(product)


def hvp_reverse_over_forward(loss: Loss) -> Product:
    """Return the product of the Hessian with a tree like the parameters: the gradient of d/de loss(p + e v).

    Example:
        >>> loss = lambda params, batch: params["a"] ** 2 * params["b"]
        >>> params = {"a": jnp.array(2.0), "b": jnp.array(3.0)}
        >>> vector = {"a": jnp.array(1.0), "b": jnp.array(0.0)}
        >>> product = hvp_reverse_over_forward(loss)(params, None, vector)
        >>> {name: leaf.item() for name, leaf in product.items()}
        {'a': 6.0, 'b': 4.0}
    """

    def product(params: Params, batch: Any, vector: Params) -> Params:
        return jax.grad(lambda p: jax.jvp(lambda q: loss(q, batch), (p,), (vector,))[1])(params)

    return jax.jit(product)


def hvp_reverse_over_reverse(loss: Loss) -> Product:
    """Return the product of the Hessian with a tree like the parameters: the gradient of <grad(p), v>.

    Example:
        >>> loss = lambda params, batch: params["a"] ** 2 * params["b"]
        >>> params = {"a": jnp.array(2.0), "b": jnp.array(3.0)}
        >>> vector = {"a": jnp.array(1.0), "b": jnp.array(0.0)}
        >>> product = hvp_reverse_over_reverse(loss)(params, None, vector)
        >>> {name: leaf.item() for name, leaf in product.items()}
        {'a': 6.0, 'b': 4.0}
    """

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
    """Return the dense Hessian by forward mode over forward mode: P x P directions at once, the slowest nesting."""
    return _dense(loss, lambda f: jax.jacfwd(jax.jacfwd(f)))


def _dense(loss: Loss, second: Callable[[Callable[[Array], Array]], Callable[[Array], Array]]) -> Dense:
    """Return the compiled second derivative, by `second`, of `loss` as a function of the raveled parameters."""

    @jax.jit
    def matrix(params: Params, batch: Any) -> Array:
        vector, unravel = ravel_pytree(params)
        return second(lambda v: loss(unravel(v), batch))(vector)

    return checked(loss, matrix)

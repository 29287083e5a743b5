"""One damped Newton step, and its parts.

The Hessian is damped because that of softmax regression is singular: adding one vector to all classes changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from jaxopt_study.backends.jax.blocks import hessian_blocked
from jaxopt_study.backends.jax.validation import check_damping, checked

__all__ = ["cholesky", "newton_step", "solve"]

Params = Any
Loss = Callable[[Params, Any], Array]


def cholesky(damping: float) -> Callable[[Float[Array, "P P"]], Float[Array, "P P"]]:
    """Return the function H -> L, the lower triangle with L L' = H + damping I.

    L is NaN if that matrix is not positive definite.

    Raises:
        ValueError: The damping is negative or not finite.
    """
    check_damping(damping)
    return jax.jit(lambda hessian: jnp.linalg.cholesky(hessian + damping * jnp.eye(len(hessian), dtype=hessian.dtype)))


@jax.jit
def solve(factor: Float[Array, "P P"], vector: Float[Array, " P"]) -> Float[Array, " P"]:
    """Return x with L L' x = vector, by two triangular solves."""
    return jax.scipy.linalg.cho_solve((factor, True), vector)


def newton_step(
    loss: Loss, damping: float, block_size: int | None = None
) -> Callable[[Params, Any], Float[Array, " P"]]:
    """Return the function (params, batch) -> -(H + damping I)^-1 gradient, in the order of `runtime.ravel`.

    Args:
        loss: Any function (params, batch) -> scalar.
        damping: The number that is added to the diagonal (Levenberg, 1944).
        block_size: The number of vectors in an HVP block of the Hessian; chosen by `blocks.block_size_for` if None.

    Raises:
        ValueError: The damping is negative or not finite, or the block size is not a positive whole number.

    Example:
        >>> loss = lambda params, batch: 2 * (params["x"] - 3) ** 2
        >>> newton_step(loss, damping=0.0)({"x": jnp.array(1.0)}, None).tolist()
        [2.0]
    """
    hessian, factorize = hessian_blocked(loss, block_size), cholesky(damping)

    @jax.jit
    def step(params: Params, batch: Any) -> Array:
        slope, _ = ravel_pytree(jax.grad(loss)(params, batch))
        return -solve(factorize(hessian(params, batch)), slope)

    return checked(loss, step)

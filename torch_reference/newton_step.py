"""One damped Newton step, and its parts.

The Hessian is damped because that of softmax regression is singular: adding one vector to all classes changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from torch_reference import runtime
from torch_reference.blocks import hessian_blocked
from torch_reference.derivatives import gradient
from torch_reference.validation import check_damping

__all__ = ["cholesky", "newton_step", "solve"]

Params = Mapping[str, Tensor]
Loss = Callable[[Params, Any], Tensor]


def cholesky(damping: float) -> Callable[[Float[Tensor, "P P"]], Float[Tensor, "P P"]]:
    """Return the function H -> L, the lower triangle with L L' = H + damping I.

    The function raises torch's LinAlgError if that matrix is not positive definite.

    Raises:
        ValueError: The damping is negative or not finite.
    """
    check_damping(damping)

    def factorize(hessian: Tensor) -> Tensor:
        damped = hessian.clone()
        damped.diagonal().add_(damping)
        return torch.linalg.cholesky(damped)

    return factorize


def solve(factor: Float[Tensor, "P P"], vector: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
    """Return x with L L' x = vector, by two triangular solves."""
    return torch.cholesky_solve(vector[:, None], factor)[:, 0]


def newton_step(
    loss: Loss, damping: float, block_size: int | None = None
) -> Callable[[Params, Any], Float[Tensor, " P"]]:
    """Return the function (params, batch) -> -(H + damping I)^-1 gradient, in the order of `runtime.ravel`.

    Args:
        loss: Any function (params, batch) -> scalar.
        damping: The number that is added to the diagonal (Levenberg, 1944).
        block_size: The number of vectors in an HVP block of the Hessian; chosen by `blocks.block_size_for` if None.

    Raises:
        ValueError: The damping is negative or not finite, or the block size is not a positive whole number.

    Example:
        >>> loss = lambda params, batch: 2 * (params["x"] - 3) ** 2
        >>> newton_step(loss, damping=0.0)({"x": torch.tensor(1.0)}, None).tolist()
        [2.0]
    """
    hessian, slope, factorize = hessian_blocked(loss, block_size), gradient(loss), cholesky(damping)

    def step(params: Params, batch: Any) -> Tensor:
        matrix = hessian(params, batch)
        return -solve(factorize(matrix), runtime.ravel(slope(params, batch)))

    return step

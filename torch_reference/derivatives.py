"""Derivatives of a loss(params, batch): makers of functions of (params, batch).

A Hessian is a P x P matrix; `runtime.ravel` says in which order its rows count the parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from torch_reference import runtime

__all__ = ["gradient", "hessian_double_backward", "hessian_forward_over_reverse"]

Params = Mapping[str, Tensor]
Loss = Callable[[Params, Any], Tensor]


def gradient(loss: Loss) -> Callable[[Params, Any], dict[str, Tensor]]:
    """Return the gradient of `loss` in its parameters, a tree like theirs, by `torch.autograd.grad`."""

    def gradient_of(params: Params, batch: Any) -> dict[str, Tensor]:
        leaves = {name: leaf.detach().requires_grad_() for name, leaf in params.items()}
        return dict(zip(leaves, torch.autograd.grad(loss(leaves, batch), list(leaves.values())), strict=True))

    return gradient_of


def hessian_forward_over_reverse(loss: Loss) -> Callable[[Params, Any], Float[Tensor, "P P"]]:
    """Return the dense Hessian by `torch.func.hessian`: forward mode over reverse mode, all columns at once."""

    def hessian(params: Params, batch: Any) -> Tensor:
        unravel = _unravel_like(params)
        return torch.func.hessian(lambda v: loss(unravel(v), batch))(runtime.ravel(params).detach())

    return hessian


def hessian_double_backward(loss: Loss) -> Callable[[Params, Any], Float[Tensor, "P P"]]:
    """Return the dense Hessian in the notebook's way: one backward pass through the gradient for each row."""

    def hessian(params: Params, batch: Any) -> Tensor:
        vector = runtime.ravel(params).detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss(_unravel_like(params)(vector), batch), vector, create_graph=True)
        rows = [torch.autograd.grad(entry, vector, retain_graph=True)[0] for entry in slope]
        return torch.stack(rows)

    return hessian


def _unravel_like(params: Params) -> Callable[[Tensor], dict[str, Tensor]]:
    """Return the inverse of `runtime.ravel` for trees of these shapes."""
    sizes = [leaf.numel() for leaf in params.values()]

    def unravel(vector: Tensor) -> dict[str, Tensor]:
        pieces = vector.split(sizes)
        return {name: piece.view(leaf.shape) for (name, leaf), piece in zip(params.items(), pieces, strict=True)}

    return unravel

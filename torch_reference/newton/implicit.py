"""The derivative of a minimizer by the implicit function theorem: of the solution, not of the loop that finds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse.linalg import LinearOperator, cg
from torch import Tensor

from torch_reference.newton.bounds import Box, on_face
from torch_reference.newton.problem import Vector
from torch_reference.runtime import ravel_tree

__all__ = ["solution"]

DENSE = 2000
"""With more variables, the equations are solved by conjugate gradients."""


def solution(fun: Callable[..., Tensor], x: Any, args: tuple[Any, ...], box: Box | None) -> Any:
    """Return the end of a run as a function of what the objective takes beside it, in reverse mode.

    With H the Hessian at x and g(x, data) the gradient, which is 0 there,

        dx = -H^-1 (dg / d data) d data

    The data are those of `args`, and of the tensors that `fun` closes over, that require gradients; without any, x is
    returned as it is. The start has no influence. Along directions in which the Hessian is singular, dx is 0. A
    variable at its bound moves with it; the equations are then those of the others.
    """
    flat, unravel = ravel_tree(x)
    flat = flat.detach()

    def slope(v: Vector) -> Vector:
        return torch.autograd.grad(fun(unravel(v), *args), v, create_graph=True, materialize_grads=True)[0]

    box = box or Box(torch.full_like(flat, -torch.inf), torch.full_like(flat, torch.inf))
    if not (fun(unravel(flat), *args).requires_grad or any(bound.requires_grad for bound in box)):
        return x
    return unravel(_Solution.apply(flat, slope(flat.clone().requires_grad_()), slope, *box))


class _Solution(torch.autograd.Function):
    """X as it is, with the derivative of the solution of slope(x) = 0."""

    @staticmethod
    def forward(
        ctx: Any, x: Vector, zero: Vector, slope: Callable[[Vector], Vector], lower: Vector, upper: Vector
    ) -> Vector:
        """Return x; `zero` is slope(x), which depends on the data."""
        del zero
        ctx.save_for_backward(x, lower, upper)
        ctx.slope = slope
        return x.clone()

    @staticmethod
    def backward(ctx: Any, pulled: Vector) -> tuple[None, Vector, None, Vector | None, Vector | None]:
        """Return -H^-1 pulled for the slope; the Hessian is symmetric. And what remains for each bound that holds.

        Raises:
            RuntimeError: It is to be differentiated again, where H^-1 would be taken for a constant.
        """
        if torch.is_grad_enabled():
            raise RuntimeError("the result of minimize can be differentiated once: leave out create_graph=True")
        x, *bounds = ctx.saved_tensors
        box = Box(*bounds)
        face = box.free(x)
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            at = ctx.slope(leaf)

        def product(v: Vector) -> Vector:
            return torch.autograd.grad(at, leaf, v, retain_graph=True, materialize_grads=True)[0]

        solved = _solve(on_face(product, face), torch.where(face, pulled, 0.0))
        if not any(ctx.needs_input_grad[3:]):
            return None, -solved, None, None, None
        left, low = pulled - product(solved), x == box.lower
        return None, -solved, None, torch.where(low, left, 0.0), torch.where(~low & (x == box.upper), left, 0.0)


def _solve(product: Callable[[Vector], Vector], right: Vector) -> Vector:
    if len(right) <= DENSE:
        return _pseudo_inverse(torch.stack([product(e) for e in torch.eye(len(right)).to(right)])) @ right
    return _by_conjugate_gradients(product, right)


def _pseudo_inverse(matrix: Float[Tensor, "P P"]) -> Float[Tensor, "P P"]:
    values, vectors = torch.linalg.eigh(matrix)
    least = len(values) * torch.finfo(values.dtype).eps * values.abs().max()
    kept = values.abs() > least
    return (vectors * torch.where(kept, 1 / torch.where(kept, values, 1.0), 0.0)) @ vectors.T


def _by_conjugate_gradients(product: Callable[[Vector], Vector], right: Vector) -> Vector:
    def matvec(v: np.ndarray) -> np.ndarray:
        return product(torch.as_tensor(v.ravel()).to(right)).cpu().numpy()

    operator = LinearOperator((len(right), len(right)), matvec=matvec, dtype=np.dtype(float))
    solved, _ = cg(operator, right.cpu().numpy(), rtol=1e-10, maxiter=10 * len(right))
    return torch.as_tensor(solved).to(right)

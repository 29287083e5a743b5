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

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils import _pytree as pytree

from torch_reference import runtime
from torch_reference.curvature import diagonal, gauss_newton, hessian, hessian_of_network, hvp
from torch_reference.validation import checked

__all__ = [
    "diagonal",
    "gauss_newton",
    "gradient",
    "hessian",
    "hessian_compiled",
    "hessian_double_backward",
    "hessian_forward_over_forward",
    "hessian_forward_over_reverse",
    "hessian_functional",
    "hessian_functional_forward",
    "hessian_functional_vectorized",
    "hessian_of_network",
    "hessian_reverse_over_reverse",
    "hvp",
    "hvp_forward_over_reverse",
    "hvp_reverse_over_forward",
    "hvp_reverse_over_reverse",
]

Params = Any
Loss = Callable[[Params, Any], Tensor]
Product = Callable[[Params, Any, Params], Params]
Dense = Callable[[Params, Any], Float[Tensor, "P P"]]


def gradient(loss: Loss) -> Callable[[Params, Any], Params]:
    """Return the gradient of `loss` with respect to its parameters, a tree like theirs, by `torch.autograd.grad`.

    Example:
        >>> loss = lambda params, batch: params["a"] ** 2 * params["b"]
        >>> params = {"a": torch.tensor(2.0), "b": torch.tensor(3.0)}
        >>> {name: leaf.item() for name, leaf in gradient(loss)(params, None).items()}
        {'a': 12.0, 'b': 4.0}
    """

    @torch.enable_grad()
    def gradient_of(params: Params, batch: Any) -> Params:
        leaves, structure = pytree.tree_flatten(params)
        leaves = [leaf.detach().requires_grad_() for leaf in leaves]
        value = loss(pytree.tree_unflatten(leaves, structure), batch)
        if not value.requires_grad:  # the loss is a constant
            return pytree.tree_unflatten([torch.zeros_like(leaf) for leaf in leaves], structure)
        slopes = torch.autograd.grad(value, leaves, materialize_grads=True)
        return pytree.tree_unflatten(list(slopes), structure)

    return gradient_of


def hvp_forward_over_reverse(loss: Loss) -> Product:
    """Return the product of the Hessian with a tree like the parameters: d/de grad(p + e v), forward mode outside.

    Example:
        >>> loss = lambda params, batch: params["a"] ** 2 * params["b"]
        >>> params = {"a": torch.tensor(2.0), "b": torch.tensor(3.0)}
        >>> vector = {"a": torch.tensor(1.0), "b": torch.tensor(0.0)}
        >>> product = hvp_forward_over_reverse(loss)(params, None, vector)
        >>> {name: leaf.item() for name, leaf in product.items()}
        {'a': 6.0, 'b': 4.0}
    """

    def product(params: Params, batch: Any, vector: Params) -> Params:
        slope = torch.func.grad(lambda p: loss(p, batch))
        return torch.func.jvp(slope, (params,), (vector,))[1]

    return product


def hvp_reverse_over_forward(loss: Loss) -> Product:
    """Return the product of the Hessian with a tree like the parameters: the gradient of d/de loss(p + e v).

    Example:
        >>> loss = lambda params, batch: params["a"] ** 2 * params["b"]
        >>> params = {"a": torch.tensor(2.0), "b": torch.tensor(3.0)}
        >>> vector = {"a": torch.tensor(1.0), "b": torch.tensor(0.0)}
        >>> product = hvp_reverse_over_forward(loss)(params, None, vector)
        >>> {name: leaf.item() for name, leaf in product.items()}
        {'a': 6.0, 'b': 4.0}
    """

    def product(params: Params, batch: Any, vector: Params) -> Params:
        def slope(p: Params) -> Tensor:
            return torch.func.jvp(lambda q: loss(q, batch), (p,), (vector,))[1]

        return torch.func.grad(slope)(params)

    return product


def hvp_reverse_over_reverse(loss: Loss) -> Product:
    """Return the product of the Hessian with a tree like the parameters: the gradient of <grad(p), v>.

    Example:
        >>> loss = lambda params, batch: params["a"] ** 2 * params["b"]
        >>> params = {"a": torch.tensor(2.0), "b": torch.tensor(3.0)}
        >>> vector = {"a": torch.tensor(1.0), "b": torch.tensor(0.0)}
        >>> product = hvp_reverse_over_reverse(loss)(params, None, vector)
        >>> {name: leaf.item() for name, leaf in product.items()}
        {'a': 6.0, 'b': 4.0}
    """

    def product(params: Params, batch: Any, vector: Params) -> Params:
        _, pull = torch.func.vjp(torch.func.grad(lambda p: loss(p, batch)), params)
        return pull(vector)[0]

    return product


def hessian_forward_over_reverse(loss: Loss) -> Dense:
    """Return the dense Hessian by `torch.func.hessian`: forward mode over reverse mode, all columns at once."""
    return _dense(loss, lambda f, v: torch.func.hessian(f)(v))


def hessian_reverse_over_reverse(loss: Loss) -> Dense:
    """Return the dense Hessian by reverse mode over reverse mode, all rows at once."""
    return _dense(loss, lambda f, v: torch.func.jacrev(torch.func.jacrev(f))(v))


def hessian_forward_over_forward(loss: Loss) -> Dense:
    """Return the dense Hessian by forward mode over forward mode: P x P directions at once, the slowest nesting."""
    return _dense(loss, lambda f, v: torch.func.jacfwd(torch.func.jacfwd(f))(v))


def hessian_functional(loss: Loss) -> Dense:
    """Return the dense Hessian by `torch.autograd.functional.hessian`: by default one backward pass for each row."""
    return _dense(loss, torch.autograd.functional.hessian)


def hessian_functional_vectorized(loss: Loss) -> Dense:
    """Return the dense Hessian by `torch.autograd.functional.hessian`, vectorized over its rows."""
    return _dense(loss, lambda f, v: torch.autograd.functional.hessian(f, v, vectorize=True))


def hessian_functional_forward(loss: Loss) -> Dense:
    """Return the dense Hessian by `torch.autograd.functional.hessian`, vectorized, forward mode outside."""

    def second(f: Callable[[Tensor], Tensor], vector: Tensor) -> Tensor:
        return torch.autograd.functional.hessian(f, vector, vectorize=True, outer_jacobian_strategy="forward-mode")

    return _dense(loss, second)


def hessian_double_backward(loss: Loss) -> Dense:
    """Return the dense Hessian as in the notebook: one backward pass through the gradient for each row."""

    @torch.enable_grad()
    def second(f: Callable[[Tensor], Tensor], vector: Tensor) -> Tensor:
        leaf = vector.requires_grad_()
        value = f(leaf)
        slope = torch.autograd.grad(value, leaf, create_graph=True)[0] if value.requires_grad else value
        if not slope.requires_grad:  # the loss is constant or linear
            return leaf.new_zeros(len(leaf), len(leaf))
        return torch.stack([torch.autograd.grad(entry, leaf, retain_graph=True)[0] for entry in slope])

    return _dense(loss, second)


def hessian_compiled(loss: Loss) -> Dense:
    """Return the dense Hessian by reverse mode over reverse mode under `torch.compile`, which needs a C++ compiler.

    Of `torch.func`'s nestings this one runs fastest when compiled, and compiles fastest.

    Raises:
        NotImplementedError: Nothing would be compiled; see `runtime.compiled`.
    """

    @runtime.compiled
    def matrix(vector: Tensor, params: Params, batch: Any) -> Tensor:
        _, unravel = runtime.ravel_tree(params)
        return torch.func.jacrev(torch.func.jacrev(lambda v: loss(unravel(v), batch)))(vector)

    return checked(loss, lambda params, batch: matrix(runtime.ravel(params).detach(), params, batch))


def _dense(loss: Loss, second: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]) -> Dense:
    """Return the second derivative, by `second`, of `loss` as a function of the raveled parameters."""

    def matrix(params: Params, batch: Any) -> Tensor:
        vector, unravel = runtime.ravel_tree(params)
        return second(lambda v: loss(unravel(v), batch), vector.detach())

    return checked(loss, matrix)

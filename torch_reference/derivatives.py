"""Derivatives of a loss(params, batch) by automatic differentiation: makers of functions of (params, batch[, vector]).

A Hessian is a P x P matrix, whose rows and columns have the order of `runtime.ravel`. The functions here differentiate
along all P basis vectors at once; those of `blocks` take a few vectors at a time.

Each Hessian function first checks its arguments by `validation`. Gradients and products do not: they are called in
loops, take less time than the check, and errors in their arguments are the framework's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from torch_reference import runtime
from torch_reference.validation import check_loss, check_params

__all__ = [
    "gradient",
    "hessian_compiled",
    "hessian_double_backward",
    "hessian_forward_over_forward",
    "hessian_forward_over_reverse",
    "hessian_functional",
    "hessian_functional_forward",
    "hessian_functional_vectorized",
    "hessian_reverse_over_reverse",
    "hvp_forward_over_reverse",
    "hvp_reverse_over_forward",
    "hvp_reverse_over_reverse",
]

Params = Mapping[str, Tensor]
Loss = Callable[[Params, Any], Tensor]
Product = Callable[[Params, Any, Params], dict[str, Tensor]]
Dense = Callable[[Params, Any], Float[Tensor, "P P"]]


def gradient(loss: Loss) -> Callable[[Params, Any], dict[str, Tensor]]:
    """Return the gradient of `loss` with respect to its parameters, a tree like theirs, by `torch.autograd.grad`.

    Example:
        >>> loss = lambda params, batch: params["a"] ** 2 * params["b"]
        >>> params = {"a": torch.tensor(2.0), "b": torch.tensor(3.0)}
        >>> {name: leaf.item() for name, leaf in gradient(loss)(params, None).items()}
        {'a': 12.0, 'b': 4.0}
    """

    def gradient_of(params: Params, batch: Any) -> dict[str, Tensor]:
        leaves = {name: leaf.detach().requires_grad_() for name, leaf in params.items()}
        return dict(zip(leaves, torch.autograd.grad(loss(leaves, batch), list(leaves.values())), strict=True))

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

    def product(params: Params, batch: Any, vector: Params) -> dict[str, Tensor]:
        slope = torch.func.grad(lambda p: loss(p, batch))
        return torch.func.jvp(slope, (dict(params),), (dict(vector),))[1]

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

    def product(params: Params, batch: Any, vector: Params) -> dict[str, Tensor]:
        def slope(p: Params) -> Tensor:
            return torch.func.jvp(lambda q: loss(q, batch), (dict(p),), (dict(vector),))[1]

        return torch.func.grad(slope)(dict(params))

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

    def product(params: Params, batch: Any, vector: Params) -> dict[str, Tensor]:
        _, pull = torch.func.vjp(torch.func.grad(lambda p: loss(p, batch)), dict(params))
        return pull(dict(vector))[0]

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

    def second(f: Callable[[Tensor], Tensor], vector: Tensor) -> Tensor:
        leaf = vector.requires_grad_()
        (slope,) = torch.autograd.grad(f(leaf), leaf, create_graph=True)
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
        unravel = unravel_like(params)
        return torch.func.jacrev(torch.func.jacrev(lambda v: loss(unravel(v), batch)))(vector)

    return checked(loss, lambda params, batch: matrix(runtime.ravel(params).detach(), dict(params), batch))


def unravel_like(params: Params) -> Callable[[Tensor], dict[str, Tensor]]:
    """Return the inverse of `runtime.ravel` for trees of these shapes."""
    shapes = {name: leaf.shape for name, leaf in params.items()}
    sizes = [shape.numel() for shape in shapes.values()]

    def unravel(vector: Tensor) -> dict[str, Tensor]:
        pieces = vector.split(sizes)
        return {name: piece.view(shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}

    return unravel


def checked(loss: Loss, compute: Callable[..., Any]) -> Callable[..., Any]:
    """Return `compute` with checks: of the parameters at each call, of the loss at the first call with new shapes."""
    known = set()

    def check_and_compute(params: Params, batch: Any, *rest: Any) -> Any:
        check_params(params)
        shapes = str([(name, leaf.shape, leaf.dtype) for name, leaf in params.items()])
        if shapes not in known:
            check_loss(loss, params, batch)
            known.add(shapes)
        return compute(params, batch, *rest)

    return check_and_compute


def _dense(loss: Loss, second: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]) -> Dense:
    """Return the second derivative, by `second`, of `loss` as a function of the raveled parameters."""

    def matrix(params: Params, batch: Any) -> Tensor:
        unravel = unravel_like(params)
        return second(lambda v: loss(unravel(v), batch), runtime.ravel(params).detach())

    return checked(loss, matrix)

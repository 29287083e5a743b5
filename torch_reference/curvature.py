"""Second derivatives of a loss at a point, by one call each.

`derivatives` makes them public. Parameters are a tree of floating point tensors of one type, such as
`dict(module.named_parameters())`. A matrix over the parameters has the order of the tree's leaves, in which the keys of
a dict stay as they are.

Whether parameters require a gradient does not matter, and results have no graph.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils import _pytree as pytree

from torch_reference import blocks, last_layer, runtime
from torch_reference.finiteness import why_not_finite
from torch_reference.validation import (
    check_chunk_size,
    check_leaves,
    check_loss,
    check_once,
    check_params,
    check_vector,
    known_shapes,
    twice_differentiable,
    warn,
)

__all__ = ["diagonal", "gauss_newton", "hessian", "hessian_of_network", "hvp"]

Params = Any
Loss = Callable[..., Tensor]


def hessian(loss: Loss, params: Params, *args: Any, chunk_size: int | str | None = "auto") -> Float[Tensor, "P P"]:
    """Return the Hessian of loss(params, *args) in the parameters, by Hessian-vector products.

    The matrix has a row and a column for each parameter, in the order of the leaves of `params`. A part of the
    parameters that the loss does not depend on has zeros. A warning is given where the loss has kinks, and where
    entries of the matrix are not finite: it names an entry and the likely cause.

    Args:
        loss: Any function (params, *args) -> scalar.
        params: A tree of floating point tensors of one type.
        *args: What else the loss takes; it is not differentiated.
        chunk_size: How many products are computed at a time: "auto" for what is fast and fits the free memory, a
            positive whole number, or None for all at once, which is `torch.func.hessian`'s way.

    Raises:
        TypeError: A leaf of the parameters is no floating point tensor, or leaves have several types; the
            loss does not return one floating point number.
        ValueError: There are no parameters, or an entry is not finite; the chunk size is not allowed; the loss
            changes a tensor that it did not make, as batch normalization in training mode does.
        NotImplementedError: An operation of the loss has no second derivative in PyTorch.

    Example:
        >>> import torch
        >>> from torch_reference.derivatives import hessian
        >>> def loss(params, x):
        ...     return (x * params["slope"] + params["height"]) ** 2
        >>> hessian(loss, {"slope": torch.tensor(1.0), "height": torch.tensor(0.0)}, 3.0).tolist()
        [[18.0, 6.0], [6.0, 2.0]]
    """
    return _whole(blocks.rows_of, partial(blocks.hessian_product, loss), loss, params, args, chunk_size)


def diagonal(loss: Loss, params: Params, *args: Any, chunk_size: int | str | None = "auto") -> Float[Tensor, " P"]:
    """Return the diagonal of `hessian`; the whole matrix is never in memory.

    Args:
        loss: Any function (params, *args) -> scalar.
        params: A tree of floating point tensors of one type.
        *args: What else the loss takes; it is not differentiated.
        chunk_size: As for `hessian`.

    Raises:
        TypeError: As for `hessian`.
        ValueError: As for `hessian`.

    Example:
        >>> import torch
        >>> from torch_reference.derivatives import diagonal
        >>> diagonal(lambda params: (params**3).sum(), torch.tensor([1.0, 2.0])).tolist()
        [6.0, 12.0]
    """
    return _whole(blocks.diagonal_of, partial(blocks.hessian_product, loss), loss, params, args, chunk_size)


@twice_differentiable
def hvp(loss: Loss, params: Params, vector: Params, *args: Any) -> Params:
    """Return the Hessian of loss(params, *args) times a vector, both trees like the parameters.

    Since the Hessian is symmetric, this is the vector-Hessian product too. Whether the parameters and the product are
    finite is not checked.

    Args:
        loss: Any function (params, *args) -> scalar.
        params: A tree of floating point tensors of one type.
        vector: A tree with the parameters' leaves, shapes and type.
        *args: What else the loss takes; it is not differentiated.

    Raises:
        TypeError: As for `hessian`; or a leaf of the vector has another type.
        ValueError: There are no parameters; the vector lacks a leaf, has one too many, or one of another shape.

    Example:
        >>> import torch
        >>> from torch_reference.derivatives import hvp
        >>> hvp(lambda params: (params**3).sum(), torch.tensor([1.0, 2.0]), torch.tensor([1.0, 1.0])).tolist()
        [6.0, 12.0]
    """
    check_leaves(params)
    params, vector, args = _detached((params, check_vector(vector, params), args))
    check_once(known_shapes(loss), loss, params, *args)
    with torch.no_grad():
        _, pull = torch.func.vjp(torch.func.grad(lambda p: loss(p, *args)), params)
        return pull(vector)[0]


def gauss_newton(
    predict: Callable[[Params, Any], Tensor],
    output_loss: Callable[[Tensor, Any], Tensor],
    params: Params,
    inputs: Any,
    targets: Any,
    *,
    chunk_size: int | str | None = "auto",
) -> Float[Tensor, "P P"]:
    """Return the generalized Gauss-Newton matrix J' H J of output_loss(predict(params, inputs), targets).

    J is the Jacobian of the outputs in the parameters, H the Hessian of the loss in the outputs (Schraudolph, 2002).
    For a linear model it is the Hessian. For any model it is positive semidefinite if output_loss is convex.

    Args:
        predict: predict(params, inputs) returns the outputs.
        output_loss: output_loss(outputs, targets) returns a scalar.
        params: A tree of floating point tensors of one type.
        inputs: What else `predict` takes.
        targets: What else `output_loss` takes.
        chunk_size: As for `hessian`.

    Raises:
        TypeError: As for `hessian`.
        ValueError: As for `hessian`.

    Example:
        >>> import torch
        >>> from torch_reference.derivatives import gauss_newton
        >>> predict = lambda params, inputs: torch.exp(params["w"]) * inputs
        >>> squares = lambda outputs, targets: ((outputs - targets) ** 2).sum()
        >>> gauss_newton(predict, squares, {"w": torch.tensor(0.0)}, torch.tensor([1.0, 2.0]), torch.zeros(2)).tolist()
        [[10.0]]
    """
    check_chunk_size(chunk_size)
    params, inputs, targets = _detached((params, inputs, targets))

    def loss(params: Params, inputs: Any, targets: Any) -> Tensor:
        return output_loss(predict(params, inputs), targets)

    def product(params: Params, *batch: Any) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        return blocks.gauss_newton_product(predict, output_loss, params, batch)

    return _whole(blocks.rows_of, product, loss, params, (inputs, targets), chunk_size)


@twice_differentiable
def hessian_of_network(
    predict: Callable[[Params, Any], Tensor],
    output_loss: Callable[[Tensor, Any], Tensor],
    params: Params,
    inputs: Any,
    targets: Any,
    *,
    last: str,
    chunk_size: int | str | None = "auto",
) -> Float[Tensor, "P P"]:
    """Return the Hessian of output_loss(predict(params, inputs), targets), faster where the last layer is large.

    The block of a last linear layer takes matrix products of its features, as the closed form of softmax regression
    does; what comes before it takes Hessian-vector products. The loss is any sum or mean over rows: softmax, squares.
    Its product with a random vector is compared with that of the loss.

    Args:
        predict: predict(params, inputs) returns the outputs (*rows, outputs).
        output_loss: output_loss(outputs, targets) returns a scalar.
        params: A tree of floating point tensors of one type.
        inputs: What else `predict` takes.
        targets: What else `output_loss` takes.
        last: The name of the last layer in the parameters, "layer2" or "decoder.read". It has a kernel of two axes, in
            either order, and may have a bias.
        chunk_size: As for `hessian`.

    Raises:
        TypeError: As for `hessian`.
        ValueError: As for `hessian`; or there is no such last linear layer, or the loss is no sum over rows.

    Example:
        >>> import torch
        >>> from torch_reference.derivatives import hessian_of_network
        >>> predict = lambda params, inputs: inputs @ params["read.weight"].T
        >>> squares = lambda outputs, targets: ((outputs - targets) ** 2).sum()
        >>> params, inputs = {"read.weight": torch.tensor([[3.0, 1.0]])}, torch.tensor([[1.0, 2.0]])
        >>> hessian_of_network(predict, squares, params, inputs, torch.tensor([[0.0]]), last="read").tolist()
        [[2.0, 4.0], [4.0, 8.0]]
    """
    check_chunk_size(chunk_size)
    check_params(params)
    params, inputs, targets = _detached((params, inputs, targets))

    def loss(params: Params, inputs: Any, targets: Any) -> Tensor:
        return output_loss(predict(params, inputs), targets)

    block = _block_size(chunk_size, check_loss(loss, params, inputs, targets).kept_bytes, runtime.ravel(params))
    with torch.no_grad():
        layers = last_layer.layouts(params, last, predict(params, inputs).shape)
        found, _ = last_layer.settled(predict, output_loss, layers, params, (inputs, targets), block)
    if words := why_not_finite(found, loss, params, inputs, targets):
        warn(words, RuntimeWarning)
    return found


@twice_differentiable
def _whole(
    compute: Callable[..., Tensor],
    product_at: Callable[..., tuple[Tensor, Callable[[Tensor], Tensor]]],
    loss: Loss,
    params: Params,
    args: tuple[Any, ...],
    chunk_size: Any,
) -> Tensor:
    """Check the arguments, compute, and warn where the result is not finite."""
    check_chunk_size(chunk_size)
    check_params(params)
    params, args = _detached((params, args))
    kept = check_loss(loss, params, *args).kept_bytes
    with torch.no_grad():
        vector, product = product_at(params, *args)
        found = compute(product, vector, _block_size(chunk_size, kept, vector))
    if words := why_not_finite(found, loss, params, *args):
        warn(words, RuntimeWarning)
    return found


def _block_size(chunk_size: Any, kept: int, vector: Tensor) -> int:
    """Return how many products to compute at a time."""
    return blocks.block_size_of(kept, vector) if chunk_size == "auto" else chunk_size or len(vector)


def _detached(tree: Any) -> Any:
    return pytree.tree_map_only(Tensor, Tensor.detach, tree)

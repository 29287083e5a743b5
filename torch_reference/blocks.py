"""Second derivatives by HVP blocks, for any loss and any tree of parameters.

`torch.func.hessian` differentiates along the whole basis at once, so its memory is activations times parameters. Here
the basis is cut into blocks of some vectors, so the memory is the result and a few blocks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from torch_reference import runtime
from torch_reference.inspection import Normalizations, kept_bytes
from torch_reference.validation import check_block_size, checked

__all__ = ["block_size_for", "diagonal_exact", "diagonal_hutchinson", "gauss_newton", "hessian_blocked"]

Params = Any
Loss = Callable[..., Tensor]
Dense = Callable[[Params, Any], Float[Tensor, "P P"]]

CACHED_VECTORS = 65
"""The block size on a CPU: of 8 to 325 it was the fastest, or within 5 % of it, on networks of 610, 650 and 2,035
parameters. Smaller blocks call more operators, each of which costs microseconds. The arrays of larger blocks go back to
the system when they are freed, and the next operator has page faults."""


def hessian_blocked(loss: Loss, block_size: int | None = None) -> Dense:
    """Return the dense Hessian by Hessian-vector products (reverse over reverse), a block of rows at a time.

    The graph of the gradient is made once; each block makes a backward pass through it.

    Args:
        loss: Any function (params, batch) -> scalar.
        block_size: The number of vectors in an HVP block; chosen by `block_size_for` if None.

    Raises:
        ValueError: The block size is not a positive whole number.

    Example:
        >>> loss = lambda params, batch: params["a"] ** 2 * params["b"]
        >>> params = {"a": torch.tensor(2.0), "b": torch.tensor(3.0)}
        >>> hessian_blocked(loss)(params, None).tolist()
        [[6.0, 4.0], [4.0, 0.0]]
    """
    check_block_size(block_size)

    def matrix(params: Params, batch: Any) -> Tensor:
        vector, product = hessian_product(loss, params, batch)
        return rows_of(product, vector, block_size or block_size_for(loss, params, batch))

    return checked(loss, matrix)


def gauss_newton(
    predict: Callable[[Params, Any], Tensor],
    output_loss: Callable[[Tensor, Any], Tensor],
    block_size: int | None = None,
) -> Dense:
    """Return the generalized Gauss-Newton matrix J' H J, a block of columns at a time (Schraudolph, 2002).

    J is the Jacobian of the outputs in the parameters, H the Hessian of the loss in the outputs. For a linear model it
    is the Hessian. For any model it is positive semidefinite if output_loss is convex.

    Args:
        predict: predict(params, inputs) returns the outputs.
        output_loss: output_loss(outputs, targets) returns a scalar.
        block_size: The number of vectors in an HVP block; chosen by `block_size_for` if None.

    Returns:
        The function (params, (inputs, targets)) -> matrix.

    Raises:
        ValueError: The block size is not a positive whole number.

    Example:
        >>> predict = lambda params, inputs: params["w"] * inputs
        >>> squares = lambda outputs, targets: ((outputs - targets) ** 2).sum()
        >>> batch = (torch.tensor([1.0, 2.0]), torch.tensor([0.0, 0.0]))
        >>> gauss_newton(predict, squares)({"w": torch.tensor(3.0)}, batch).tolist()
        [[10.0]]
    """
    check_block_size(block_size)

    def loss(params: Params, batch: Any) -> Tensor:
        return output_loss(predict(params, batch[0]), batch[1])

    def matrix(params: Params, batch: Any) -> Tensor:
        vector, product = gauss_newton_product(predict, output_loss, params, batch)
        return rows_of(product, vector, block_size or block_size_for(loss, params, batch))

    return checked(loss, matrix)


def diagonal_exact(loss: Loss, block_size: int | None = None) -> Callable[[Params, Any], Float[Tensor, " P"]]:
    """Return the exact diagonal of the Hessian, a block of columns at a time; the whole matrix is never in memory.

    Args:
        loss: Any function (params, batch) -> scalar.
        block_size: The number of vectors in an HVP block; chosen by `block_size_for` if None.

    Raises:
        ValueError: The block size is not a positive whole number.

    Example:
        >>> loss = lambda params, batch: params["a"] ** 2 * params["b"]
        >>> params = {"a": torch.tensor(2.0), "b": torch.tensor(3.0)}
        >>> diagonal_exact(loss)(params, None).tolist()
        [6.0, 0.0]
    """
    check_block_size(block_size)

    def diagonal(params: Params, batch: Any) -> Tensor:
        vector, product = hessian_product(loss, params, batch)
        return diagonal_of(product, vector, block_size or block_size_for(loss, params, batch))

    return checked(loss, diagonal)


def diagonal_hutchinson(loss: Loss) -> Callable[[Params, Any, Float[Tensor, "samples P"]], Float[Tensor, " P"]]:
    """Return an estimate of the diagonal: the mean of z * (H z) over probes z of random signs (Bekas et al., 2007).

    Returns:
        The function (params, batch, probes) -> diagonal. The probes, (samples, P) of -1 and 1, are an argument, so that
        two frameworks can use the same ones.
    """

    def diagonal(params: Params, batch: Any, probes: Tensor) -> Tensor:
        _, product = hessian_product(loss, params, batch)
        return torch.stack([z * product(z) for z in probes]).mean(dim=0)

    return checked(loss, diagonal)


def block_size_for(loss: Loss, params: Params, *args: Any) -> int:
    """Return the block size: `CACHED_VECTORS` on a CPU, all parameters on a GPU, or fewer if memory is short."""
    return block_size_of(kept_bytes(loss, params, *args), runtime.ravel(params))


def block_size_of(kept: int, vector: Tensor) -> int:
    """Return the block size where a derivative keeps so many bytes for each vector."""
    wanted = CACHED_VECTORS if vector.device.type == "cpu" else len(vector)
    return max(1, min(wanted, len(vector), _memory_at_hand(vector.device) // 8 // max(kept, 1)))


def hessian_product(loss: Loss, params: Params, *args: Any) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return the parameters as a vector, and the product of the Hessian with such a vector."""
    vector, unravel = runtime.ravel_tree(params)
    vector = vector.detach()
    # jacrev instead of grad: its axis of length one changes the layout of the matrix products, so that a batch of them
    # takes a third of the time (on digits 15 ms instead of 48).
    with Normalizations() as normalizations:
        _, pull = torch.func.vjp(torch.func.jacrev(lambda v: loss(unravel(v), *args)), vector)
    if normalizations.found:  # jacrev batches the first backward pass, and theirs has a wrong derivative then
        _, pull = torch.func.vjp(torch.func.grad(lambda v: loss(unravel(v), *args)), vector)
    return vector, lambda direction: pull(direction)[0]


def gauss_newton_product(
    predict: Callable[[Params, Any], Tensor], output_loss: Callable[[Tensor, Any], Tensor], params: Params, batch: Any
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return the parameters as a vector, and the product of the Gauss-Newton matrix with such a vector."""
    inputs, targets = batch
    vector, unravel = runtime.ravel_tree(params)
    vector = vector.detach()
    outputs, pull = torch.func.vjp(lambda v: predict(unravel(v), inputs), vector)
    outputs = outputs.detach()
    _, push = torch.func.vjp(lambda u: pull(u)[0], outputs)  # pull is linear, so its own pullback is J
    _, bend = torch.func.vjp(torch.func.grad(lambda out: output_loss(out, targets)), outputs)
    return vector, lambda direction: pull(*bend(*push(direction)))[0]


def rows_of(
    product: Callable[[Tensor], Tensor], vector: Tensor, block_size: int, count: int | None = None
) -> Float[Tensor, "rows P"]:
    """Return the symmetric matrix of `product`, or its first rows, written in place block by block."""
    count = len(vector) if count is None else count
    matrix = vector.new_empty(count, len(vector))
    for start, basis in _bases(vector, block_size, count):
        matrix[start : start + len(basis)] = torch.func.vmap(product)(basis)
    return matrix


def diagonal_of(product: Callable[[Tensor], Tensor], vector: Tensor, block_size: int) -> Float[Tensor, " P"]:
    """Return the diagonal of the matrix of `product`, block by block."""
    blocks = _bases(vector, block_size, len(vector))
    return torch.cat([torch.func.vmap(product)(basis).diagonal(start).clone() for start, basis in blocks])


def _bases(vector: Tensor, block_size: int, count: int) -> Iterator[tuple[int, Float[Tensor, "block P"]]]:
    for start in range(0, count, block_size):
        block = min(block_size, count - start)
        basis = vector.new_zeros(block, len(vector))
        basis[range(block), range(start, start + block)] = 1
        yield start, basis


def _memory_at_hand(device: torch.device) -> int:
    """Return the free memory of the GPU, or of the machine, in bytes."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if "SC_AVPHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 2**32  # macOS does not tell

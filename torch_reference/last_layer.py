"""The Hessian of a network that ends in a linear layer, with the layer's own block by matrix products.

A row of the outputs is z = W a, with the features a of the layer, and 1 beside them for a bias. Where the loss is a sum
over rows, the second derivative in W_ki and W_lj is the sum over rows of L_kl a_i a_j, with the second derivative L of
the loss in the row's outputs. So each pair of outputs takes one product of two matrices, as in the closed form of
softmax regression. What comes before the layer takes Hessian-vector products.

Neither the features nor L need a description of the network. The features are the outputs for kernels of zeros and
ones; L is a Hessian-vector product for each output, of all rows at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils import _pytree as pytree

from torch_reference import blocks
from torch_reference.runtime import ravel_tree
from torch_reference.validation import check_block_size, checked

__all__ = ["Layer", "hessian_at", "hessian_last_layer", "layouts", "settled"]

Params = Any
Predict = Callable[[Params, Any], Tensor]
OutputLoss = Callable[[Tensor, Any], Tensor]


REFUSED = (
    "products with the Hessian would differ by {:.1e} of their size from those of the loss: the layer named last is "
    "not linear, is not the last operation of the network or is used twice, or the loss is no sum over rows"
)


class Layer(NamedTuple):
    """Which leaves of the parameters the last layer has.

    Attributes:
        kernel: The number of the kernel among the leaves.
        bias: The number of the bias, or None.
        outputs_first: Whether the kernel is (outputs, features), or (features, outputs).
    """

    kernel: int
    bias: int | None
    outputs_first: bool


def hessian_last_layer(
    predict: Predict, output_loss: OutputLoss, last: str, block_size: int | None = None
) -> Callable[[Params, Any], Float[Tensor, "P P"]]:
    """Return the dense Hessian of output_loss(predict(params, inputs), targets), whose last layer is linear.

    Args:
        predict: predict(params, inputs) returns the outputs (*rows, outputs).
        output_loss: output_loss(outputs, targets) returns a scalar, a sum or a mean over rows.
        last: The name of the last layer in the parameters, "layer2" or "decoder.read".
        block_size: The number of vectors in an HVP block; chosen by `block_size_for` if None.

    Returns:
        The function (params, (inputs, targets)) -> matrix.

    Raises:
        ValueError: The block size is not a positive whole number; or, at a call, there is no such last layer.

    Example:
        >>> predict = lambda params, inputs: inputs @ params["read.weight"].T
        >>> squares = lambda outputs, targets: ((outputs - targets) ** 2).sum()
        >>> params = {"read.weight": torch.tensor([[3.0, 1.0]])}
        >>> batch = (torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0]]))
        >>> hessian_last_layer(predict, squares, "read")(params, batch).tolist()
        [[2.0, 4.0], [4.0, 8.0]]
    """
    check_block_size(block_size)

    def loss(params: Params, batch: Any) -> Tensor:
        return output_loss(predict(params, batch[0]), batch[1])

    known: dict[Any, Layer] = {}

    @torch.no_grad()
    def compute(params: Params, batch: Any) -> Tensor:
        """Compute the matrix; what the layer is, is looked at once for the same shapes."""
        shapes = (predict(params, batch[0]).shape, *(leaf.shape for leaf in pytree.tree_leaves(params)))
        if shapes in known:
            return hessian_at(predict, output_loss, known[shapes], params, batch, block_size)
        matrix, known[shapes] = settled(
            predict, output_loss, layouts(params, last, shapes[0]), params, batch, block_size
        )
        return matrix

    return checked(loss, compute)


def layouts(params: Params, last: str, outputs: tuple[int, ...]) -> list[Layer]:
    """Return the layer of that name, by each layout that its shape allows: two if the kernel is square.

    Raises:
        ValueError: There is no such layer, or it is no linear layer with so many outputs.
    """
    leaves = [
        (".".join(str(astuple(key)[0]) for key in path), leaf)  # a key is a dataclass of one field
        for path, leaf in pytree.tree_flatten_with_path(params)[0]
    ]
    outputs = tuple(outputs)
    mine = {n: tuple(leaf.shape) for n, (name, leaf) in enumerate(leaves) if name.rpartition(".")[0] == last}
    if not mine:
        known = ", ".join(dict.fromkeys(name.rpartition(".")[0] or "no layer" for name, _ in leaves))
        raise ValueError(f"last {last!r} names no layer of params, which have {known}")
    kernels = [number for number, shape in mine.items() if len(shape) == 2]
    biases = [number for number, shape in mine.items() if shape == outputs[-1:]]
    kinds = [axis for axis in (0, 1) if kernels and outputs and mine[kernels[0]][axis] == outputs[-1]]
    if len(kernels) != 1 or len(kernels) + len(biases) != len(mine) or not kinds:
        shapes = ", ".join(f"{leaves[number][0]} {shape}" for number, shape in mine.items())
        raise ValueError(
            f"last {last!r} is no linear layer for outputs {outputs}: it has {shapes}, and a linear layer has a kernel "
            "of two axes, of which one is the outputs, and at most a bias"
        )
    return [Layer(kernels[0], next(iter(biases), None), axis == 0) for axis in kinds]


def settled(
    predict: Predict, output_loss: OutputLoss, layers: list[Layer], params: Params, batch: Any, block_size: int | None
) -> tuple[Float[Tensor, "P P"], Layer]:
    """Return the Hessian of the first layout whose product with a vector is that of the loss, and the layout.

    Raises:
        ValueError: There is none.
    """
    bound, distances = torch.finfo(pytree.tree_leaves(params)[0].dtype).eps ** 0.5, []
    for layer in layers:
        matrix = hessian_at(predict, output_loss, layer, params, batch, block_size)
        distances.append(_distance(lambda p: output_loss(predict(p, batch[0]), batch[1]), params, matrix))
        if distances[-1] <= bound:
            return matrix, layer
    raise ValueError(REFUSED.format(min(distances)))


def hessian_at(
    predict: Predict, output_loss: OutputLoss, layer: Layer, params: Params, batch: Any, block_size: int | None
) -> Float[Tensor, "P P"]:
    """Return the Hessian, where the layer is what it should be."""
    inputs, targets = batch
    order, vector, join = _ordered(params, layer)
    outputs_for, tail, outputs = _parts(predict, layer, params, inputs)
    features = _features(outputs_for, layer, tail, outputs.shape[-1])
    rows = features if layer.bias is None else torch.cat([torch.ones_like(features[:, :1]), features], dim=1)
    matrix = _own_block(rows, _curvature(lambda z: output_loss(z, targets), outputs), layer)
    if before := len(vector) - len(tail):

        def loss(vector: Tensor) -> Tensor:
            return output_loss(predict(join(vector), inputs), targets)

        _, product = blocks.hessian_product(loss, vector)
        above = blocks.rows_of(product, vector, block_size or blocks.block_size_for(loss, vector), before)
        matrix = torch.cat([above, torch.cat([above[:, before:].T, matrix], dim=1)])
    if order == sorted(order):
        return matrix
    numbers = join(torch.arange(len(vector), device=vector.device))
    places = torch.cat([leaf.reshape(-1) for leaf in pytree.tree_leaves(numbers)])
    return matrix[places][:, places]


def _ordered(params: Params, layer: Layer) -> tuple[list[int], Tensor, Callable[[Tensor], Params]]:
    """Return the order of the leaves with the layer last, the parameters in it as a vector, and the way back."""
    leaves, structure = pytree.tree_flatten(params)
    last = [number for number in (layer.kernel, layer.bias) if number is not None]
    order = [number for number in range(len(leaves)) if number not in last] + last
    sizes = [leaves[number].numel() for number in order]

    def join(vector: Tensor) -> Params:
        parts = dict(zip(order, vector.split(sizes), strict=True))
        return pytree.tree_unflatten([parts[n].view(leaf.shape) for n, leaf in enumerate(leaves)], structure)

    return order, torch.cat([leaves[number].detach().reshape(-1) for number in order]), join


def _parts(
    predict: Predict, layer: Layer, params: Params, inputs: Any
) -> tuple[Callable[[Tensor], Tensor], Tensor, Tensor]:
    """Return the outputs as a function of the last layer's parameters, these, and the outputs."""
    _, vector, join = _ordered(params, layer)
    leaves, outputs = pytree.tree_leaves(params), predict(params, inputs).detach()
    size = sum(leaves[number].numel() for number in (layer.kernel, layer.bias) if number is not None)
    start = vector[: len(vector) - size]

    def outputs_for(tail: Tensor) -> Tensor:
        return predict(join(torch.cat([start, tail])), inputs).reshape(-1, outputs.shape[-1])

    return outputs_for, vector[len(start) :], outputs


def _features(
    outputs_for: Callable[[Tensor], Tensor], layer: Layer, tail: Tensor, count: int
) -> Float[Tensor, "rows f"]:
    """Return the features of the layer: the outputs for kernels of zeros and ones, and without a bias.

    With a one for each output, at another feature each, a kernel shows as many features as there are outputs.
    """
    size = (len(tail) if layer.bias is None else len(tail) - count) // count
    kernels = np.eye(-(-size // count) * count, size).reshape(-1, count, size)
    flat = (kernels if layer.outputs_first else kernels.swapaxes(1, 2)).reshape(len(kernels), -1)
    padded = np.pad(flat, ((0, 0), (0, len(tail) - flat.shape[1])))
    tails = torch.as_tensor(padded, dtype=tail.dtype, device=tail.device)
    shown = torch.func.vmap(outputs_for)(tails) - outputs_for(torch.zeros_like(tail))
    return shown.reshape(len(kernels), -1, count).movedim(0, 1).reshape(-1, len(kernels) * count)[:, :size].contiguous()


def _curvature(output_loss: Callable[[Tensor], Tensor], outputs: Tensor) -> Float[Tensor, "k rows k"]:
    """Return the second derivatives of the loss in each row's outputs, if it is a sum over rows."""
    count = outputs.shape[-1]
    _, bend = torch.func.vjp(torch.func.grad(output_loss), outputs)
    units = torch.eye(count, dtype=outputs.dtype, device=outputs.device)
    units = units.view(count, *[1] * (outputs.ndim - 1), count).expand(count, *outputs.shape)
    return torch.func.vmap(lambda unit: bend(unit)[0])(units).reshape(count, -1, count)


def _own_block(rows: Float[Tensor, "rows f"], curvature: Float[Tensor, "k rows k"], layer: Layer) -> Tensor:
    """Return the Hessian in the kernel and the bias. `rows` are the features, after a one for the bias."""
    count, start = len(curvature), 0 if layer.bias is None else 1
    features = rows.shape[1] - start
    size = count * features
    matrix = rows.new_empty(size + start * count, size + start * count)
    shape = (count, features) if layer.outputs_first else (features, count)
    kernel, mixed = (
        matrix[:size, :size].unflatten(1, shape).unflatten(0, shape),
        matrix[:size, size:].unflatten(0, shape),
    )
    if not layer.outputs_first:
        kernel, mixed = kernel.permute(1, 0, 3, 2), mixed.permute(1, 0, 2)
    for k in range(count):  # with all outputs from k on in one matrix product
        weighted = rows[:, None, :] * curvature[k, :, k:, None]
        product = (rows.T @ weighted.flatten(1)).view(-1, count - k, rows.shape[1])  # (feature, l, feature)
        kernel[k, :, k:] = product[start:, :, start:]
        kernel[k:, :, k] = product[start:, :, start:].permute(1, 2, 0)
        if start:
            mixed[k, :, k:] = product[1:, :, 0]
            mixed[k:, :, k] = product[0, :, 1:]
            matrix[size + k, size + k :] = matrix[size + k :, size + k] = product[0, :, 0]
    matrix[size:, :size] = matrix[:size, size:].T
    return matrix


def _distance(loss: Callable[[Params], Tensor], params: Params, matrix: Float[Tensor, "P P"]) -> float:
    """Return how far the matrix's product with a random vector is from that of the loss, relative to its size.

    Where either is not finite nothing is compared: the matrix then shows it. Near a minimum second derivatives may be
    rounding alone; so the distance is seen relative to the slope too.
    """
    vector, unravel = ravel_tree(params)
    drawn = np.random.default_rng(0).standard_normal(len(vector))
    change = torch.as_tensor(drawn, dtype=vector.dtype, device=vector.device)
    slope, bend = torch.func.vjp(torch.func.grad(lambda v: loss(unravel(v))), vector)
    product, found, eps = bend(change)[0], matrix @ change, torch.finfo(vector.dtype).eps
    finite = torch.isfinite(found) & torch.isfinite(product)
    sizes = torch.stack([matrix.abs() @ change.abs(), product.abs(), 100 * eps**0.5 * slope.abs()])
    size = max(float(torch.where(finite, sizes, 0).max()), eps)
    return float(torch.where(finite, (found - product).abs(), 0).max()) / size

"""The Hessian of a network that ends in a linear layer, with the layer's own block by matrix products.

A row of the outputs is z = W a, with the features a of the layer, and 1 beside them for a bias. Where the loss is a sum
over rows, the second derivative in W_ki and W_lj is the sum over rows of L_kl a_i a_j, with the second derivative L of
the loss in the row's outputs. So each pair of outputs takes one product of two matrices, as in the closed form of
softmax regression. What comes before the layer takes Hessian-vector products.

Neither the features nor L need a description of the network. The features are the outputs for kernels of zeros and
ones; L is a Hessian-vector product for each output, of all rows at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxopt_study.backends.jax import blocks
from jaxopt_study.backends.jax.closed_form import class_pair_products
from jaxopt_study.backends.jax.validation import check_block_size, checked

__all__ = ["Layer", "hessian_at", "hessian_last_layer", "layouts", "settled"]

Params = Any
Predict = Callable[[Params, Any], Array]
OutputLoss = Callable[[Array, Any], Array]


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
) -> Callable[[Params, Any], Float[Array, "P P"]]:
    """Return the dense Hessian of output_loss(predict(params, inputs), targets), whose last layer is linear.

    Args:
        predict: predict(params, inputs) returns the outputs (*rows, outputs).
        output_loss: output_loss(outputs, targets) returns a scalar, a sum or a mean over rows.
        last: The name of the last layer in the parameters, "layer2" or "decoder/read".
        block_size: The number of vectors in an HVP block; chosen by `block_size_for` if None.

    Returns:
        The function (params, (inputs, targets)) -> matrix.

    Raises:
        ValueError: The block size is not a positive whole number; or, at a call, there is no such last layer.

    Example:
        >>> predict = lambda params, inputs: inputs @ params["read"]["kernel"]
        >>> squares = lambda outputs, targets: ((outputs - targets) ** 2).sum()
        >>> params = {"read": {"kernel": jnp.array([[3.0], [1.0]])}}
        >>> batch = (jnp.array([[1.0, 2.0]]), jnp.array([[0.0]]))
        >>> hessian_last_layer(predict, squares, "read")(params, batch).tolist()
        [[2.0, 4.0], [4.0, 8.0]]
    """
    check_block_size(block_size)

    def loss(params: Params, batch: Any) -> Array:
        return output_loss(predict(params, batch[0]), batch[1])

    @partial(jax.jit, static_argnums=0)
    def matrix(layer: Layer, params: Params, batch: Any) -> tuple[Array, Array]:
        return hessian_at(predict, output_loss, layer, params, batch, block_size)

    def layers(params: Params, batch: Any) -> list[Layer]:
        return layouts(params, last, jax.eval_shape(predict, params, batch[0]).shape)

    def compute(params: Params, batch: Any) -> Array:
        return settled(matrix(layer, params, batch) for layer in layers(params, batch))

    compute.lower = lambda params, batch: matrix.lower(layers(params, batch)[0], params, batch)  # type: ignore[attr-defined]
    return checked(loss, compute)


def layouts(params: Params, last: str, outputs: tuple[int, ...]) -> list[Layer]:
    """Return the layer of that name, by each layout that its shape allows: two if the kernel is square.

    Raises:
        ValueError: There is no such layer, or it is no linear layer with so many outputs.
    """
    leaves = [
        (jax.tree_util.keystr(path, simple=True, separator="/"), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    ]
    mine = {number: jnp.shape(leaf) for number, (name, leaf) in enumerate(leaves) if name.rpartition("/")[0] == last}
    if not mine:
        known = ", ".join(dict.fromkeys(name.rpartition("/")[0] or "no layer" for name, _ in leaves))
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


def settled(found: Iterable[tuple[Array, Array]]) -> Array:
    """Return the Hessian of the first layout whose product with a vector is that of the loss.

    Args:
        found: What `hessian_at` returns for each layout. Of tracers nothing is known, and the first one is returned.

    Raises:
        ValueError: There is none.
    """
    distances = []
    for matrix, distance in found:
        if isinstance(distance, jax.core.Tracer) or float(distance) <= float(jnp.finfo(matrix.dtype).eps) ** 0.5:
            return matrix
        distances.append(float(distance))
    raise ValueError(REFUSED.format(min(distances)))


def hessian_at(
    predict: Predict, output_loss: OutputLoss, layer: Layer, params: Params, batch: Any, block_size: int | None
) -> tuple[Float[Array, "P P"], Float[Array, ""]]:
    """Return the Hessian, and how far its product with a vector is from that of the loss."""
    inputs, targets = batch
    leaves, structure = jax.tree.flatten(params)
    last = [number for number in (layer.bias, layer.kernel) if number is not None]
    order = [number for number in range(len(leaves)) if number not in last] + last
    sizes = [jnp.size(leaves[number]) for number in order]
    vector = jnp.concatenate([jnp.ravel(leaves[number]) for number in order])
    before = sum(sizes[: -len(last)])

    def join(vector: Array) -> Params:
        parts = dict(zip(order, jnp.split(vector, np.cumsum(sizes)[:-1]), strict=True))
        return jax.tree.unflatten(structure, [parts[n].reshape(jnp.shape(leaf)) for n, leaf in enumerate(leaves)])

    def loss(vector: Array) -> Array:
        return output_loss(predict(join(vector), inputs), targets)

    outputs = predict(params, inputs)

    def outputs_for(tail: Array) -> Array:
        return predict(join(jnp.concatenate([vector[:before], tail])), inputs).reshape(-1, outputs.shape[-1])

    features = _features(outputs_for, layer, vector[before:], outputs.shape[-1])
    rows = features if layer.bias is None else jnp.concatenate([jnp.ones_like(features[:, :1]), features], axis=1)
    matrix = _own_block(rows, _curvature(lambda z: output_loss(z, targets), outputs), layer)
    if before:
        _, product = jax.linearize(lambda v: jax.grad(loss)(jnp.concatenate([v, vector[before:]])), vector[:before])
        above = blocks.rows_of(product, vector[:before], block_size or blocks.block_size_for(loss, vector))
        matrix = jnp.concatenate([above, jnp.concatenate([above[:, before:].T, matrix], axis=1)])
    distance = _distance(loss, vector, matrix)
    numbers = np.split(np.arange(vector.size), np.cumsum(sizes)[:-1])
    places = np.concatenate([numbers[order.index(n)] for n in range(len(leaves))])
    return matrix if order == sorted(order) else matrix[places][:, places], distance


def _features(outputs_for: Callable[[Array], Array], layer: Layer, tail: Array, count: int) -> Float[Array, "rows f"]:
    """Return the features of the layer: the outputs for kernels of zeros and ones, and without a bias.

    With a one for each output, at another feature each, a kernel shows as many features as there are outputs.
    """
    size = (tail.size if layer.bias is None else tail.size - count) // count
    kernels = np.eye(-(-size // count) * count, size).reshape(-1, count, size)
    flat = (kernels if layer.outputs_first else kernels.swapaxes(1, 2)).reshape(len(kernels), -1)
    tails = jnp.asarray(np.pad(flat, ((0, 0), (tail.size - flat.shape[1], 0))), tail.dtype)
    shown = jax.vmap(outputs_for)(tails) - outputs_for(jnp.zeros_like(tail))
    return jnp.moveaxis(shown.reshape(len(kernels), -1, count), 0, 1).reshape(-1, len(kernels) * count)[:, :size]


def _curvature(output_loss: Callable[[Array], Array], outputs: Array) -> Float[Array, "k rows k"]:
    """Return the second derivatives of the loss in each row's outputs, if it is a sum over rows."""
    count = outputs.shape[-1]
    _, bend = jax.linearize(jax.grad(output_loss), outputs)
    units = jnp.eye(count, dtype=outputs.dtype).reshape(count, *[1] * (outputs.ndim - 1), count)
    return jax.vmap(bend)(jnp.broadcast_to(units, (count, *outputs.shape))).reshape(count, -1, count)


def _own_block(rows: Float[Array, "rows f"], curvature: Float[Array, "k rows k"], layer: Layer) -> Array:
    """Return the Hessian in the bias and the kernel. `rows` are the features, after a one for the bias."""
    first, second = np.triu_indices(len(curvature))
    products = class_pair_products(rows, curvature[first, :, second])
    place = np.zeros((len(curvature), len(curvature)), int)
    place[first, second] = place[second, first] = np.arange(len(first))
    pairs = products[place]  # (k, l, feature, feature)
    start = 0 if layer.bias is None else 1
    size = len(curvature) * (rows.shape[1] - start)
    axes = (0, 2, 1, 3) if layer.outputs_first else (2, 0, 3, 1)
    kernel = pairs[:, :, start:, start:].transpose(axes).reshape(size, size)
    if layer.bias is None:
        return kernel
    mixed = pairs[:, :, 0, 1:].transpose((0, 1, 2) if layer.outputs_first else (0, 2, 1)).reshape(-1, size)
    return jnp.block([[pairs[:, :, 0, 0], mixed], [mixed.T, kernel]])


def _distance(loss: Callable[[Array], Array], vector: Array, matrix: Float[Array, "P P"]) -> Array:
    """Return how far the matrix's product with a random vector is from that of the loss, relative to its size.

    Where either is not finite nothing is compared: the matrix then shows it. Near a minimum second derivatives may be
    rounding alone; so the distance is seen relative to the slope too.
    """
    change = jnp.asarray(np.random.default_rng(0).standard_normal(vector.size), vector.dtype)
    slope, product = jax.jvp(jax.grad(loss), (vector,), (change,))
    found, eps = matrix @ change, jnp.finfo(vector.dtype).eps
    finite = jnp.isfinite(found) & jnp.isfinite(product)
    sizes = jnp.stack([jnp.abs(matrix) @ jnp.abs(change), jnp.abs(product), 100 * eps**0.5 * jnp.abs(slope)])
    size = jnp.maximum(jnp.where(finite, sizes, 0).max(), eps)
    return jnp.where(finite, jnp.abs(found - product), 0).max() / size

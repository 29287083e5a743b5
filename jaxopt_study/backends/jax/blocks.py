"""Second derivatives by HVP blocks, for any loss and any tree of parameters.

`jax.hessian` differentiates along the whole basis at once, so its memory is activations times parameters. Here the
basis is cut into blocks of a few vectors, so the memory is the result and a few blocks. On a CPU this is also faster,
because a block stays in the cache.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from jaxopt_study.backends.jax.inspection import kept_bytes
from jaxopt_study.backends.jax.validation import check_block_size, checked

__all__ = ["block_size_for", "diagonal_exact", "diagonal_hutchinson", "gauss_newton", "hessian_blocked"]

Params = Any
Loss = Callable[..., Array]
Dense = Callable[[Params, Any], Float[Array, "P P"]]

CACHED_VECTORS = 16
"""The block size on a CPU: 16 was the fastest of 4 to 64 on networks of 650 and 2,035 parameters."""


def hessian_blocked(loss: Loss, block_size: int | None = None) -> Dense:
    """Return the dense Hessian by Hessian-vector products (forward over reverse), a block of columns at a time.

    Args:
        loss: Any function (params, batch) -> scalar.
        block_size: The number of vectors in an HVP block; chosen by `block_size_for` if None.

    Raises:
        ValueError: The block size is not a positive whole number.

    Example:
        >>> loss = lambda params, batch: params["a"] ** 2 * params["b"]
        >>> params = {"a": jnp.array(2.0), "b": jnp.array(3.0)}
        >>> hessian_blocked(loss)(params, None).tolist()
        [[6.0, 4.0], [4.0, 0.0]]
    """
    check_block_size(block_size)

    @jax.jit
    def matrix(params: Params, batch: Any) -> Array:
        vector, product = hessian_product(loss, params, batch)
        return rows_of(product, vector, block_size or block_size_for(loss, params, batch))

    return checked(loss, matrix)


def gauss_newton(
    predict: Callable[[Params, Any], Array], output_loss: Callable[[Array, Any], Array], block_size: int | None = None
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
        >>> batch = (jnp.array([1.0, 2.0]), jnp.array([0.0, 0.0]))
        >>> gauss_newton(predict, squares)({"w": jnp.array(3.0)}, batch).tolist()
        [[10.0]]
    """
    check_block_size(block_size)

    def loss(params: Params, batch: Any) -> Array:
        return output_loss(predict(params, batch[0]), batch[1])

    @jax.jit
    def matrix(params: Params, batch: Any) -> Array:
        vector, product = gauss_newton_product(predict, output_loss, params, batch)
        return rows_of(product, vector, block_size or block_size_for(loss, params, batch))

    return checked(loss, matrix)


def diagonal_exact(loss: Loss, block_size: int | None = None) -> Callable[[Params, Any], Float[Array, " P"]]:
    """Return the exact diagonal of the Hessian, a block of columns at a time; the whole matrix is never in memory.

    Args:
        loss: Any function (params, batch) -> scalar.
        block_size: The number of vectors in an HVP block; chosen by `block_size_for` if None.

    Raises:
        ValueError: The block size is not a positive whole number.

    Example:
        >>> loss = lambda params, batch: params["a"] ** 2 * params["b"]
        >>> params = {"a": jnp.array(2.0), "b": jnp.array(3.0)}
        >>> diagonal_exact(loss)(params, None).tolist()
        [6.0, 0.0]
    """
    check_block_size(block_size)

    @jax.jit
    def diagonal(params: Params, batch: Any) -> Array:
        vector, product = hessian_product(loss, params, batch)
        return diagonal_of(product, vector, block_size or block_size_for(loss, params, batch))

    return checked(loss, diagonal)


def diagonal_hutchinson(loss: Loss) -> Callable[[Params, Any, Float[Array, "samples P"]], Float[Array, " P"]]:
    """Return an estimate of the diagonal: the mean of z * (H z) over probes z of random signs (Bekas et al., 2007).

    Returns:
        The function (params, batch, probes) -> diagonal. The probes, (samples, P) of -1 and 1, are an argument, so that
        two frameworks can use the same ones.
    """

    @jax.jit
    def diagonal(params: Params, batch: Any, probes: Array) -> Array:
        _, product = hessian_product(loss, params, batch)
        return jax.lax.map(lambda z: z * product(z), probes).mean(axis=0)

    return checked(loss, diagonal)


def block_size_for(loss: Loss, params: Params, *args: Any) -> int:
    """Return the block size: `CACHED_VECTORS` on a CPU, all parameters on a GPU, or fewer if memory is short."""
    return block_size_of(kept_bytes(loss, params, *args), sum(jnp.size(leaf) for leaf in jax.tree.leaves(params)))


def block_size_of(kept: int, size: int) -> int:
    """Return the block size for so many parameters where a derivative keeps so many bytes for each vector."""
    wanted = min(size, CACHED_VECTORS if jax.default_backend() == "cpu" else size)
    fitting = max(1, _memory_at_hand() // 4 // max(kept, 1))
    # A power of two, so that another call, which finds a little more or less memory, need not compile again.
    return wanted if fitting >= wanted else 2 ** (fitting.bit_length() - 1)


def hessian_product(loss: Loss, params: Params, *args: Any) -> tuple[Array, Callable[[Array], Array]]:
    """Return the parameters as a vector, and the product of the Hessian with such a vector.

    The gradient is linearized once, so that no block computes it again.
    """
    vector, unravel = ravel_pytree(params)
    _, product = jax.linearize(jax.grad(lambda v: loss(unravel(v), *args)), vector)
    return vector, product


def gauss_newton_product(
    predict: Callable[[Params, Any], Array], output_loss: Callable[[Array, Any], Array], params: Params, batch: Any
) -> tuple[Array, Callable[[Array], Array]]:
    """Return the parameters as a vector, and the product of the Gauss-Newton matrix with such a vector."""
    inputs, targets = batch
    vector, unravel = ravel_pytree(params)
    outputs, push = jax.linearize(lambda v: predict(unravel(v), inputs), vector)
    pull = jax.linear_transpose(push, vector)
    _, bend = jax.linearize(jax.grad(lambda out: output_loss(out, targets)), outputs)
    return vector, lambda direction: pull(bend(push(direction)))[0]


def rows_of(product: Callable[[Array], Array], vector: Array, block_size: int) -> Float[Array, "P Q"]:
    """Return the transpose of the matrix of `product`, written in place block by block; a Hessian is its own.

    The last block ends at the last row. It computes some rows a second time, but the result then needs no copy to cut
    it to size.
    """
    size, columns = vector.size, jax.eval_shape(product, vector).size
    block = min(block_size, size)

    def write(number: Array, matrix: Array) -> Array:
        start = jnp.minimum(number * block, size - block)
        return jax.lax.dynamic_update_slice(matrix, jax.vmap(product)(_basis(start, block, vector)), (start, 0))

    return jax.lax.fori_loop(0, -(-size // block), write, jnp.zeros((size, columns), vector.dtype))


def diagonal_of(product: Callable[[Array], Array], vector: Array, block_size: int) -> Float[Array, " P"]:
    """Return the diagonal of the matrix of `product`, block by block."""
    block = min(block_size, vector.size)

    def entries(start: Array) -> Array:
        basis = _basis(start, block, vector)
        # Chosen, not multiplied: 0 times a NaN elsewhere in the row would be NaN.
        return jnp.where(basis == 1, jax.vmap(product)(basis), 0).sum(axis=1)

    starts = jnp.arange(0, vector.size, block)
    return jax.lax.map(entries, starts).ravel()[: vector.size]


def _basis(start: Array, block: int, vector: Array) -> Float[Array, "block P"]:
    return jax.nn.one_hot(start + jnp.arange(block), vector.size, dtype=vector.dtype)


def _memory_at_hand() -> int:
    """Return the free memory of the GPU, or of the machine, in bytes."""
    statistics = jax.devices()[0].memory_stats()
    if statistics and "bytes_limit" in statistics:
        return int(statistics["bytes_limit"] - statistics["bytes_in_use"])
    if "SC_AVPHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 2**32  # macOS does not tell

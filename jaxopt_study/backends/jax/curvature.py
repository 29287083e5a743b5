"""Second derivatives of a loss at a point, by one call each.

`derivatives` makes them public. Parameters are a tree of floating point arrays of one type. A matrix over the
parameters has the order of `jax.flatten_util.ravel_pytree`, in which the keys of a dict are sorted.

A function is compiled once for what it computes, even if it is a new object each time. All can be called inside
`jax.jit`, `jax.vmap` and `jax.grad`; there, nothing that depends on values is checked.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxopt_study.backends.jax import blocks, last_layer
from jaxopt_study.backends.jax.finiteness import why_not_finite
from jaxopt_study.backends.jax.newton.program import Program, hashable, traced
from jaxopt_study.backends.jax.validation import (
    check_args,
    check_chunk_size,
    check_leaves,
    check_loss,
    check_once,
    check_params,
    check_vector,
    known_shapes,
    warn,
)

__all__ = ["diagonal", "gauss_newton", "hessian", "hessian_of_network", "hvp"]

Params = Any
Loss = Callable[..., Array]


def hessian(loss: Loss, params: Params, *args: Any, chunk_size: int | str | None = "auto") -> Float[Array, "P P"]:
    """Return the Hessian of loss(params, *args) in the parameters, by Hessian-vector products.

    The matrix has a row and a column for each parameter, in the order of `jax.flatten_util.ravel_pytree(params)`. A
    part of the parameters that the loss does not depend on has zeros. A warning is given where the loss has kinks, and
    where entries of the matrix are not finite: it names an entry and the likely cause.

    Args:
        loss: Any function (params, *args) -> scalar.
        params: A tree of floating point arrays of one type.
        *args: Trees of arrays, which are not differentiated.
        chunk_size: How many products are computed at a time: "auto" for what is fast and fits the free memory, a
            positive whole number, or None for all at once, which is `jax.hessian`'s way.

    Raises:
        TypeError: A leaf of the parameters is no floating point array, or leaves have several types; an argument is no
            array; the loss does not return one floating point number.
        ValueError: There are no parameters, or an entry is not finite; the chunk size is not allowed.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxopt_study.derivatives import hessian
        >>> def loss(params, x):
        ...     return (x * params["slope"] + params["height"]) ** 2
        >>> hessian(loss, {"slope": jnp.array(1.0), "height": jnp.array(0.0)}, 3.0).tolist()
        [[2.0, 6.0], [6.0, 18.0]]
    """
    return _whole(_hessian, loss, params, args, chunk_size)


def diagonal(loss: Loss, params: Params, *args: Any, chunk_size: int | str | None = "auto") -> Float[Array, " P"]:
    """Return the diagonal of `hessian`; the whole matrix is never in memory.

    Args:
        loss: Any function (params, *args) -> scalar.
        params: A tree of floating point arrays of one type.
        *args: Trees of arrays, which are not differentiated.
        chunk_size: As for `hessian`.

    Raises:
        TypeError: As for `hessian`.
        ValueError: As for `hessian`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxopt_study.derivatives import diagonal
        >>> diagonal(lambda params: (params**3).sum(), jnp.array([1.0, 2.0])).tolist()
        [6.0, 12.0]
    """
    return _whole(_diagonal, loss, params, args, chunk_size)


def hvp(loss: Loss, params: Params, vector: Params, *args: Any) -> Params:
    """Return the Hessian of loss(params, *args) times a vector, both trees like the parameters.

    Since the Hessian is symmetric, this is the vector-Hessian product too. Whether the parameters and the product are
    finite is not checked.

    Args:
        loss: Any function (params, *args) -> scalar.
        params: A tree of floating point arrays of one type.
        vector: A tree with the parameters' leaves, shapes and type.
        *args: Trees of arrays, which are not differentiated.

    Raises:
        TypeError: As for `hessian`; or a leaf of the vector has another type.
        ValueError: There are no parameters; the vector lacks a leaf, has one too many, or one of another shape.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxopt_study.derivatives import hvp
        >>> hvp(lambda params: (params**3).sum(), jnp.array([1.0, 2.0]), jnp.array([1.0, 1.0])).tolist()
        [6.0, 12.0]
    """
    check_leaves(params)
    vector = check_vector(vector, params)
    _check_args(args)
    loss = hashable(loss)
    check_once(known_shapes(loss), loss, params, *args)
    program, arrays, _ = traced(loss, params, *args)
    return _product(program, arrays, params, vector, args)


def gauss_newton(
    predict: Callable[[Params, Any], Array],
    output_loss: Callable[[Array, Any], Array],
    params: Params,
    inputs: Any,
    targets: Any,
    *,
    chunk_size: int | str | None = "auto",
) -> Float[Array, "P P"]:
    """Return the generalized Gauss-Newton matrix J' H J of output_loss(predict(params, inputs), targets).

    J is the Jacobian of the outputs in the parameters, H the Hessian of the loss in the outputs (Schraudolph, 2002).
    For a linear model it is the Hessian. For any model it is positive semidefinite if output_loss is convex.

    Args:
        predict: predict(params, inputs) returns the outputs.
        output_loss: output_loss(outputs, targets) returns a scalar.
        params: A tree of floating point arrays of one type.
        inputs: A tree of arrays.
        targets: A tree of arrays.
        chunk_size: As for `hessian`.

    Raises:
        TypeError: As for `hessian`.
        ValueError: As for `hessian`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxopt_study.derivatives import gauss_newton
        >>> predict = lambda params, inputs: jnp.exp(params["w"]) * inputs
        >>> squares = lambda outputs, targets: ((outputs - targets) ** 2).sum()
        >>> gauss_newton(predict, squares, {"w": jnp.array(0.0)}, jnp.array([1.0, 2.0]), jnp.zeros(2)).tolist()
        [[10.0]]
    """
    predict, output_loss = hashable(predict), hashable(output_loss)

    def loss(params: Params, inputs: Any, targets: Any) -> Array:
        return output_loss(predict(params, inputs), targets)

    block = _checked_block(loss, params, (inputs, targets), chunk_size)
    model, arrays, outputs = traced(predict, params, inputs)
    outer, others, _ = traced(output_loss, outputs, targets)
    matrix = _gauss_newton((model, outer), block, (arrays, others), params, (inputs, targets))
    return _finite(matrix, loss, params, inputs, targets)


def hessian_of_network(
    predict: Callable[[Params, Any], Array],
    output_loss: Callable[[Array, Any], Array],
    params: Params,
    inputs: Any,
    targets: Any,
    *,
    last: str,
    chunk_size: int | str | None = "auto",
) -> Float[Array, "P P"]:
    """Return the Hessian of output_loss(predict(params, inputs), targets), faster where the last layer is large.

    The block of a last linear layer takes matrix products of its features, as the closed form of softmax regression
    does; what comes before it takes Hessian-vector products. The loss is any sum or mean over rows: softmax, squares.
    Its product with a random vector is compared with that of the loss, except inside `jax.jit`.

    Args:
        predict: predict(params, inputs) returns the outputs (*rows, outputs).
        output_loss: output_loss(outputs, targets) returns a scalar.
        params: A tree of floating point arrays of one type.
        inputs: A tree of arrays.
        targets: A tree of arrays.
        last: The name of the last layer in the parameters, "layer2" or "decoder/read". It has a kernel of two axes, in
            either order, and may have a bias.
        chunk_size: As for `hessian`.

    Raises:
        TypeError: As for `hessian`.
        ValueError: As for `hessian`; or there is no such last linear layer, or the loss is no sum over rows.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxopt_study.derivatives import hessian_of_network
        >>> predict = lambda params, inputs: inputs @ params["read"]["kernel"]
        >>> squares = lambda outputs, targets: ((outputs - targets) ** 2).sum()
        >>> params, inputs = {"read": {"kernel": jnp.array([[3.0], [1.0]])}}, jnp.array([[1.0, 2.0]])
        >>> hessian_of_network(predict, squares, params, inputs, jnp.array([[0.0]]), last="read").tolist()
        [[2.0, 4.0], [4.0, 8.0]]
    """
    predict, output_loss = hashable(predict), hashable(output_loss)

    def loss(params: Params, inputs: Any, targets: Any) -> Array:
        return output_loss(predict(params, inputs), targets)

    block = _checked_block(loss, params, (inputs, targets), chunk_size)
    model, arrays, outputs = traced(predict, params, inputs)
    outer, others, _ = traced(output_loss, outputs, targets)
    layers = last_layer.layouts(params, last, outputs.shape)
    matrix = last_layer.settled(
        _of_network((model, outer, layer), block, (arrays, others), params, (inputs, targets)) for layer in layers
    )
    return _finite(matrix, loss, params, inputs, targets)


def _whole(compute: Callable[..., Array], loss: Loss, params: Params, args: tuple[Any, ...], chunk_size: Any) -> Array:
    """Check the arguments, compute, and warn where the result is not finite."""
    loss = hashable(loss)
    block = _checked_block(loss, params, args, chunk_size)
    program, arrays, _ = traced(loss, params, *args)
    return _finite(compute(program, block, arrays, params, args), loss, params, *args)


def _checked_block(loss: Loss, params: Params, args: tuple[Any, ...], chunk_size: Any) -> int:
    """Check all arguments, and return how many products to compute at a time."""
    check_chunk_size(chunk_size)
    check_params(params)
    _check_args(args)
    kept, size = check_loss(loss, params, *args).kept_bytes, sum(jnp.size(leaf) for leaf in jax.tree.leaves(params))
    return blocks.block_size_of(kept, size) if chunk_size == "auto" else min(chunk_size or size, size)


def _check_args(args: tuple[Any, ...]) -> None:
    check_args(args, "hessian(lambda params, batch: loss(params, batch, 'mean'), params, batch)")


def _finite(found: Array, loss: Loss, params: Params, *args: Any) -> Array:
    if words := why_not_finite(found, loss, params, *args):
        warn(words, RuntimeWarning)
    return found


compiled = partial(jax.jit, static_argnums=(0, 1))


@compiled
def _hessian(program: Program, block: int, arrays: Any, params: Params, args: tuple[Any, ...]) -> Array:
    vector, product = blocks.hessian_product(program.bind(arrays), params, *args)
    return blocks.rows_of(product, vector, block)


@compiled
def _diagonal(program: Program, block: int, arrays: Any, params: Params, args: tuple[Any, ...]) -> Array:
    vector, product = blocks.hessian_product(program.bind(arrays), params, *args)
    return blocks.diagonal_of(product, vector, block)


@compiled
def _gauss_newton(programs: tuple[Program, Program], block: int, arrays: Any, params: Params, batch: Any) -> Array:
    predict, output_loss = (program.bind(mine) for program, mine in zip(programs, arrays, strict=True))
    vector, product = blocks.gauss_newton_product(predict, output_loss, params, batch)
    return blocks.rows_of(product, vector, block)


@compiled
def _of_network(static: tuple[Program, Program, Any], block: int, arrays: Any, params: Params, batch: Any) -> Any:
    predict, output_loss = (program.bind(mine) for program, mine in zip(static[:2], arrays, strict=True))
    return last_layer.hessian_at(predict, output_loss, static[2], params, batch, block)


@partial(jax.jit, static_argnums=0)
def _product(program: Program, arrays: Any, params: Params, vector: Params, args: tuple[Any, ...]) -> Params:
    loss = program.bind(arrays)
    return jax.jvp(lambda p: jax.grad(loss)(p, *args), (params,), (vector,))[1]

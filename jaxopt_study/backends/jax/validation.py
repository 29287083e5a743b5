"""Checks of a loss and its parameters before they are differentiated; each error is one line."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from numbers import Integral
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = [
    "check_block_size",
    "check_count",
    "check_damping",
    "check_loss",
    "check_params",
    "check_scalar",
    "describe",
    "kinks",
]

Params = Any

# Operations whose second derivative does not exist everywhere. Automatic differentiation takes it as 0 there.
KINKS = {"abs", "max", "min", "sign", "floor", "ceil", "round", "clamp"}


def check_params(params: Params, name: str = "params") -> None:
    """Check that parameters are a tree of floating point arrays that hold something, all finite.

    Raises:
        ValueError: There are no parameters, or an entry is not finite; the message names the leaf.
        TypeError: A leaf is not of a floating point type.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if not sum(jnp.size(leaf) for _, leaf in leaves):
        raise ValueError(f"{name} hold no parameters")
    for path, leaf in leaves:
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            kind = f"{jnp.result_type(leaf)}, and only floating point numbers have derivatives"
            raise TypeError(f"{name}{jax.tree_util.keystr(path)} is {kind}")
        if not isinstance(leaf, jax.core.Tracer) and not np.isfinite(np.asarray(leaf)).all():
            raise ValueError(f"{name}{jax.tree_util.keystr(path)} holds NaN or infinite values")


def check_loss(loss: Callable[[Params, Any], jax.Array], params: Params, batch: Any) -> None:
    """Check that `loss` is a scalar function of these parameters; warn if it has kinks.

    Raises:
        TypeError: The loss returns anything but one floating point number.
    """
    check_scalar("the loss", loss, params, batch)
    found = kinks(loss, params, batch)
    if found:
        words = (
            f"the loss has kinks ({', '.join(found)}): its Hessian is that of its smooth pieces, the kinks count zero"
        )
        warnings.warn(words, stacklevel=3)


def check_scalar(name: str, function: Callable[..., jax.Array], *args: Any) -> Any:
    """Check that a function returns one floating point number; return its shape and type.

    Raises:
        TypeError: It returns something else.
    """
    value = jax.eval_shape(function, *args)
    if getattr(value, "shape", None) != () or not jnp.issubdtype(value.dtype, jnp.floating):
        single = getattr(value, "size", 0) == 1 and value.shape != ()
        words = ": return value.reshape(())" if single else ""
        raise TypeError(f"{name} must be one floating point number, this one returns {describe(value)}{words}")
    return value


def describe(value: Any) -> str:
    """Return the shape and type of an array, or the Python type of anything else."""
    dtype = getattr(value, "dtype", None)
    return f"a {type(value).__name__}" if dtype is None else f"shape {value.shape}, {dtype}"


def check_block_size(block_size: int | None) -> None:
    """Check that a block size is a positive whole number, or None.

    Raises:
        ValueError: The block size is something else.
    """
    if block_size is not None:
        check_count("block_size", block_size)


def check_count(name: str, value: Any) -> None:
    """Check that a value is a positive whole number.

    Raises:
        ValueError: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < 1:
        raise ValueError(f"{name} {value!r} is not a positive whole number")


def check_damping(damping: float) -> None:
    """Check that a damping is a finite number of at least 0.

    Raises:
        ValueError: The damping is something else.
    """
    if not (isinstance(damping, int | float) and math.isfinite(damping) and damping >= 0):
        raise ValueError(f"damping {damping!r} is not a finite number of at least 0")


def kinks(loss: Callable[[Params, Any], jax.Array], params: Params, batch: Any) -> list[str]:
    """Return the names of the operations in `loss` that have no second derivative somewhere, such as ReLU."""
    return sorted({name for name in _operations(jax.make_jaxpr(loss)(params, batch).jaxpr) if name in KINKS})


def _operations(jaxpr: Any) -> Iterator[str]:
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _operations(inner)

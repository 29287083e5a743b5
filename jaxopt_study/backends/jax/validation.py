"""Checks of a loss and its parameters before they are differentiated; each error is one line."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["check_block_size", "check_damping", "check_loss", "check_params", "kinks"]

Params = Any

# Operations whose second derivative does not exist everywhere. Automatic differentiation takes it as 0 there.
KINKS = {"abs", "max", "min", "sign", "floor", "ceil", "round", "clamp"}


def check_params(params: Params) -> None:
    """Check that parameters are a tree of floating point arrays, not all empty, with finite entries.

    Raises:
        ValueError: There are no parameters, or an entry is not finite; the message names the leaf.
        TypeError: A leaf is not of a floating point type.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if not sum(jnp.size(leaf) for _, leaf in leaves):
        raise ValueError("params hold no parameters")
    for path, leaf in leaves:
        name = jax.tree_util.keystr(path)
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise TypeError(
                f"params{name} is {jnp.result_type(leaf)}, and only floating point numbers have derivatives"
            )
        if not isinstance(leaf, jax.core.Tracer) and not np.isfinite(np.asarray(leaf)).all():
            raise ValueError(f"params{name} holds NaN or infinite values")


def check_loss(loss: Callable[[Params, Any], jax.Array], params: Params, batch: Any) -> None:
    """Check that `loss` is a scalar function of these parameters; warn if it has kinks.

    Raises:
        TypeError: The loss returns anything but one floating point number.
    """
    value = jax.eval_shape(loss, params, batch)
    if getattr(value, "shape", None) != () or not jnp.issubdtype(value.dtype, jnp.floating):
        what = f"shape {value.shape}, {value.dtype}" if hasattr(value, "shape") else type(value).__name__
        raise TypeError(f"the loss must be one floating point number, this one returns {what}")
    found = kinks(loss, params, batch)
    if found:
        words = (
            f"the loss has kinks ({', '.join(found)}): its Hessian is that of its smooth pieces, the kinks count zero"
        )
        warnings.warn(words, stacklevel=3)


def check_block_size(block_size: int | None) -> None:
    """Check that a block size is a positive whole number, or None.

    Raises:
        ValueError: The block size is something else.
    """
    if block_size is not None and (isinstance(block_size, bool) or not isinstance(block_size, int) or block_size < 1):
        raise ValueError(f"block_size {block_size!r} is not a positive whole number")


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

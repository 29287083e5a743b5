"""Checks of a loss and its parameters before they are differentiated; each error is one line."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from numbers import Integral
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

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

Params = Mapping[str, Tensor]

# Operations whose second derivative does not exist everywhere. Automatic differentiation takes it as 0 there.
KINKS = {"Abs", "Maximum", "Minimum", "Sgn", "Sign", "Relu", "LeakyRelu", "Hardtanh", "Clamp", "Floor", "Round"}


def check_params(params: Any, name: str = "params") -> None:
    """Check that parameters are a tree of floating point tensors that hold something, all finite.

    Raises:
        ValueError: There are no parameters, or an entry is not finite; the message names the leaf.
        TypeError: A leaf is not of a floating point type.
    """
    leaves, _ = pytree.tree_flatten_with_path(params)
    if not sum(leaf.numel() for _, leaf in leaves):
        raise ValueError(f"{name} hold no parameters")
    for path, leaf in leaves:
        if not leaf.is_floating_point():
            raise TypeError(
                f"{name}{pytree.keystr(path)} is {leaf.dtype}, and only floating point numbers have derivatives"
            )
        if not bool(torch.isfinite(leaf).all()):
            raise ValueError(f"{name}{pytree.keystr(path)} holds NaN or infinite values")


def check_loss(loss: Callable[[Params, Any], Tensor], params: Params, batch: Any) -> None:
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


def check_scalar(name: str, function: Callable[..., Tensor], *args: Any) -> Any:
    """Check that a function returns one floating point number; return it.

    Raises:
        TypeError: It returns something else.
    """
    value = function(*args)
    if not isinstance(value, Tensor) or value.shape != () or not value.is_floating_point():
        single = isinstance(value, Tensor) and value.numel() == 1 and value.shape != ()
        words = ": return value.reshape(())" if single else ""
        raise TypeError(f"{name} must be one floating point number, this one returns {describe(value)}{words}")
    return value


def describe(value: Any) -> str:
    """Return the shape and type of a tensor, or the Python type of anything else."""
    if isinstance(value, Tensor):
        return f"shape {tuple(value.shape)}, {value.dtype}"
    return f"a {type(value).__name__}"


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


def kinks(loss: Callable[[Params, Any], Tensor], params: Params, batch: Any) -> list[str]:
    """Return the names of the operations in `loss` that have no second derivative somewhere, such as ReLU."""
    leaves = {name: leaf.detach().requires_grad_() for name, leaf in params.items()}
    with torch.enable_grad():
        root = loss(leaves, batch).grad_fn
    return sorted({name for name in _operations(root) if name in KINKS})


def _operations(root: Any) -> Iterator[str]:
    seen, rest = set(), [root]
    while rest:
        node = rest.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node.name().rstrip("0123456789").removesuffix("Backward")
            rest += [child for child, _ in node.next_functions]

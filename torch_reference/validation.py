"""Checks of a loss and its parameters before they are differentiated; each error is one line."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Iterator
from numbers import Integral
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from torch_reference.inspection import Inspection, inspect

__all__ = [
    "check_args",
    "check_block_size",
    "check_chunk_size",
    "check_count",
    "check_damping",
    "check_leaves",
    "check_loss",
    "check_once",
    "check_params",
    "check_scalar",
    "check_vector",
    "checked",
    "describe",
    "known_shapes",
    "twice_differentiable",
    "warn",
]

Params = Any

twice_differentiable = sdpa_kernel(SDPBackend.MATH)
"""A decorator: attention takes matrix products, since PyTorch's fused kernels have a first derivative alone."""


def check_params(params: Params, name: str = "params") -> None:
    """Check that parameters are a tree of floating point tensors of one type that hold something, all finite.

    Raises:
        ValueError: There are no parameters, or an entry is not finite; the message names the leaf.
        TypeError: A leaf is no tensor, or not of a floating point type; or leaves have several types.
    """
    check_leaves(params, name)
    for path, leaf in pytree.tree_flatten_with_path(params)[0]:
        if not bool(torch.isfinite(leaf).all()):
            raise ValueError(f"{name}{pytree.keystr(path)} holds NaN or infinite values")


def check_leaves(params: Params, name: str = "params") -> None:
    """Check that parameters are a tree of floating point tensors of one type that hold something.

    Raises:
        ValueError: There are no parameters.
        TypeError: A leaf is no tensor, or not of a floating point type; or leaves have several types.
    """
    leaves, _ = pytree.tree_flatten_with_path(params)
    for path, leaf in leaves:
        if not isinstance(leaf, Tensor):
            hint = ": give dict(module.named_parameters())" if isinstance(leaf, nn.Module | Iterator) else ""
            raise TypeError(f"{name}{pytree.keystr(path)} is a {type(leaf).__name__}, and no tensor{hint}")
        if not leaf.is_floating_point():
            raise TypeError(
                f"{name}{pytree.keystr(path)} is {leaf.dtype}, and only floating point numbers have derivatives"
            )
    if not sum(leaf.numel() for _, leaf in leaves):
        raise ValueError(f"there are no parameters in {name}")
    kinds = sorted({str(leaf.dtype) for _, leaf in leaves})
    if len(kinds) > 1:
        raise TypeError(f"{name} have leaves of {' and '.join(kinds)}: give them one type")


def check_vector(vector: Params, params: Params) -> Params:
    """Check that a vector has the leaves of the parameters; return it as a tree like theirs.

    Raises:
        ValueError: A leaf is missing, or one too many, or has another shape; the message names it.
        TypeError: A leaf is no tensor, or has another type.
    """
    given, wanted = (
        {pytree.keystr(path): leaf for path, leaf in pytree.tree_flatten_with_path(tree)[0]}
        for tree in (vector, params)
    )
    for name in sorted(wanted.keys() ^ given.keys(), reverse=True):
        words = f"lacks the leaf {name} of params" if name in wanted else f"has the leaf {name}, which params have not"
        raise ValueError(f"vector {words}")
    for name, leaf in wanted.items():
        if not isinstance(given[name], Tensor):
            raise TypeError(f"vector{name} is a {type(given[name]).__name__}, and no tensor")
        if given[name].shape != leaf.shape:
            raise ValueError(f"vector{name} has shape {tuple(given[name].shape)}, params{name} {tuple(leaf.shape)}")
        if given[name].dtype != leaf.dtype:
            raise TypeError(f"vector{name} is {given[name].dtype}, params{name} {leaf.dtype}")
    return pytree.tree_unflatten([given[name] for name in wanted], pytree.tree_structure(params))


def check_args(args: tuple[Any, ...], example: str) -> None:
    """Check that further arguments are trees of tensors and numbers, as JAX's twin needs them.

    Raises:
        TypeError: One is not; the message names it, and has an example of what to do.
    """
    for path, leaf in pytree.tree_flatten_with_path(args)[0]:
        if not isinstance(leaf, Tensor | np.ndarray | np.generic | int | float | complex | None):
            raise TypeError(
                f"args{pytree.keystr(path)} is a {type(leaf).__name__}, and args are tensors and numbers: put it into "
                f"the function, as in {example}"
            )


def check_loss(loss: Callable[..., Tensor], params: Params, *args: Any) -> Inspection:
    """Check that `loss` is a scalar function of these parameters; warn if it has kinks; return what was seen.

    The loss is called once.

    Raises:
        TypeError: The loss returns anything but one floating point number, or needs parameters by name.
        ValueError: The loss changes a tensor that it did not make, as batch normalization in training mode does.
        NotImplementedError: An operation of the loss has no second derivative in PyTorch.
    """
    try:
        seen = inspect(loss, params, *args)
    except ValueError as error:
        if "parameter_and_buffer_dicts" in str(error):  # torch.func.functional_call, given a list
            words = f"params are a {type(params).__name__}, and torch.func.functional_call in the loss needs names"
            raise TypeError(f"{words}: give dict(module.named_parameters())") from None
        raise
    _check_value("the loss", seen.value)
    if seen.kinks:
        words = (
            f"the loss has kinks ({', '.join(seen.kinks)}): its Hessian is that of its smooth pieces, the kinks count "
            "zero"
        )
        warn(words, UserWarning)
    return seen


def warn(words: str, category: type[Warning]) -> None:
    """Warn at the line of the user's that called this package."""
    level, frame = 1, sys._getframe()
    passed = (__name__.partition(".")[0], "contextlib")  # the wrapper of `twice_differentiable`
    while frame.f_back and frame.f_globals["__name__"].partition(".")[0] in passed:
        level, frame = level + 1, frame.f_back
    warnings.warn(words, category, stacklevel=level)


_known: WeakKeyDictionary[Any, set[Any]] = WeakKeyDictionary()


def known_shapes(loss: Callable[..., Tensor]) -> set[Any]:
    """Return the shapes with which `check_once` has seen this function; one that cannot be known again has none."""
    try:
        return _known.setdefault(loss, set())
    except TypeError:  # it has no hash, or cannot be referred to weakly
        return set()


def check_once(known: set[Any], loss: Callable[..., Tensor], params: Params, *args: Any) -> None:
    """Do `check_loss`, unless the shapes of the arguments are known; then they are.

    Raises:
        TypeError: The loss returns anything but one floating point number.
        ValueError: The loss changes a tensor that it did not make, as batch normalization in training mode does.
    """
    leaves, structure = pytree.tree_flatten((params, args))
    shapes = str((structure, [(getattr(leaf, "shape", None), getattr(leaf, "dtype", type(leaf))) for leaf in leaves]))
    if shapes not in known:
        check_loss(loss, params, *args)
        known.add(shapes)


def checked(loss: Callable[..., Tensor], compute: Callable[..., Any]) -> Callable[..., Any]:
    """Return `compute` with checks: of the parameters at each call, of the loss at the first call with new shapes."""
    known: set[Any] = set()

    @twice_differentiable
    def check_and_compute(params: Params, batch: Any, *rest: Any) -> Any:
        check_params(params)
        check_once(known, loss, params, batch)
        return compute(params, batch, *rest)

    return check_and_compute


def check_scalar(name: str, function: Callable[..., Tensor], *args: Any) -> Any:
    """Check that a function returns one floating point number; return it.

    Raises:
        TypeError: It returns something else.
    """
    return _check_value(name, function(*args))


def _check_value(name: str, value: Any) -> Any:
    if not isinstance(value, Tensor) or value.shape != () or not value.is_floating_point():
        single = isinstance(value, Tensor) and value.numel() == 1 and value.shape != ()
        words = ": return value.reshape(())" if single else ": return a tensor" if isinstance(value, float) else ""
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


def check_chunk_size(chunk_size: Any) -> None:
    """Check that a number of products at a time is a positive whole number, "auto" or None.

    Raises:
        ValueError: It is something else.
    """
    if isinstance(chunk_size, str) and chunk_size != "auto":
        raise ValueError(f"chunk_size {chunk_size!r} is not a positive whole number, 'auto' or None")
    if chunk_size not in ("auto", None):
        check_count("chunk_size", chunk_size)


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

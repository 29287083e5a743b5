"""Checks of a loss and its parameters before they are differentiated; each error is one line."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable
from numbers import Integral
from typing import Any
from weakref import WeakKeyDictionary

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_study.backends.jax.inspection import Inspection, inspect

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
    "warn",
]

Params = Any


def check_params(params: Params, name: str = "params") -> None:
    """Check that parameters are a tree of floating point arrays of one type that hold something, all finite.

    Raises:
        ValueError: There are no parameters, or an entry is not finite; the message names the leaf.
        TypeError: A leaf is no array, or not of a floating point type; or leaves have several types.
    """
    check_leaves(params, name)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not isinstance(leaf, jax.core.Tracer) and not np.isfinite(np.asarray(leaf)).all():
            raise ValueError(f"{name}{jax.tree_util.keystr(path)} holds NaN or infinite values")


def check_leaves(params: Params, name: str = "params") -> None:
    """Check that parameters are a tree of floating point arrays of one type that hold something.

    As everywhere in JAX, a None in a tree holds nothing.

    Raises:
        ValueError: There are no parameters.
        TypeError: A leaf is no array, or not of a floating point type; or leaves have several types.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    for path, leaf in leaves:
        if not _is_array(leaf):
            raise TypeError(f"{name}{jax.tree_util.keystr(path)} is a {type(leaf).__name__}, and no array")
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            kind = f"{jnp.result_type(leaf)}, and only floating point numbers have derivatives"
            raise TypeError(f"{name}{jax.tree_util.keystr(path)} is {kind}")
    if not sum(jnp.size(leaf) for _, leaf in leaves):
        raise ValueError(f"there are no parameters in {name}")
    kinds = sorted({str(jnp.result_type(leaf)) for _, leaf in leaves if hasattr(leaf, "dtype")})
    if len(kinds) > 1:
        raise TypeError(f"{name} have leaves of {' and '.join(kinds)}: give them one type")


def check_vector(vector: Params, params: Params) -> Params:
    """Check that a vector has the leaves of the parameters; return it as a tree like theirs.

    Raises:
        ValueError: A leaf is missing, or one too many, or has another shape; the message names it.
        TypeError: A leaf is no array, or has another type.
    """
    given, wanted = (
        {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (vector, params)
    )
    for name in sorted(wanted.keys() ^ given.keys(), reverse=True):
        words = f"lacks the leaf {name} of params" if name in wanted else f"has the leaf {name}, which params have not"
        raise ValueError(f"vector {words}")
    for name, leaf in wanted.items():
        if not _is_array(given[name]):
            raise TypeError(f"vector{name} is a {type(given[name]).__name__}, and no array")
        if jnp.shape(given[name]) != jnp.shape(leaf):
            raise ValueError(f"vector{name} has shape {jnp.shape(given[name])}, params{name} {jnp.shape(leaf)}")
        if jnp.result_type(given[name]) != jnp.result_type(leaf):
            raise TypeError(f"vector{name} is {jnp.result_type(given[name])}, params{name} {jnp.result_type(leaf)}")
    return jax.tree.unflatten(jax.tree.structure(params), [given[name] for name in wanted])


def check_args(args: tuple[Any, ...], example: str) -> None:
    """Check that further arguments are trees of arrays and numbers.

    Raises:
        TypeError: One is not; the message names it, and has an example of what to do.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(args):
        if not _is_array(leaf):
            raise TypeError(
                f"args{jax.tree_util.keystr(path)} is a {type(leaf).__name__}, and args are arrays and numbers: put it "
                f"into the function, as in {example}"
            )


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | int | float | complex)


def check_loss(loss: Callable[..., jax.Array], params: Params, *args: Any) -> Inspection:
    """Check that `loss` is a scalar function of these parameters; warn if it has kinks; return what was seen.

    Raises:
        TypeError: The loss returns anything but one floating point number.
    """
    seen = inspect(loss, params, *args)
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
    while frame.f_back and frame.f_globals["__name__"].partition(".")[0] == __name__.partition(".")[0]:
        level, frame = level + 1, frame.f_back
    warnings.warn(words, category, stacklevel=level)


_known: WeakKeyDictionary[Any, set[Any]] = WeakKeyDictionary()


def known_shapes(loss: Callable[..., jax.Array]) -> set[Any]:
    """Return the shapes with which `check_once` has seen this function; one that cannot be known again has none."""
    try:
        return _known.setdefault(loss, set())
    except TypeError:  # it has no hash, or cannot be referred to weakly
        return set()


def check_once(known: set[Any], loss: Callable[..., jax.Array], params: Params, *args: Any) -> None:
    """Do `check_loss`, unless the shapes of the arguments are known; then they are.

    Raises:
        TypeError: The loss returns anything but one floating point number.
    """
    leaves, structure = jax.tree.flatten((params, args))
    shapes = (structure, *((jnp.shape(leaf), getattr(leaf, "dtype", type(leaf))) for leaf in leaves))
    if shapes not in known:
        check_loss(loss, params, *args)
        known.add(shapes)


def checked(loss: Callable[..., jax.Array], compute: Callable[..., Any]) -> Callable[..., Any]:
    """Return `compute` with checks: of the parameters at each call, of the loss at the first call with new shapes."""
    known: set[Any] = set()

    def check_and_compute(params: Params, batch: Any, *rest: Any) -> Any:
        check_params(params)
        check_once(known, loss, params, batch)
        return compute(params, batch, *rest)

    check_and_compute.compiled = compute  # type: ignore[attr-defined] # for `runtime.temporary_memory`
    return check_and_compute


def check_scalar(name: str, function: Callable[..., jax.Array], *args: Any) -> Any:
    """Check that a function returns one floating point number; return its shape and type.

    Raises:
        TypeError: It returns something else.
    """
    return _check_value(name, jax.eval_shape(function, *args))


def _check_value(name: str, value: Any) -> Any:
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

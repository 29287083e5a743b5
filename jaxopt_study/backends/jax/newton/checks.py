"""What is refused, before anything is compiled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxopt_study.backends.jax.newton.problem import Composite, System

__all__ = ["Options", "check_options", "check_problem"]


TAKES_HESSIAN = ("exact", "trust_exact")


@dataclass(frozen=True)
class Options:
    """How to minimize; see `minimize`."""

    method: str
    hessian: Any
    block_size: int | None
    line_search: str
    tolerance: float
    decrement_tolerance: float | None
    max_iterations: int
    keep_path: bool


def check_options(options: Options, methods: Sequence[str], line_searches: Sequence[str]) -> None:
    """Raise ValueError with the value and what is allowed, unless each option is allowed."""
    _known("method", options.method, methods)
    _known("line_search", options.line_search, line_searches)
    _positive("tolerance", options.tolerance)
    if options.decrement_tolerance is not None:
        _positive("decrement_tolerance", options.decrement_tolerance)
    _count("max_iterations", options.max_iterations)
    if options.block_size is not None:
        _count("block_size", options.block_size)
    if options.hessian is not None and options.method not in TAKES_HESSIAN:
        raise ValueError(f"method {options.method!r} uses no hessian: leave it out, or choose exact or trust_exact")
    if isinstance(options.hessian, System) and options.method != "exact":
        raise ValueError(f"method {options.method!r} takes a Hessian function, and not a System: that is for exact")


def check_problem(fun: Any, x0: Any, args: tuple[Any, ...], options: Options) -> None:
    """Raise unless the start, the objective and the Hessian function have shapes that fit.

    Raises:
        TypeError: The start has leaves that are not float32 or float64, or of both, or none; `gauss_newton` without a
            `Composite`.
        ValueError: The start is not finite, the objective not a scalar of the start's type, or the Hessian function's
            result no square matrix of the start's size and type.
    """
    dtype = _start(x0)
    value = jax.eval_shape(fun, x0, *args)
    if not hasattr(value, "shape") or value.shape != () or not jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(f"the objective returns {_shape(value)}; it must return a floating point scalar")
    if value.dtype != dtype:
        raise ValueError(f"the objective returns {value.dtype} where x0 is {dtype}: give its arguments that type")
    if options.method == "gauss_newton" and not isinstance(fun, Composite):
        raise TypeError("method 'gauss_newton' needs to know the model: give fun as Composite(inner, outer)")
    if callable(options.hessian):
        size = ravel_pytree(x0)[0].size if not _traced(x0) else sum(leaf.size for leaf in jax.tree.leaves(x0))
        matrix = jax.eval_shape(options.hessian, x0, *args)
        if getattr(matrix, "shape", None) != (size, size):
            raise ValueError(f"the Hessian function returns {_shape(matrix)}; it must return shape ({size}, {size})")
        if matrix.dtype != dtype:
            raise ValueError(f"the Hessian function returns {matrix.dtype} where x0 is {dtype}")
    elif options.hessian is not None and not isinstance(options.hessian, System):
        raise TypeError(f"hessian {options.hessian!r} is neither a function of (x, *args) nor a System")


def _start(x0: Any) -> Any:
    """Return the type of the start, once it is found fit."""
    leaves = jax.tree.leaves(x0)
    if not leaves or sum(np.size(leaf) for leaf in leaves) == 0:
        raise TypeError("x0 holds no parameters")
    for leaf in leaves:
        if not hasattr(leaf, "dtype") or not jnp.issubdtype(leaf.dtype, jnp.floating):
            kind = f"an array of {leaf.dtype}" if hasattr(leaf, "dtype") else f"a Python {type(leaf).__name__}"
            raise TypeError(f"x0 has a leaf of type {kind}; it must be an array of float32 or float64")
        if leaf.dtype.itemsize < 4:
            raise TypeError(f"x0 has a leaf of type {leaf.dtype}; it must be float32 or float64")
        if not _traced(leaf) and not np.isfinite(np.asarray(leaf)).all():
            raise ValueError("x0 is not finite: it holds NaN or infinity")
    kinds = sorted({str(leaf.dtype) for leaf in leaves})
    if len(kinds) > 1:
        raise TypeError(f"x0 has leaves of {' and '.join(kinds)}; they must be of one type")
    return leaves[0].dtype


def _traced(tree: Any) -> bool:
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def _shape(value: Any) -> str:
    return f"shape {value.shape}, {value.dtype}" if hasattr(value, "shape") else f"a {type(value).__name__}"


def _known(name: str, value: Any, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"{name} {value!r} is not known: choose from {', '.join(known)}")


def _positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, Real) or not (float(value) > 0 and math.isfinite(value)):
        raise ValueError(f"{name} {value!r} is not a positive and finite number")


def _count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < 1:
        raise ValueError(f"{name} {value!r} is not a whole number of at least 1")

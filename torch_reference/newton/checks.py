"""What is refused, before the run begins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import torch
from torch.utils import _pytree as pytree

from torch_reference.newton.problem import Composite, System

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
    """Raise unless the start, the objective and the Hessian function fit; both are called once, at the start.

    Raises:
        TypeError: The start has leaves that are not float32 or float64, or of both, or none; `gauss_newton` without a
            `Composite`.
        ValueError: The start is not finite, the objective not a scalar of the start's type, or the Hessian function's
            result no square matrix of the start's size and type.
    """
    size, dtype = _start(x0)
    value = fun(x0, *args)
    if not isinstance(value, torch.Tensor) or value.shape != () or not value.is_floating_point():
        raise ValueError(f"the objective returns {_shape(value)}; it must return a floating point scalar")
    if value.dtype != dtype:
        raise ValueError(f"the objective returns {value.dtype} where x0 is {dtype}: give its arguments that type")
    if options.method == "gauss_newton" and not isinstance(fun, Composite):
        raise TypeError("method 'gauss_newton' needs to know the model: give fun as Composite(inner, outer)")
    if callable(options.hessian):
        matrix = options.hessian(x0, *args)
        if getattr(matrix, "shape", None) != (size, size):
            raise ValueError(f"the Hessian function returns {_shape(matrix)}; it must return shape ({size}, {size})")
        if matrix.dtype != dtype:
            raise ValueError(f"the Hessian function returns {matrix.dtype} where x0 is {dtype}")
    elif options.hessian is not None and not isinstance(options.hessian, System):
        raise TypeError(f"hessian {options.hessian!r} is neither a function of (x, *args) nor a System")


def _start(x0: Any) -> tuple[int, torch.dtype]:
    """Return the number of parameters and their type, once the start is found fit."""
    leaves = pytree.tree_leaves(x0)
    for leaf in leaves:
        if not isinstance(leaf, torch.Tensor) or leaf.dtype not in (torch.float32, torch.float64):
            kind = f"a tensor of {leaf.dtype}" if isinstance(leaf, torch.Tensor) else f"a Python {type(leaf).__name__}"
            raise TypeError(f"x0 has a leaf of type {kind}; it must be a tensor of float32 or float64")
        if not bool(torch.isfinite(leaf).all()):
            raise ValueError("x0 is not finite: it holds NaN or infinity")
    size, kinds = sum(leaf.numel() for leaf in leaves), sorted({str(leaf.dtype) for leaf in leaves})
    if size == 0:
        raise TypeError("x0 holds no parameters")
    if len(kinds) > 1:
        raise TypeError(f"x0 has leaves of {' and '.join(kinds)}; they must be of one type")
    return size, leaves[0].dtype


def _shape(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"shape {tuple(value.shape)}, {value.dtype}"
    return f"a {type(value).__name__}"


def _known(name: str, value: Any, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"{name} {value!r} is not known: choose from {', '.join(known)}")


def _positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, Real) or not (float(value) > 0 and math.isfinite(value)):
        raise ValueError(f"{name} {value!r} is not a positive and finite number")


def _count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < 1:
        raise ValueError(f"{name} {value!r} is not a whole number of at least 1")

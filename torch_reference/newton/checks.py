"""Checks of the arguments of `minimize`, before the run begins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from difflib import get_close_matches
from numbers import Real
from typing import Any

import torch
from torch.utils import _pytree as pytree

from torch_reference.newton.options import Composite, Limits, Options, System
from torch_reference.validation import (
    check_args,
    check_block_size,
    check_count,
    check_params,
    check_scalar,
    describe,
)

__all__ = [
    "BOUNDED",
    "TAKES_HESSIAN",
    "SecondDerivativeError",
    "check_bounded",
    "check_first_derivative",
    "check_function",
    "check_known",
    "check_limits",
    "check_names",
    "check_options",
    "check_problem",
    "check_second_derivative",
    "check_types",
]

TAKES_HESSIAN = ("exact", "trust_exact")
ELSEWHERE = {
    "maxiter": "max_iterations", "max_iter": "max_iterations", "maxfun": "max_iterations", "tol": "tolerance",
    "gtol": "tolerance", "gradient_tolerance": "tolerance", "ftol": "decrement_tolerance", "hess": "hessian",
}  # fmt: skip
"""What other libraries call an option."""
BOUNDED = "trust_krylov"
"""The method that keeps to bounds."""


class SecondDerivativeError(TypeError):
    """The objective cannot be differentiated twice."""


def check_names(unknown: Sequence[str], known: Sequence[str]) -> None:
    """Check that no option has another name.

    Raises:
        TypeError: One has; the message names the one that is meant, or all.
    """
    for name in unknown:
        if name == "constraints":
            raise TypeError("minimize has no option 'constraints': scipy.optimize.minimize takes them, see its SLSQP")
        if name == "args":
            raise TypeError("minimize has no option 'args': give them after x0, as in minimize(fun, x0, *args)")
        meant = [ELSEWHERE[name]] if name in ELSEWHERE else get_close_matches(name, known, 1)
        words = f"; {meant[0]!r} is meant?" if meant else ""
        raise TypeError(f"minimize has no option {name!r}: choose from {', '.join(known)}{words}")


def check_function(fun: Any) -> None:
    """Check that the objective can be called.

    Raises:
        TypeError: It cannot.
    """
    if not callable(fun):
        raise TypeError(f"the objective {fun!r} is no function of (x, *args)")


def check_limits(limits: Limits) -> None:
    """Check that each limit is allowed.

    Raises:
        ValueError: One is not; the message has its value, and what is allowed.
    """
    for name in ("tolerance", "decrement_tolerance"):
        if getattr(limits, name) is not None:
            _check_positive(name, getattr(limits, name))
    check_count("max_iterations", limits.max_iterations)


def check_options(options: Options, methods: Sequence[str], line_searches: Sequence[str]) -> None:
    """Check that each option is allowed.

    Raises:
        ValueError: An option is not allowed; the message has its value, and what is allowed.
    """
    check_known("method", options.method, methods)
    check_known("line_search", options.line_search, line_searches)
    check_block_size(options.block_size)
    if options.hessian is not None and options.method not in TAKES_HESSIAN:
        raise ValueError(f"method {options.method!r} uses no hessian: leave it out, or choose exact or trust_exact")
    if isinstance(options.hessian, System) and options.method != "exact":
        raise ValueError(f"method {options.method!r} takes a Hessian function, and not a System: that is for exact")


def check_bounded(bounds: Any, method: str) -> None:
    """Check that the method keeps to bounds, if there are any.

    Raises:
        ValueError: It does not.
    """
    if bounds is not None and method != BOUNDED:
        raise ValueError(f"method {method!r} takes no bounds: leave it out, or choose {BOUNDED}")


def check_types(x0: Any) -> None:
    """Check that the start has one type.

    Raises:
        TypeError: It has not.
    """
    leaves = pytree.tree_leaves(x0)
    kinds = sorted({str(leaf.dtype) if isinstance(leaf, torch.Tensor) else type(leaf).__name__ for leaf in leaves})
    if leaves and kinds not in (["torch.float32"], ["torch.float64"]):
        raise TypeError(
            f"x0 has leaves of type {' and '.join(kinds)}; they must be tensors of one type, float32 or float64"
        )


def check_problem(fun: Any, x0: Any, args: tuple[Any, ...], options: Options) -> None:
    """Check that the start, the objective and the Hessian function fit; each is called at the start.

    Raises:
        TypeError: The objective does not return one floating point number, or one that is cut off from x;
            `gauss_newton` has no `Composite`; the Hessian is no function and no `System`.
        ValueError: The start is empty or not finite; the objective or the Hessian function does not return the start's
            type; the Hessian function does not return a square matrix of the start's size.
    """
    if any(torch._C._functorch.is_functorch_wrapped_tensor(leaf) for leaf in pytree.tree_leaves((x0, args))
           if isinstance(leaf, torch.Tensor)):  # fmt: skip
        raise TypeError("minimize cannot run inside torch.func's transforms: use torch.autograd.grad on its result")
    leaves = pytree.tree_leaves(x0)
    check_params(x0, "x0")
    check_args(args, "minimize(lambda x: fun(x, 'mean'), x0)")
    value = check_scalar("the objective", fun, _tracked(x0), *args)
    if not value.requires_grad and not torch.equal(value, fun(pytree.tree_map(lambda leaf: 2 * leaf + 1, x0), *args)):
        raise TypeError("the objective cannot be differentiated: .item(), .detach() or NumPy cut its value off from x")
    if value.dtype != leaves[0].dtype:
        raise ValueError(
            f"the objective returns {value.dtype} where x0 is {leaves[0].dtype}: give its arguments that type"
        )
    if options.method == "gauss_newton" and not isinstance(fun, Composite):
        raise TypeError("method 'gauss_newton' needs to know the model: give fun as Composite(inner, outer)")
    if callable(options.hessian):
        size, matrix = sum(leaf.numel() for leaf in leaves), options.hessian(x0, *args)
        if getattr(matrix, "shape", None) != (size, size):
            raise ValueError(f"the Hessian function returns {describe(matrix)}; it must return shape ({size}, {size})")
        if matrix.dtype != value.dtype:
            raise ValueError(f"the Hessian function returns {matrix.dtype} where x0 is {leaves[0].dtype}")
    elif options.hessian is not None and not isinstance(options.hessian, System):
        raise TypeError(f"hessian {options.hessian!r} is neither a function of (x, *args) nor a System")


def check_second_derivative(fun: Any, x0: Any, args: tuple[Any, ...]) -> None:
    """Check that the objective can be differentiated twice; both derivatives are computed at the start.

    Raises:
        SecondDerivativeError: It cannot, but once.
        TypeError: It cannot be differentiated at all.
    """
    check_first_derivative(fun, x0, args)
    tracked = _tracked(x0)
    leaves = pytree.tree_leaves(tracked)
    try:
        slopes = torch.autograd.grad(fun(tracked, *args), leaves, create_graph=True, materialize_grads=True)
        torch.autograd.grad(sum((slope**2).sum() for slope in slopes), leaves, allow_unused=True)
    except RuntimeError as error:
        words = "the objective has no second derivative: choose method='lbfgs', which needs none"
        raise SecondDerivativeError(words) from error


def check_first_derivative(fun: Any, x0: Any, args: tuple[Any, ...]) -> None:
    """Check that the objective can be differentiated; its derivative is computed at the start.

    Raises:
        TypeError: It cannot; the message has the first sentence of PyTorch's.
    """
    tracked = _tracked(x0)
    try:
        value = fun(tracked, *args)
        if value.requires_grad:
            torch.autograd.grad(value, pytree.tree_leaves(tracked), allow_unused=True)
    except RuntimeError as error:
        raise TypeError(f"the objective cannot be differentiated: {str(error).partition('. ')[0]}") from error


def _tracked(x0: Any) -> Any:
    return pytree.tree_map(lambda leaf: leaf.detach().requires_grad_(), x0)


def check_known(name: str, value: Any, known: Sequence[str]) -> None:
    """Check that a name is known.

    Raises:
        ValueError: It is not; the message has all, and the one that is meant.
    """
    if value not in known:
        close = get_close_matches(str(value).replace("-", "_").lower(), known, 1)
        meant = f"; {close[0]!r} is meant?" if close else ""
        raise ValueError(f"{name} {value!r} is not known: choose from {', '.join(known)}{meant}")


def _check_positive(name: str, value: Any) -> None:
    value = value.item() if getattr(value, "ndim", None) == 0 else value  # an array of one number is one
    if isinstance(value, bool) or not (isinstance(value, Real) and 0 < float(value) < math.inf):
        raise ValueError(f"{name} {value!r} is not a positive and finite number")

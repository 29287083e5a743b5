"""`minimize` in the shape that `scipy.optimize.minimize` asks of a method."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from torch_reference.newton.checks import check_known
from torch_reference.newton.minimize import METHODS, minimize
from torch_reference.newton.watch import Progress
from torch_reference.validation import check_count

__all__ = ["scipy_method"]

NAMES = {"tol": "tolerance", "gtol": "tolerance", "maxiter": "max_iterations", "return_all": "keep_path"}
"""SciPy's names of options of `minimize`; the later of two for the same one counts, as in SciPy's own methods."""
NOT = {"method", "callback", "has_aux"}
"""Options of `minimize` that are not given as options here."""


def scipy_method(method: str | None = None) -> Callable[..., Any]:
    """Return a method for `scipy.optimize.minimize`, which differentiates the objective itself.

    The objective takes a tensor of float64, and is written in PyTorch. Of SciPy's options it knows maxiter, gtol, tol,
    disp and return_all; the others are those of `minimize`.

    Args:
        method: A method of `minimize`, by default its default.

    Raises:
        ValueError: There is no such method.

    Example:
        >>> from scipy.optimize import minimize
        >>> from torch_reference.newton import scipy_method
        >>> result = minimize(lambda x: ((x - 1) ** 4).sum() + (x**2).sum(), [3.0, 0.0], method=scipy_method("exact"))
        >>> result.x.round(3).tolist(), result.success
        ([0.41, 0.41], True)
    """
    if method is not None:
        check_known("method", method, tuple(METHODS))

    def run(fun: Callable[..., Any], x0: Any, args: tuple[Any, ...] = (), **given: Any) -> Any:
        from scipy.optimize import OptimizeResult  # takes a while to load

        args = pytree.tree_map_only(np.ndarray, torch.as_tensor, args)
        options, callback = _options(given), given.get("callback")
        seen = callback and (lambda progress: _tell(callback, progress))
        start = torch.as_tensor(np.array(x0, float))
        result = minimize(fun, start, *args, method=method, callback=seen, **options)
        counts, leaf = result.counts, result.x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(fun(leaf, *args), leaf)
        found = OptimizeResult(
            x=result.x.detach().numpy(), fun=result.value, jac=slope.numpy(), success=result.converged,
            status=int(result.status), message=result.reason, nit=result.iterations, nfev=counts.function,
            njev=counts.gradient, nhev=counts.hessian,
        )  # fmt: skip
        if result.path is not None:
            found.allvecs = list(np.asarray(result.path, float))
        if given.get("disp"):
            print(f"{found.message} {found.nit} iterations, value {found.fun:.6g}.")
        return found

    return run


def _options(given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of `minimize` for what SciPy gives.

    Raises:
        TypeError: There are constraints, first derivatives or unknown options.
        ValueError: maxiter is no positive whole number.
    """
    for name in ("jac", "hessp", "constraints"):
        if given.get(name) is not None and np.size(given[name]):
            why = "differentiates the objective" if name in ("jac", "hessp") else "has no constraints"
            raise TypeError(f"{name} cannot be used: a method of jaxopt_study {why}")
    hidden = ("jac", "hess", "hessp", "bounds", "constraints", "callback")
    rest = {name: value for name, value in given.items() if name not in hidden and value is not None}
    known = [*NAMES, "disp", *(name for name in minimize.__kwdefaults__ or () if name not in {*NOT, *hidden})]
    for name in rest:
        if name not in known:
            raise TypeError(f"a method of jaxopt_study has no option {name!r}: choose from {', '.join(known)}")
    if "maxiter" in rest:
        check_count("maxiter", rest["maxiter"])
    renamed = {own: rest[name] for name, own in NAMES.items() if name in rest}
    others = {name: value for name, value in rest.items() if name not in NAMES and name != "disp"}
    bounds = {} if given.get("bounds") is None else {"bounds": _pair(given["bounds"])}
    return renamed | others | bounds | ({} if given.get("hess") is None else {"hessian": given["hess"]})


def _pair(bounds: Any) -> Any:
    """Return SciPy's bounds, an object or a pair (least, largest) for each variable, as arrays of both."""
    if hasattr(bounds, "lb"):
        return bounds
    absent = (-np.inf, np.inf)
    return tuple(
        np.array([other if end is None else end for end in ends], float)
        for ends, other in zip(zip(*bounds, strict=True), absent, strict=True)
    )


def _tell(callback: Callable[..., Any], progress: Progress) -> Any:
    """Call a callback as SciPy does: with intermediate_result if its one parameter is called so, else with x."""
    from scipy.optimize import OptimizeResult

    x = progress.x.numpy()
    if set(inspect.signature(callback).parameters) == {"intermediate_result"}:
        return callback(intermediate_result=OptimizeResult(x=x, fun=progress.value))
    return callback(x)

"""`minimize` in the shape that `scipy.optimize.minimize` asks of a method."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_study.backends.jax.newton.minimize import minimize
from jaxopt_study.backends.jax.newton.watch import Progress

__all__ = ["scipy_method"]

NAMES = {"maxiter": "max_iterations", "gtol": "tolerance", "tol": "tolerance"}
"""SciPy's names of options of `minimize`."""


def scipy_method(method: str | None = None) -> Callable[..., Any]:
    """Return a method for `scipy.optimize.minimize`, which differentiates the objective itself.

    The objective takes an array of JAX, of its default floating point type, and is written in JAX. Of SciPy's options
    it knows maxiter, gtol and tol; the others are those of `minimize`.

    Args:
        method: A method of `minimize`, by default its default.

    Example:
        >>> from scipy.optimize import minimize
        >>> from jaxopt_study.newton import scipy_method
        >>> result = minimize(lambda x: ((x - 1) ** 4).sum() + (x**2).sum(), [3.0, 0.0], method=scipy_method("exact"))
        >>> result.x.round(3).tolist(), result.success
        ([0.41, 0.41], True)
    """

    def run(fun: Callable[..., Any], x0: Any, args: tuple[Any, ...] = (), **given: Any) -> Any:
        from scipy.optimize import OptimizeResult  # takes a while to load

        options, callback = _options(given), given.get("callback")
        seen = callback and (lambda progress: _tell(callback, progress))
        start = jnp.asarray(x0, jnp.result_type(float))
        result = minimize(fun, start, *args, method=method, callback=seen, **options)
        counts, slope = result.counts, jax.grad(fun)(result.x, *args)
        return OptimizeResult(
            x=np.asarray(result.x, float), fun=float(result.value), jac=np.asarray(slope, float),
            success=bool(result.converged), status=int(result.status), message=result.reason,
            nit=int(result.iterations), nfev=int(counts.function), njev=int(counts.gradient), nhev=int(counts.hessian),
        )  # fmt: skip

    return run


def _options(given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of `minimize` for what SciPy gives.

    Raises:
        TypeError: There are bounds, constraints or first derivatives.
    """
    for name in ("jac", "hessp", "bounds", "constraints"):
        if given.get(name) is not None and np.size(given[name]):
            why = "differentiates the objective" if name in ("jac", "hessp") else "has neither bounds nor constraints"
            raise TypeError(f"{name} cannot be used: a method of jaxopt_study {why}")
    rest = {k: v for k, v in given.items() if k not in ("jac", "hess", "hessp", "bounds", "constraints", "callback")}
    options = {NAMES.get(name, name): value for name, value in rest.items() if value is not None and name != "disp"}
    return options | ({} if given.get("hess") is None else {"hessian": given["hess"]})


def _tell(callback: Callable[..., Any], progress: Progress) -> Any:
    """Call a callback as SciPy does: with intermediate_result if its one parameter is called so, else with x."""
    from scipy.optimize import OptimizeResult

    x = np.asarray(progress.x, float)
    if set(inspect.signature(callback).parameters) == {"intermediate_result"}:
        return callback(intermediate_result=OptimizeResult(x=x, fun=progress.value))
    return callback(x)

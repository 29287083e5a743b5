"""The door: `minimize`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_study.newton.checks import Options, check_options, check_problem
from jaxopt_study.newton.conjugate import newton_cg
from jaxopt_study.newton.driver import drive
from jaxopt_study.newton.exact import exact
from jaxopt_study.newton.lbfgs import lbfgs
from jaxopt_study.newton.line_search import LINE_SEARCHES
from jaxopt_study.newton.problem import Problem, System, flat_problem
from jaxopt_study.newton.result import Result, Status
from jaxopt_study.newton.step import Method
from jaxopt_study.newton.trust_region import trust_exact, trust_krylov

__all__ = ["METHODS", "minimize"]

METHODS: dict[str, Callable[[Problem, Any], Method]] = {
    "exact": exact,
    "newton_cg": newton_cg,
    "trust_exact": trust_exact,
    "trust_krylov": trust_krylov,
    "gauss_newton": exact,
    "lbfgs": lbfgs,
}


def minimize(
    fun: Callable[..., Any],
    x0: Any,
    *args: Any,
    method: str = "exact",
    hessian: Callable[..., Any] | System | None = None,
    block_size: int | None = 64,
    line_search: str = "backtracking",
    tolerance: float | None = None,
    decrement_tolerance: float | None = None,
    max_iterations: int = 100,
    keep_path: bool = False,
) -> Result:
    """Minimize fun(x, *args) over x, from x0.

    The whole run is compiled once for each `fun` and set of options; `args` are data and can change. It can be called
    inside `jax.jit` and `jax.vmap`. There nothing can be raised that depends on values: the result's reason says it.

    Args:
        fun: The objective, a scalar; for `gauss_newton` a `Composite`.
        x0: The start: any tree of floating point arrays. The run has their dtype.
        *args: What else `fun` and `hessian` take.
        method: `exact` (Cholesky), `newton_cg`, `trust_exact` (eigenvectors), `trust_krylov` (Steihaug's conjugate
            gradients), `gauss_newton` (`exact` with J' L J for the Hessian) or `lbfgs` (optax's).
        hessian: hessian(x, *args), a (P, P) matrix in the order of `runtime.ravel`, or a `System`; by default Hessian-
            vector products of a whole basis.
        block_size: How many of those at once; None for all.
        line_search: `backtracking` or `strong_wolfe`, for `exact`, `gauss_newton` and `newton_cg`.
        tolerance: On the largest entry of the gradient; by default the root of the dtype's eps.
        decrement_tolerance: On half the squared Newton decrement, an estimate of the value above the minimum; by
            default there is none.
        max_iterations: The most steps.
        keep_path: Whether to keep every point.

    Raises:
        TypeError, ValueError: An argument is not allowed; the words name it, and what is. Shapes and options are
            checked before anything is compiled.
    """
    dtype = jnp.result_type(*jax.tree.leaves(x0)) if jax.tree.leaves(x0) else jnp.dtype(float)
    if tolerance is None:
        tolerance = float(jnp.finfo(dtype).eps) ** 0.5 if jnp.issubdtype(dtype, jnp.floating) else 1.0
    options = Options(
        method, hessian, block_size, line_search, tolerance, decrement_tolerance, max_iterations, keep_path
    )
    check_options(options, tuple(METHODS), tuple(LINE_SEARCHES))
    check_problem(fun, x0, args, options)
    result = _run(fun, options, x0, args)
    if isinstance(result.status, jax.core.Tracer):
        return result
    if int(result.status) in (Status.NOT_FINITE, Status.ASYMMETRIC):
        raise ValueError(result.reason)
    if result.path is not None:
        reached = slice(int(result.iterations) + 1)
        result = result._replace(path=result.path[reached], path_counts=result.path_counts[reached])
    return result


@partial(jax.jit, static_argnums=(0, 1))
def _run(fun: Any, options: Options, x0: Any, args: tuple[Any, ...]) -> Result:
    problem, start, unravel = flat_problem(fun, x0, args, options)
    state = drive(problem, METHODS[options.method](problem, options), start, options)
    return Result(
        x=unravel(state.point.x),
        value=state.point.value,
        gradient_norm=state.point.gradient_norm,
        decrement=state.decrement,
        status=state.status,
        iterations=state.iteration,
        counts=state.counts,
        path=None if state.path is None else state.path.points,
        path_counts=None if state.path is None else state.path.counts,
    )

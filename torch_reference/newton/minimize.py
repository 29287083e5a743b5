"""The public function `minimize` and its table of algorithms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from torch_reference.newton.auxiliary import with_aux
from torch_reference.newton.bounds import Box, as_box, within
from torch_reference.newton.checks import (
    check_bounded,
    check_first_derivative,
    check_function,
    check_limits,
    check_names,
    check_options,
    check_problem,
    check_second_derivative,
    check_types,
)
from torch_reference.newton.choice import by_choice, joined
from torch_reference.newton.conjugate import newton_cg
from torch_reference.newton.driver import State, drive
from torch_reference.newton.exact import exact
from torch_reference.newton.implicit import solution
from torch_reference.newton.lbfgs import lbfgs
from torch_reference.newton.line_search import LINE_SEARCHES
from torch_reference.newton.options import Limits, Options, System
from torch_reference.newton.problem import Problem, flat_problem
from torch_reference.newton.result import Methods, Result, Status
from torch_reference.newton.starts import as_start
from torch_reference.newton.step import Method
from torch_reference.newton.trust_region import trust_exact, trust_krylov
from torch_reference.newton.watch import Progress, Watch

__all__ = ["METHODS", "minimize"]

METHODS: dict[str, Callable[[Problem, Options], Method]] = {
    "exact": exact,
    "newton_cg": newton_cg,
    "trust_exact": trust_exact,
    "trust_krylov": trust_krylov,
    "gauss_newton": trust_exact,
    "lbfgs": lbfgs,
}


def minimize(
    fun: Callable[..., Any],
    x0: Any,
    *args: Any,
    method: str | None = None,
    bounds: Any = None,
    hessian: Callable[..., Any] | System | None = None,
    block_size: int | None = 64,
    line_search: str = "backtracking",
    tolerance: float | None = None,
    decrement_tolerance: float | None = None,
    max_iterations: int = 100,
    keep_path: bool = False,
    has_aux: bool = False,
    callback: Callable[[Progress], Any] | None = None,
    max_seconds: float | None = None,
    **unknown: Any,
) -> Result:
    """Minimize fun(x, *args) over x, from x0.

    Gradients and Hessian-vector products are by `torch.autograd`, Hessians by `torch.func`.

    Where the Hessian has an entry that is not finite, though the objective and its gradient are, the run goes on by
    L-BFGS, and the result's reason names the entry.

    The result's x has derivatives with respect to those of `args`, and of what `fun` closes over, that require
    gradients, in reverse mode and once, by the implicit function theorem. Its value is a number: where that is to be
    differentiated, compute fun(x.detach(), *args).

    Args:
        fun: The objective, a scalar; for `gauss_newton` a `Composite`.
        x0: The start: a tree of floating point tensors of one type, which the run has too. Numbers, whole numbers and
            NumPy's arrays are converted; a start that is a list of numbers is a vector.
        *args: Further arguments of `fun` and `hessian`: trees of tensors and numbers. NumPy's arrays are converted.
        method: `exact` (Cholesky), `newton_cg`, `trust_exact` (a trust region in units of the Hessian's diagonal),
            `trust_krylov` (Steihaug's conjugate gradients), `gauss_newton` (`trust_exact` with J' L J for the Hessian:
            Levenberg and Marquardt's method) or `lbfgs` (first derivatives only). By default `lbfgs` begins, `exact`
            with a Hessian function, and `gauss_newton` for a `Composite`. Where it stalls or has used its share of the
            iterations, `exact` goes on with up to 20 variables, else `trust_krylov`, and then a third one; the result's
            reason names them. With `decrement_tolerance`, the second one begins.
        bounds: (lower, upper), each None, a number or a tree like x0, whose leaves broadcast to the start's and may be
            infinite; or scipy.optimize.Bounds. For `trust_krylov`, which is then the default. A start outside is moved
            to the nearest point within, and the objective is never evaluated outside. An active variable equals its
            bound. The solution has derivatives with respect to the bounds, too.
        hessian: For `exact` and `trust_exact`: hessian(x, *args), a (P, P) matrix in the order of `runtime.ravel`; for
            `exact` also a `System`. By default Hessian-vector products of a whole basis.
        block_size: The number of those products at a time; None for all at once.
        line_search: `backtracking` or `strong_wolfe`, for `exact` and `newton_cg`.
        tolerance: Of the largest absolute entry of the gradient. By default the square root of the type's eps, times
            the larger of |fun| and that entry at the start where this is under 1.
        decrement_tolerance: Of half the squared Newton decrement of a step that neither damping nor a radius shortened,
            an estimate of how far the value is above the minimum. By default, and for `lbfgs`, it is not used.
        max_iterations: The largest number of steps.
        keep_path: Whether to keep every point. A saddle that was left is replaced by the next point.
        has_aux: Whether `fun` returns a pair (value, aux). The result's `aux` is that at its x, computed once at
            the end, and has derivatives as x has. Not for a `Composite`.
        callback: callback(progress) is called after each step, with its `iteration`, `x`, `value` and `gradient_norm`.
            It stops the run by returning True or by raising StopIteration.
        max_seconds: The run stops after the first step that ends later than this; no step is cut short.
        **unknown: Other names are refused; the message says which one is meant.

    Raises:
        TypeError, ValueError: An argument is not allowed; the message names it, and what is allowed. Shapes and options
            are checked before the run begins.

    Example:
        >>> import torch
        >>> from torch_reference.newton import minimize
        >>> def rosenbrock(x):
        ...     return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2
        >>> result = minimize(rosenbrock, torch.tensor([-1.2, 1.0]))
        >>> result.x.round(decimals=3).tolist()
        [1.0, 1.0]
        >>> result.reason
        'Converged: the largest entry of the gradient is within the tolerance.'
    """
    given_options = {name: value for name, value in locals().items() if name in (minimize.__kwdefaults__ or {})}
    check_names(tuple(unknown), tuple(minimize.__kwdefaults__ or {}))
    check_function(fun)
    args = pytree.tree_map_only(np.ndarray, torch.as_tensor, args)
    if has_aux:
        return with_aux(minimize, fun, x0, args, given_options)
    if method is None:
        return by_choice(minimize, fun, x0, args, given_options)
    watch = Watch(callback, max_seconds)
    limits = Limits(tolerance, decrement_tolerance, max_iterations)
    check_limits(limits)
    options = Options(method, hessian, block_size, line_search, keep_path)
    check_options(options, tuple(METHODS), tuple(LINE_SEARCHES))
    check_bounded(bounds, method)
    x0, given, differentiable = as_start(x0), args, torch.is_grad_enabled()
    check_types(x0)
    # Whatever the caller's mode is, only x has gradients.
    x0, args = pytree.tree_map_only(torch.Tensor, torch.Tensor.detach, (x0, args))
    with torch.enable_grad():
        box = as_box(bounds, x0)
        held = box and Box(*(bound.detach() for bound in box))
        x0 = within(held, x0)
        check_problem(fun, x0, args, options)
        problem, start, unravel = flat_problem(fun, x0, args, options, limits, held)

        def seen(state: State) -> Status:
            point = state.point
            return watch.after(
                Progress(state.iteration, unravel(point.x), point.value, point.gradient_norm), state.status
            )

        try:
            state = drive(problem, METHODS[method](problem, options), start, options, seen)
        except RuntimeError:
            check = check_first_derivative if method == "lbfgs" else check_second_derivative
            check(fun, x0, args)
            raise
    if state.status in (Status.NOT_FINITE, Status.ASYMMETRIC):
        raise ValueError(state.status.sentence)
    result = Result(
        x=unravel(state.point.x),
        value=state.point.value,
        gradient_norm=state.point.gradient_norm,
        decrement=state.decrement,
        status=state.status,
        iterations=state.iteration,
        counts=state.counts,
        path=torch.stack([point for point, _ in state.path]) if keep_path else None,
        path_counts=torch.tensor([counts for _, counts in state.path]) if keep_path else None,
        tolerance=state.tolerance,
        methods=Methods((method,)),
    )
    if held and result.status == Status.GRADIENT:
        result = result._replace(status=Status.PROJECTED)
    if result.status != Status.HESSIAN or held:
        return result._replace(x=solution(fun, result.x, given, box)) if differentiable else result
    with torch.enable_grad():
        entries = (~torch.isfinite(problem.hessian(state.point.x))).nonzero()
    left = max_iterations - result.iterations
    if left < 1:
        return result._replace(status=Status.ITERATIONS)
    rest = minimize(
        fun, result.x, *given, method="lbfgs", tolerance=state.tolerance, max_iterations=left, keep_path=keep_path,
        **watch.rest(result.iterations),
    )  # fmt: skip
    return joined(result, rest)._replace(not_finite=entries)

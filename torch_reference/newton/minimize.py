"""The door: `minimize`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree

from torch_reference.newton.checks import Options, check_options, check_problem
from torch_reference.newton.conjugate import newton_cg
from torch_reference.newton.driver import drive
from torch_reference.newton.exact import exact
from torch_reference.newton.lbfgs import lbfgs
from torch_reference.newton.line_search import LINE_SEARCHES
from torch_reference.newton.problem import Problem, System, flat_problem
from torch_reference.newton.result import Result, Status
from torch_reference.newton.step import Method
from torch_reference.newton.trust_region import trust_exact, trust_krylov

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

    `fun` is differentiated by autograd once, and by `torch.func` for the second time.

    Args:
        fun: The objective, a scalar; for `gauss_newton` a `Composite`.
        x0: The start: any tree of floating point tensors. The run has their dtype.
        *args: What else `fun` and `hessian` take.
        method: `exact` (Cholesky), `newton_cg`, `trust_exact` (eigenvectors), `trust_krylov` (Steihaug's conjugate
            gradients), `gauss_newton` (`exact` with J' L J for the Hessian) or `lbfgs` (torch.optim's).
        hessian: For `exact` and `trust_exact`: hessian(x, *args), a (P, P) matrix in the order of `runtime.ravel`; for
            `exact` also a `System`. By default Hessian-vector products of a whole basis.
        block_size: How many of those at once; None for all.
        line_search: `backtracking` or `strong_wolfe`, for `exact`, `gauss_newton` and `newton_cg`.
        tolerance: On the largest entry of the gradient; by default the root of the dtype's eps.
        decrement_tolerance: On half the squared Newton decrement of a step that neither damping nor a radius held
            back, an estimate of the value above the minimum (not for `lbfgs`); by default there is none.
        max_iterations: The most steps.
        keep_path: Whether to keep every point; the place of a saddle that was left is taken by the next one.

    Raises:
        TypeError, ValueError: An argument is not allowed; the words name it, and what is. Shapes and options are
            checked before the run begins.
    """
    if tolerance is None:
        kinds = [leaf.dtype for leaf in pytree.tree_leaves(x0) if isinstance(leaf, torch.Tensor)]
        floats = [kind for kind in kinds if kind.is_floating_point]
        tolerance = max((torch.finfo(kind).eps for kind in floats), default=1.0) ** 0.5
    options = Options(
        method, hessian, block_size, line_search, tolerance, decrement_tolerance, max_iterations, keep_path
    )
    check_options(options, tuple(METHODS), tuple(LINE_SEARCHES))
    # Whatever the caller's mode, there are gradients of x alone.
    x0, args = pytree.tree_map_only(torch.Tensor, torch.Tensor.detach, (x0, args))
    with torch.enable_grad():
        check_problem(fun, x0, args, options)
        problem, start, unravel = flat_problem(fun, x0, args, options)
        state = drive(problem, METHODS[method](problem, options), start, options)
    if state.status in (Status.NOT_FINITE, Status.ASYMMETRIC):
        raise ValueError(state.status.sentence)
    return Result(
        x=unravel(state.point.x),
        value=state.point.value,
        gradient_norm=state.point.gradient_norm,
        decrement=state.decrement,
        status=state.status,
        iterations=state.iteration,
        counts=state.counts,
        path=torch.stack([point for point, _ in state.path]) if keep_path else None,
        path_counts=torch.tensor([counts for _, counts in state.path]) if keep_path else None,
    )

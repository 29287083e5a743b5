"""The public function `minimize` and its table of algorithms."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_study.backends.jax.newton.auxiliary import with_aux
from jaxopt_study.backends.jax.newton.bounds import as_box, within
from jaxopt_study.backends.jax.newton.checks import (
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
from jaxopt_study.backends.jax.newton.choice import by_choice, joined
from jaxopt_study.backends.jax.newton.compiled import compiled
from jaxopt_study.backends.jax.newton.conjugate import newton_cg
from jaxopt_study.backends.jax.newton.driver import State, advance, begin, drive, look_further, settle, take
from jaxopt_study.backends.jax.newton.exact import exact
from jaxopt_study.backends.jax.newton.implicit import solution
from jaxopt_study.backends.jax.newton.lbfgs import lbfgs
from jaxopt_study.backends.jax.newton.line_search import LINE_SEARCHES
from jaxopt_study.backends.jax.newton.options import Limits, Options, System
from jaxopt_study.backends.jax.newton.problem import Problem, flat_problem
from jaxopt_study.backends.jax.newton.program import Data, bind, hashable, trace
from jaxopt_study.backends.jax.newton.result import Methods, Result, Status
from jaxopt_study.backends.jax.newton.starts import as_start
from jaxopt_study.backends.jax.newton.step import Method
from jaxopt_study.backends.jax.newton.trust_region import trust_exact, trust_krylov
from jaxopt_study.backends.jax.newton.watch import Progress, Watch

__all__ = ["METHODS", "many", "minimize"]

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

    The run is compiled once for what `fun` computes and a set of options, even if `fun` is a new function each time.
    The start, `args`, arrays that `fun` closes over, tolerances and limits are data and may change. It can be called
    inside `jax.jit` and `jax.vmap`. There, no error that depends on values is raised; the result's reason says it.

    The result's x and value have derivatives with respect to `args` and to what `fun` closes over, in forward and
    reverse mode, by the implicit function theorem.

    Where the Hessian has an entry that is not finite, though the objective and its gradient are, the run goes on by
    L-BFGS, and the result's reason names the entry; inside `jax.jit` and `jax.vmap` it ends there.

    Args:
        fun: The objective, a scalar; for `gauss_newton` a `Composite`.
        x0: The start: a tree of floating point arrays of one type, which the run has too. Numbers and whole numbers are
            converted; a start that is a list of numbers is a vector.
        *args: Further arguments of `fun` and `hessian`: trees of arrays and numbers.
        method: `exact` (Cholesky), `newton_cg`, `trust_exact` (a trust region in units of the Hessian's diagonal),
            `trust_krylov` (Steihaug's conjugate gradients), `gauss_newton` (`trust_exact` with J' L J for the Hessian:
            Levenberg and Marquardt's method) or `lbfgs` (first derivatives only). By default `lbfgs` begins, `exact`
            with a Hessian function, and `gauss_newton` for a `Composite`. Where it stalls or has used its share of the
            iterations, `exact` goes on with up to 20 variables, else `trust_krylov`, and then a third one; the result's
            reason names them. With `decrement_tolerance`, and inside `jax.jit` and `jax.vmap`, the second one begins.
        bounds: (lower, upper), each None, a number or a tree like x0, whose leaves broadcast to the start's and may be
            infinite; or scipy.optimize.Bounds. For `trust_krylov`, which is then the default. A start outside is moved
            to the nearest point within, and the objective is never evaluated outside. An active variable equals its
            bound. Bounds are data, too, and the solution has derivatives with respect to them.
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
            It stops the run by returning True or by raising StopIteration. Not inside `jax.jit` and `jax.vmap`.
        max_seconds: The run stops after the first step that ends later than this; the time to compile counts, and no
            step is cut short. Not inside `jax.jit` and `jax.vmap`.
        **unknown: Other names are refused; the message says which one is meant.

    Raises:
        TypeError, ValueError: An argument is not allowed; the message names it, and what is allowed. Shapes and options
            are checked before anything is compiled.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxopt_study.newton import minimize
        >>> def rosenbrock(x):
        ...     return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2
        >>> result = minimize(rosenbrock, jnp.array([-1.2, 1.0]))
        >>> result.x.round(3).tolist()
        [1.0, 1.0]
        >>> result.reason
        'Converged: the largest entry of the gradient is within the tolerance.'
    """
    given_options = {name: value for name, value in locals().items() if name in (minimize.__kwdefaults__ or {})}
    check_names(tuple(unknown), tuple(minimize.__kwdefaults__ or {}))
    check_function(fun)
    if has_aux:
        return with_aux(minimize, fun, x0, args, given_options)
    if method is None:
        return by_choice(minimize, fun, x0, args, given_options)
    watch = Watch(callback, max_seconds)
    limits = Limits(tolerance, decrement_tolerance, max_iterations)
    check_limits(limits)
    limits = Limits(
        math.nan if tolerance is None else float(tolerance),
        -1.0 if decrement_tolerance is None else float(decrement_tolerance),
        int(max_iterations),
    )
    options = Options(method, hessian, block_size, line_search, max_iterations + 1 if keep_path else None)
    check_options(options, tuple(METHODS), tuple(LINE_SEARCHES))
    check_bounded(bounds, method)
    fun, x0 = hashable(fun), as_start(x0)
    check_types(x0)
    box = as_box(bounds, x0)
    x0 = within(box, x0)
    check_problem(fun, x0, args, options)
    program, options, arrays = trace(fun, x0, args, options)
    data = Data(arrays, args, box)
    traced, given = _traced(x0, data), (program, options, limits, x0, data)
    try:
        if traced:
            watch.check_values()
        state, x = _whole(*given[:3], *jax.lax.stop_gradient(given[3:])) if traced else _in_parts(given, watch)
    except (TypeError, ValueError, NotImplementedError):
        check = check_first_derivative if method == "lbfgs" else check_second_derivative
        check(fun, x0, args)
        raise
    result = _result(state, x, method)
    if box is not None:
        result = result._replace(status=jnp.where(result.status == Status.GRADIENT, Status.PROJECTED, result.status))
    if traced or isinstance(result.status, jax.core.Tracer):
        x, value = solution(program, options, data, (x, result.value))
        return result._replace(x=x, value=value)
    if int(result.status) in (Status.NOT_FINITE, Status.ASYMMETRIC):
        raise ValueError(result.reason)
    if result.path is not None:
        rows = int(result.iterations) + 1
        result = result._replace(path=_first(result.path, rows), path_counts=_first(result.path_counts, rows))
    if int(result.status) != Status.HESSIAN or box is not None:
        return result
    return _go_on(result, state.tolerance, fun, args, given, watch)


def _go_on(
    result: Result, tolerance: Any, fun: Any, args: tuple[Any, ...], given: tuple[Any, ...], watch: Watch
) -> Result:
    """Go on by L-BFGS where the Hessian is not finite, and name its entries."""
    program, options, limits, _, data = given
    entries = np.argwhere(~np.isfinite(np.asarray(_hessian(program, options, limits, result.x, data))))
    left = limits.max_iterations - int(result.iterations)
    if left < 1:
        return result._replace(status=jnp.full_like(result.status, Status.ITERATIONS))
    rest = minimize(
        fun, result.x, *args, method="lbfgs", tolerance=float(tolerance), max_iterations=left,
        keep_path=options.rows is not None, **watch.rest(int(result.iterations)),
    )  # fmt: skip
    return joined(result, rest)._replace(not_finite=entries)


def many(fun: Callable[..., Any], in_axes: tuple[int | None, ...], **options: Any) -> Callable[..., Result]:
    """Return the function (x0, *args) -> Result of many runs at once, whose leaves have a leading axis.

    Args:
        fun: As for `minimize`.
        in_axes: As for `jax.vmap`, for x0 and each further argument: 0 where each run has its entry of the leading
            axis, None where all runs share the argument.
        **options: Of `minimize`.
    """
    return jax.jit(jax.vmap(partial(minimize, fun, **options), in_axes=in_axes))


def _first(array: Any, rows: int) -> Any:
    """Cut in NumPy: JAX would compile each length."""
    return jnp.asarray(np.asarray(array)[:rows])


def _in_parts(given: tuple[Any, ...], watch: Watch) -> End:
    """Run in parts, so that the escape from a saddle is compiled only for a run that needs it."""
    state, x = _begin_and_advance(*given) if watch.idle else _watched(given, watch, *_begin(*given))
    if isinstance(state.status, jax.core.Tracer):  # a `System` closes over variables of a `vmap` around
        return _whole(*given)
    while int(state.status) == Status.GRADIENT and not bool(state.convex):
        state, x = _settle(*given, state)
        if int(state.status) == Status.RUNNING:
            state, x = _advance(*given, state) if watch.idle else _watched(given, watch, state, x)
    return state, x


def _watched(given: tuple[Any, ...], watch: Watch, state: State, x: Any) -> End:
    """Advance in pieces of a few steps; after each, a callback or the clock may end the run."""
    if isinstance(state.status, jax.core.Tracer):
        watch.check_values()
    while int(state.status) == Status.RUNNING:
        state, x = _take(*given, state, int(state.iteration) + watch.steps)
        progress = Progress(int(state.iteration), x, float(state.point.value), float(state.point.gradient_norm))
        status = watch.after(progress, Status(int(state.status)))
        state = state._replace(status=jnp.asarray(status, state.status.dtype))
    return (state, x) if int(state.status) in (Status.STOPPED, Status.TIME) else _look(*given, state)


End = tuple[State, Any]
"""A state, and its point as a tree like the start."""


@partial(jax.jit, static_argnums=(0, 1))
def _whole(program: Any, options: Options, limits: Limits, x0: Any, data: Data) -> End:
    problem, method, start, unravel = _setup(program, options, limits, x0, data)
    return _end(drive(problem, method, start, options), unravel)


@compiled
def _begin_and_advance(program: Any, options: Options, limits: Limits, x0: Any, data: Data) -> End:
    problem, method, start, unravel = _setup(program, options, limits, x0, data)
    return _end(advance(problem, method, start, begin(problem, method, start, options)), unravel)


@compiled
def _begin(program: Any, options: Options, limits: Limits, x0: Any, data: Data) -> End:
    problem, method, start, unravel = _setup(program, options, limits, x0, data)
    return _end(begin(problem, method, start, options), unravel)


@compiled
def _take(program: Any, options: Options, limits: Limits, x0: Any, data: Data, state: State, until: Any) -> End:
    problem, method, start, unravel = _setup(program, options, limits, x0, data)
    return _end(take(problem, method, start, state, until), unravel)


@compiled
def _look(program: Any, options: Options, limits: Limits, x0: Any, data: Data, state: State) -> End:
    problem, _, start, unravel = _setup(program, options, limits, x0, data)
    return _end(look_further(problem, start, state), unravel)


@compiled
def _advance(program: Any, options: Options, limits: Limits, x0: Any, data: Data, state: State) -> End:
    problem, method, start, unravel = _setup(program, options, limits, x0, data)
    return _end(advance(problem, method, start, state), unravel)


@compiled
def _settle(program: Any, options: Options, limits: Limits, x0: Any, data: Data, state: State) -> End:
    problem, method, _, unravel = _setup(program, options, limits, x0, data)
    return _end(settle(problem, method, state), unravel)


@compiled
def _hessian(program: Any, options: Options, limits: Limits, x0: Any, data: Data) -> Any:
    problem, _, start, _ = _setup(program, options, limits, x0, data)
    return problem.hessian(start)


def _setup(program: Any, options: Options, limits: Limits, x0: Any, data: Data) -> tuple[Problem, Method, Any, Any]:
    fun, options = bind(program, options, data.arrays)
    problem, start, unravel = flat_problem(fun, x0, data.args, options, limits, data.box)
    return problem, METHODS[options.method](problem, options), start, unravel


def _end(state: State, unravel: Callable[[Any], Any]) -> End:
    return state, unravel(state.point.x)


def _traced(*trees: Any) -> bool:
    """Whether this is being traced; inside `jit` a new array is a tracer too."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in [*jax.tree.leaves(trees), jnp.zeros(())])


def _result(state: State, x: Any, method: str) -> Result:
    return Result(
        x=x,
        value=state.point.value,
        gradient_norm=state.point.gradient_norm,
        decrement=state.decrement,
        status=state.status,
        iterations=state.iteration,
        counts=state.counts,
        path=None if state.path is None else state.path.points,
        path_counts=None if state.path is None else state.path.counts,
        tolerance=state.tolerance,
        methods=Methods((method,)),
    )

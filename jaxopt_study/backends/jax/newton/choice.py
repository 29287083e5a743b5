"""What `minimize` does without a method: choose one by size and structure, and go on by another where it stalls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_study.backends.jax.newton.checks import BOUNDED, TAKES_HESSIAN, SecondDerivativeError
from jaxopt_study.backends.jax.newton.options import Composite, System
from jaxopt_study.backends.jax.newton.result import Counts, Methods, Result, Status
from jaxopt_study.backends.jax.newton.watch import Watch

__all__ = ["by_choice", "choose", "joined", "share"]

FEW = 20
"""Up to here a Hessian costs less than the products that conjugate gradients need. On CUTEst's problems of 50 to 200
variables, `trust_krylov` solves as many as `exact`, with an eighth of the work in gradients."""
EARLY, EACH = 50, 10
"""The L-BFGS that begins makes so many iterations, and so many for each variable. On CUTEst, most of the runs that have
not come to the minimum by then take fewer gradients with second derivatives."""
DENSE = 2000
"""The most variables for which a matrix of all of them is made where `trust_krylov` stalls."""


def choose(size: int, fun: Any, hessian: Any, second: bool) -> tuple[str, ...]:
    """Return the algorithms for an objective of so many variables: each goes on where the one before it stalls.

    Args:
        size: The number of variables.
        fun: The objective.
        hessian: Its Hessian, if that is given.
        second: Whether to begin with second derivatives. Otherwise L-BFGS begins: on most problems it needs the least
            work in gradients.
    """
    if isinstance(hessian, System):
        return "exact", "trust_krylov"
    if hessian is None and isinstance(fun, Composite) and size <= DENSE:
        return "gauss_newton", "trust_exact"
    if hessian is not None:
        return "exact", "trust_exact"
    further = ("exact", "trust_exact") if size <= FEW else ("trust_krylov", "exact" if size <= DENSE else "lbfgs")
    return further if second else ("lbfgs", *further)


def share(left: Any, further: bool, first: int | None = None) -> Any:
    """Return how many of the iterations that are left an algorithm may make: half of them if another one can go on.

    Args:
        left: The iterations that are left.
        further: Whether another algorithm can go on.
        first: The number of variables, for the L-BFGS that begins.
    """
    if not (further and isinstance(left, int | np.integer) and left > 1):
        return left
    half = int(left) // 2
    return half if first is None else min(half, EARLY + EACH * first)


def by_choice(
    minimize: Callable[..., Result], fun: Any, x0: Any, args: tuple[Any, ...], options: dict[str, Any]
) -> Result:
    """Minimize by the algorithms that are chosen; inside `jax.jit` and `jax.vmap` there is one alone."""
    if options["bounds"] is not None:
        return minimize(fun, x0, *args, **options | {"method": BOUNDED})
    size = sum(np.size(leaf) for leaf in jax.tree.leaves(x0))
    arrays = [*jax.tree.leaves((x0, args)), jnp.zeros(())]  # inside `jit` a new array is a tracer too
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in arrays)
    names = choose(size, fun, options["hessian"], traced or options["decrement_tolerance"] is not None)
    watch, most = Watch(options["callback"], options["max_seconds"]), options["max_iterations"]
    if traced:
        return minimize(fun, x0, *args, **options | {"method": names[0]})

    def run(name: str, so_far: Result | None, further: bool) -> Result:
        changes: dict[str, Any] = {"method": name}
        if so_far is None:
            part = share(most, further, size if name == "lbfgs" else None)
            return minimize(fun, x0, *args, **options | changes | {"max_iterations": part})
        done = int(so_far.iterations)
        changes |= {"max_iterations": share(most - done, further), "tolerance": float(np.asarray(so_far.tolerance))}
        changes |= {"hessian": options["hessian"] if name in TAKES_HESSIAN else None}
        return joined(so_far, minimize(fun, so_far.x, *args, **options | changes | watch.rest(done)))

    result = None
    for place, name in enumerate(names):
        further = place + 1 < len(names)
        try:
            result = run(name, result, further)
        except SecondDerivativeError:
            if result is not None and int(result.status) == Status.STALLED:
                return result  # from the same point, L-BFGS would stall again
            options = options | {"hessian": None} | watch.rest(0)
            return run("lbfgs", result, False)
        if isinstance(result.status, jax.core.Tracer):  # `fun` closes over variables of a `vmap` around
            names = choose(size, fun, options["hessian"], second=True)
            return minimize(fun, x0, *args, **options | {"method": names[0]})
        if not further or not _goes_on(result, most):
            break
    assert result is not None
    return result


def _goes_on(result: Result, most: Any) -> bool:
    """Say whether another algorithm may go on: this one stalled, or has used its share of the iterations."""
    return int(result.status) in (Status.STALLED, Status.ITERATIONS) and int(result.iterations) < most


def joined(first: Result, rest: Result) -> Result:
    """Return the result of a run that went on by another."""
    counts = Counts(*(a + b for a, b in zip(first.counts, rest.counts, strict=True)))
    if first.path is not None and rest.path is not None and rest.path_counts is not None:
        so_far = np.asarray(first.path_counts)
        rest = rest._replace(
            path=jnp.concatenate([first.path, rest.path[1:]]),
            path_counts=jnp.asarray(np.concatenate([so_far, so_far[-1] + np.asarray(rest.path_counts[1:])])),
        )
    return rest._replace(
        counts=counts,
        iterations=first.iterations + rest.iterations,
        methods=Methods(first.methods + rest.methods),
        not_finite=first.not_finite if rest.not_finite is None else rest.not_finite,
    )

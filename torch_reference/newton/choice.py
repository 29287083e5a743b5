"""What `minimize` does without a method: choose one by size and structure, and go on by another where it stalls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from torch_reference.newton.checks import BOUNDED, SecondDerivativeError
from torch_reference.newton.options import Composite, System
from torch_reference.newton.result import Methods, Result, Status
from torch_reference.newton.watch import Watch

__all__ = ["by_choice", "choose", "joined"]

FEW = 20
"""Up to here a Hessian costs less than the products that conjugate gradients need. On CUTEst's problems of 50 to 200
variables, `trust_krylov` solves as many as `exact`, with an eighth of the work in gradients."""
DENSE = 2000
"""The most variables for which a matrix of all of them is made where `trust_krylov` stalls."""


def choose(size: int, fun: Any, hessian: Any, bounds: Any = None) -> tuple[str, str]:
    """Return the algorithm for an objective of so many variables, and the one that goes on where it stalls."""
    if bounds is not None:
        return BOUNDED, ""
    if isinstance(hessian, System):
        return "exact", "trust_krylov"
    if hessian is None and isinstance(fun, Composite) and size <= DENSE:
        return "gauss_newton", "trust_exact"
    if hessian is not None or size <= FEW:
        return "exact", "trust_exact"
    return "trust_krylov", "exact" if size <= DENSE else "lbfgs"


def by_choice(
    minimize: Callable[..., Result], fun: Any, x0: Any, args: tuple[Any, ...], options: dict[str, Any]
) -> Result:
    """Minimize by the algorithm that is chosen, and go on by another where it stalls."""
    size = sum(leaf.numel() if isinstance(leaf, torch.Tensor) else np.size(leaf) for leaf in pytree.tree_leaves(x0))
    first, further = choose(size, fun, options["hessian"], options["bounds"])
    watch = Watch(options["callback"], options["max_seconds"])
    try:
        result = minimize(fun, x0, *args, **options | {"method": first})
    except SecondDerivativeError:
        if not further:
            raise
        return minimize(fun, x0, *args, **options | {"method": "lbfgs", "hessian": None} | watch.rest(0))
    left = options["max_iterations"] - result.iterations
    if result.status != Status.STALLED or not further or left < 1:
        return result
    hessian = options["hessian"] if further == "trust_exact" else None
    changes = {"method": further, "hessian": hessian, "max_iterations": left, "tolerance": result.tolerance}
    return joined(result, minimize(fun, result.x, *args, **options | changes | watch.rest(int(result.iterations))))


def joined(first: Result, rest: Result) -> Result:
    """Return the result of a run that went on by another."""
    if first.path is not None and first.path_counts is not None and rest.path is not None:
        rest = rest._replace(
            path=torch.cat([first.path, rest.path[1:]]),
            path_counts=torch.cat([first.path_counts, first.path_counts[-1] + torch.as_tensor(rest.path_counts)[1:]]),
        )
    return rest._replace(
        counts=first.counts.plus(rest.counts), iterations=first.iterations + rest.iterations,
        methods=Methods(first.methods + rest.methods),
        not_finite=first.not_finite if rest.not_finite is None else rest.not_finite,
    )  # fmt: skip

"""What other people's minimizers make of the same objectives: baselines, not part of `minimize`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from jaxopt_study.backends.jax.newton.collection import Collected

__all__ = ["Answer", "optimistix_bfgs", "peers", "scipy"]

OPTIONS: dict[str, dict[str, float]] = {
    "trust-exact": {"gtol": 1e-8},
    "BFGS": {"gtol": 1e-8},
    "trust-ncg": {"gtol": 1e-8},
    "L-BFGS-B": {"gtol": 1e-8, "ftol": 0, "maxfun": 100_000},
    "Newton-CG": {"xtol": 1e-12},
}
"""SciPy's minimizers, with tolerances as small as those of `minimize`."""


class Answer(NamedTuple):
    """Where a baseline ended, what it says of it, how many iterations it reports, and its work in gradients."""

    x: Any
    reason: str
    iterations: int
    work: int


def scipy(problem: Collected, method: str, max_iterations: int) -> Answer:
    """Minimize by SciPy, with derivatives that JAX compiled."""
    from scipy.optimize import minimize  # takes a while to load

    second: dict[str, Any] = {
        "trust-exact": {"hess": problem.second},
        "trust-ncg": {"hessp": problem.product},
        "Newton-CG": {"hessp": problem.product},
    }
    before = problem.work
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        options = {"maxiter": max_iterations} | OPTIONS[method]
        found = minimize(
            problem.at, np.asarray(problem.start), method=method, jac=True, options=options, **second.get(method, {})
        )
    return Answer(found.x, str(found.message), int(found.nit), problem.work - before)


TRIALS = 10
"""Steps of optimistix for an iteration: it counts each trial of its line search as a step, SciPy does not. With one it
ends at the gradient's tolerance on 33 of the 40 problems of the default profile, with ten on 38."""


def optimistix_bfgs(problem: Collected, max_iterations: int) -> Answer:
    """Minimize by optimistix; each of its steps computes one value and gradient, or one value."""
    import optimistix  # optional

    solver, limit = optimistix.BFGS(rtol=1e-8, atol=1e-8), TRIALS * max_iterations
    found = optimistix.minimise(lambda x, _: problem.fun(x), solver, problem.start, max_steps=limit, throw=False)
    steps = int(found.stats["num_steps"])
    return Answer(np.asarray(found.value), optimistix.RESULTS[found.result] or "Converged.", steps, steps)


def peers() -> dict[str, Callable[[Collected, int], Answer]]:
    """Return the baselines that are installed: name -> (problem, max_iterations) -> answer."""
    found: dict[str, Callable[[Collected, int], Answer]] = {f"SciPy {name}": partial(_scipy, name) for name in OPTIONS}
    if find_spec("optimistix"):
        found["optimistix BFGS"] = optimistix_bfgs
    return found


def _scipy(method: str, problem: Collected, max_iterations: int) -> Answer:
    return scipy(problem, method, max_iterations)

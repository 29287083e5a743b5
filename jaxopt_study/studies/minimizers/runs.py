"""Every minimizer on one problem, in a worker; and what the objective says around the point where each run ended."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from jaxopt_study.backends import Backend
from jaxopt_study.bench.task import Value
from jaxopt_study.data.workload import Array

ITERATIONS = 1000
"""The largest number of iterations of every minimizer."""
COLLECTION = "collection"
"""The module of JAX's minimizers with the problems."""
DEFAULT = "default"
"""The name of `minimize` without a method, where it chooses one itself."""
RAISED = "RAISED"
"""In place of the name of a `Status`, where a minimizer of ours raised."""
FURTHER = 1e4
"""A sentence on infinity speaks of a point so many times as far from the start as the end."""
LENGTHS = np.geomspace(1e-14, 1, 29)
"""Of the steps along the negative gradient that are tried from an end, in units of 1 + |x|."""
DAMPINGS = (0.0, *np.geomspace(1e-14, 1, 15))
"""Of the damped Newton steps that are tried from an end, in units of the Hessian's largest eigenvalue."""


class End(NamedTuple):
    """Where a run ended, in numbers.

    Attributes:
        value: The objective, computed again apart from the minimizer; so is `slope`.
        slope: The largest absolute entry of the gradient.
        told: The objective as the minimizer returns it; NaN of a peer.
        lower: How much lower the objective is at the best of many points around; NaN where it was not asked.
        far: How much lower it is `FURTHER` times as far from the start; NaN where it was not asked.
        far_slope: The largest absolute entry of the gradient there.
        way: The distance from the start.
    """

    value: float
    slope: float
    iterations: int
    work: int
    told: float = np.nan
    lower: float = np.nan
    far: float = np.nan
    far_slope: float = np.nan
    way: float = 0.0


def every(backend: Backend, name: str) -> Value:
    """Return the end of each minimizer on a problem, as arrays with a row for each; the start's is the first."""
    newton: Any = backend.newton
    collection, own = getattr(newton, COLLECTION), {DEFAULT, *newton.METHODS}
    with collection.in_float64():
        problem = collection.collected(name)
        value, slope = problem.at(problem.start)
        ends = {"": (End(value, float(np.abs(slope).max()), 0, 0), "", "")}
        for solver, run in solvers(backend).items():
            try:
                ends[solver] = run(problem)
            except Exception as error:  # whatever a minimizer raises is its end on this problem
                words = f"{type(error).__name__}: {error}".splitlines()[0]
                ends[solver] = ends[""][0], RAISED if solver in own else "", words
    return {
        "size": np.array(problem.start.size),
        "solvers": np.array(list(ends)),
        "ends": np.array([end for end, *_ in ends.values()], dtype=float),
        "statuses": np.array([status for _, status, _ in ends.values()]),
        "words": np.array([words for *_, words in ends.values()]),
    }


Run = Callable[[Any], tuple[End, str, str]]
"""(problem) -> where it ended, the name of its `Status` if it is ours, and the reason in its own words."""


def solvers(backend: Backend) -> dict[str, Run]:
    """Return the minimizers of the backend, by the names of their methods, and the installed ones of other people.

    Gauss-Newton is not among them: these problems do not say which function their squares are of.
    """
    newton: Any = backend.newton
    named = {name: {"method": name} for name in newton.METHODS if name != "gauss_newton"}
    chooses = inspect.signature(newton.minimize).parameters["method"].default is None
    own: dict[str, dict[str, str]] = ({DEFAULT: {}} if chooses else {}) | named
    return {
        **{name: partial(_own, newton, options) for name, options in own.items()},
        **{name: partial(_peer, run) for name, run in newton.peers.peers().items()},
    }


def _own(newton: Any, options: dict[str, str], problem: Any) -> tuple[End, str, str]:
    result = newton.minimize(problem.fun, problem.start, max_iterations=ITERATIONS, **options)
    counts, status = result.counts, newton.Status(int(result.status)).name
    work = int(counts.gradient) + 2 * int(counts.hvp) + 2 * problem.start.size * int(counts.hessian)
    end = _end(problem, np.asarray(result.x), int(result.iterations), work)._replace(told=float(result.value))
    x, start = np.asarray(result.x), np.asarray(problem.start)
    if status not in ("GRADIENT", "ITERATIONS"):
        end = end._replace(lower=end.value - _lowest_around(problem, x))
        far, slope = problem.at(start + FURTHER * (x - start))
        end = end._replace(far=end.value - far, far_slope=float(np.abs(slope).max()))
    return end, status, result.reason


def _peer(run: Callable[[Any, int], Any], problem: Any) -> tuple[End, str, str]:
    answer = run(problem, ITERATIONS)
    return _end(problem, np.asarray(answer.x), answer.iterations, answer.work), "", answer.reason


def _end(problem: Any, x: Array, iterations: int, work: int) -> End:
    value, slope = problem.at(x)
    way = float(np.linalg.norm(x - np.asarray(problem.start)))
    return End(value, float(np.abs(slope).max()), iterations, work, way=way)


def _lowest_around(problem: Any, x: Array) -> float:
    """Return the least value at short and long steps along the negative gradient, and at damped Newton steps."""
    value, slope = problem.at(x)
    size = np.linalg.norm(slope)
    steps = [-length * (1 + np.linalg.norm(x)) / size * slope for length in LENGTHS] if 0 < size < np.inf else []
    hessian = problem.second(x)
    if np.isfinite(hessian).all():
        eigenvalues, vectors = np.linalg.eigh((hessian + hessian.T) / 2)
        most = np.abs(eigenvalues).max() or 1.0
        weights = [np.maximum(np.abs(eigenvalues), 1e-16 * most) + damping * most for damping in DAMPINGS]
        steps += [-vectors @ ((vectors.T @ slope) / weight) for weight in weights]
    return float(np.nanmin([value, *(problem.at(x + step)[0] for step in steps)]))

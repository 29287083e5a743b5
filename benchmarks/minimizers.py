"""How many problems of CUTEst `newton.minimize` solves, beside SciPy's minimizers.

    python -m pip install sif2jax
    python benchmarks/minimizers.py runs.jsonl                     # every solver; takes an hour
    python benchmarks/minimizers.py runs.jsonl exact trust-exact   # these alone

The problems are the unconstrained ones of sif2jax with 2 to 200 variables whose gradient takes at most a million
floating point operations, in float64. A solver may make 1,000 iterations. A run counts as solved where the objective is
within 1e-6 (1 + |best|) of the best value that any solver found, and the largest entry of the gradient is at most
1e-6 (1 + that of the start). The work is counted in gradients: a Hessian-vector product is two, and a Hessian two for
each variable. Each run is written to the file as it ends, and a run that is in the file already is not made again. No
time is measured.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize

from jaxopt_study.newton import METHODS, minimize

MOST, OPERATIONS, TOLERANCE, ITERATIONS = 200, 1e6, 1e-6, 1000
OURS = ["default", *(name for name in METHODS if name != "gauss_newton")]
PEERS: dict[str, dict[str, float]] = {
    "trust-exact": {"gtol": 1e-8},
    "BFGS": {"gtol": 1e-8},
    "trust-ncg": {"gtol": 1e-8},
    "L-BFGS-B": {"gtol": 1e-8, "ftol": 0, "maxfun": 100_000},
    "Newton-CG": {"xtol": 1e-12},
}
"""SciPy's minimizers, with tolerances as small as ours."""


class Problem:
    """A problem on a vector, with its derivatives compiled for SciPy, and counted."""

    def __init__(self, given: Any) -> None:
        start, self.unravel = jax.flatten_util.ravel_pytree(given.y0)
        self.name, self.given, self.start = given.name, given, start
        self.at = jax.jit(jax.value_and_grad(self.value))
        self.second = jax.jit(jax.hessian(self.value))
        self.product = jax.jit(lambda x, v: jax.jvp(jax.grad(self.value), (x,), (v,))[1])
        self.work = 0

    def value(self, x: jax.Array) -> jax.Array:
        """Return the objective."""
        return self.given.objective(self.unravel(x), self.given.args)

    def operations(self) -> float:
        """Return the floating point operations of a gradient."""
        return float(self.at.lower(self.start).compile().cost_analysis().get("flops", 0))

    def counted(self, function: Callable[..., Any], work: int) -> Callable[..., Any]:
        """Return the function in NumPy, which adds its work when it is called."""

        def call(*arguments: Any) -> Any:
            self.work += work
            return jax.tree.map(lambda leaf: np.asarray(leaf, float), function(*arguments))

        return call


def run(problem: Problem, solver: str) -> dict[str, Any]:
    """Return where a solver ends, what it says and its work."""
    size = problem.start.size
    if solver in OURS:
        method = None if solver == "default" else solver
        result = minimize(problem.value, problem.start, method=method, max_iterations=ITERATIONS)
        counts = result.counts
        work = int(counts.gradient) + 2 * int(counts.hvp) + 2 * size * int(counts.hessian)
        return _ended(problem, result.x, result.reason, work, int(result.iterations))
    problem.work = 0
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        second = {
            "trust-exact": {"hess": problem.counted(problem.second, 2 * size)},
            "trust-ncg": {"hessp": problem.counted(problem.product, 2)},
            "Newton-CG": {"hessp": problem.counted(problem.product, 2)},
        }.get(solver, {})
        result = optimize.minimize(
            problem.counted(problem.at, 1), np.asarray(problem.start), method=solver, jac=True,
            options={"maxiter": ITERATIONS} | PEERS[solver], **second,
        )  # fmt: skip
    return _ended(problem, jnp.asarray(result.x), str(result.message), problem.work, int(result.nit))


def _ended(problem: Problem, x: jax.Array, words: str, work: int, iterations: int) -> dict[str, Any]:
    value, slope = problem.at(x)
    return {
        "value": float(value), "slope": float(jnp.abs(slope).max()), "words": words, "work": work,
        "iterations": iterations,
    }  # fmt: skip


def measure(path: Path, solvers: list[str]) -> list[dict[str, Any]]:
    """Make the runs that the file lacks, and return all of them."""
    import sif2jax

    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    made = {(r["problem"], r["solver"]) for r in found}
    for given in sif2jax.unconstrained_minimisation_problems:
        if not 2 <= given.num_variables() <= MOST:
            continue
        missing = [name for name in solvers if (given.name, name) not in made]
        if not missing:
            continue
        problem = Problem(given)
        if problem.operations() > OPERATIONS:
            continue
        start = _ended(problem, problem.start, "", 0, 0)
        for solver in missing:
            try:
                end = run(problem, solver)
            except Exception as error:
                end = start | {"words": f"{type(error).__name__}: {error}".splitlines()[0]}
            record = {
                "problem": given.name,
                "size": problem.start.size,
                "solver": solver,
                "start": start["slope"],
            } | end
            found.append(record)
            with path.open("a") as file:
                file.write(json.dumps(record) + "\n")
        jax.clear_caches()
    return found


def report(records: list[dict[str, Any]]) -> str:
    """Return how much each solver solves, and its failures with their words."""
    best: dict[str, float] = {}
    for r in records:
        best[r["problem"]] = min(best.get(r["problem"], np.inf), np.nan_to_num(r["value"], nan=np.inf))
    solved = [r for r in records if _solved(r, best[r["problem"]])]
    least: dict[str, int] = {}
    for r in solved:
        least[r["problem"]] = min(least.get(r["problem"], r["work"]), r["work"])
    lines = [f"{len(best)} problems, {len(least)} of them solved by at least one", "solver         solved   least work"]
    for solver in dict.fromkeys(r["solver"] for r in records):
        mine = [r for r in solved if r["solver"] == solver]
        first = sum(r["work"] == least[r["problem"]] for r in mine)
        lines.append(f"{solver:14} {len(mine):4} {len(mine) / len(best):5.0%} {first / len(best):8.0%}")
    lines.append("\nNot solved by ours: gap to the best value, gradient, iterations, what the run says")
    for r in records:
        if r["solver"] in OURS and r not in solved:
            gap = r["value"] - best[r["problem"]]
            lines.append(
                f"{r['solver']:12} {r['problem']:10} {r['size']:3} {gap:9.1e} {r['slope']:9.1e} {r['iterations']:4} "
                f"{r['words']}"
            )
    return "\n".join(lines)


def _solved(record: dict[str, Any], best: float) -> bool:
    near = record["value"] - best <= TOLERANCE * (1 + abs(best))
    return near and record["slope"] <= TOLERANCE * (1 + record["start"])


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_disable_most_optimizations", True)  # each program runs for milliseconds
    print(report(measure(Path(sys.argv[1]), sys.argv[2:] or [*OURS, *PEERS])))

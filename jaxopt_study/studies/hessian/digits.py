"""What does a Hessian cost, by each route, in each framework, and how does the cost grow?

Every route is proved equal first. On digits, where routes are measured in turn, to the closed form; on the networks of
the cost curves, where each case has a process of its own, to central differences of the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from shutil import which
from typing import Any

import numpy as np
import psutil

from jaxopt_study.data import problem as problems
from jaxopt_study.bench import stats
from jaxopt_study.backends.numpy import closed_form
from jaxopt_study.backends.numpy import derivatives as baseline
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.finding import Finding
from jaxopt_study.data.problem import Problem
from jaxopt_study.bench.record import Record
from jaxopt_study.report.figure import Figure
from jaxopt_study.report.table import Table
from jaxopt_study.bench.task import Skipped, Task, TooLarge, Value, single
from jaxopt_study.data.workload import Workload, enumerate_params
from jaxopt_study.studies.hessian.digits import curves, routes
from jaxopt_study.studies.hessian.digits import report as report
from jaxopt_study.studies.hessian.routes import BY_NAME, PARTS, ROUTES, Route
from jaxopt_study.studies.tolerances import HESSIAN, PRODUCTS

QUESTION = "Hessian: what does it cost, by each route, and how does that grow?"

DIGITS = problems.name_of((64, 10), 898)
DIRECTIONS = 3
PROBES = 4

# In the main job: the frameworks' own way, the notebook's, the block way, and the formula.
OVERVIEW = ("hessian_forward_over_reverse", "hessian_double_backward", "hessian_blocked", "hessian_closed_form")

LONG = ("hessian_compiled", "hessian_forward_over_forward")
"""Routes that take ten seconds or more on digits, to compile or to run: `full` alone has them."""

COMPILERS = ("g++", "clang++", "c++")

MEMORY_SHARE = 0.8
"""A route may take this part of the memory that is free."""


def groups(plan: Plan) -> list[Group]:
    """Return the routes on digits, measured in turn, and the curves, each case in a process of its own."""
    if plan.overview:
        chosen = [route for route in ROUTES if route.method in OVERVIEW]
    else:
        chosen = [route for route in (*ROUTES, *PARTS) if plan.profile == "full" or route.method not in LONG]
    on_digits = [
        Group(_cases([route for route in chosen if not route.slow], DIGITS, plan), max(1, plan.repeats // 3)),
        # Of slow routes one call is enough, where it does not compile.
        Group(_cases([route for route in chosen if route.slow], DIGITS, plan), int(plan.profile == "full")),
    ]
    return [group for group in on_digits if group.cases] + ([] if plan.overview else _curve_groups(plan))


def task(backend: Any, case: Case, workload: Workload, plan: Plan) -> Task:
    """Return one route on one problem, at its initial parameters; its value is brought to the project's order."""
    problem, route = problems.make(case.subject, workload, plan.seed), BY_NAME[case.method]
    if case.method == "hessian_compiled" and plan.device == "cpu" and not any(map(which, COMPILERS)):
        raise Skipped(f"torch.compile needs a C++ compiler, and there is none of {', '.join(COMPILERS)}")
    batch = tuple(backend.runtime.from_numpy(array) for array in problem.batch)
    params = backend.runtime.params_from_numpy(problem.params)
    compute = routes.make(backend, route, problem)
    places = routes.places(backend, problem.params)
    rest = _arguments(backend, route, problem)

    @cache
    def temporary() -> int | None:
        return backend.runtime.temporary_memory(compute, params, batch) if route.result == "matrix" else None

    _refuse_too_large(case, problem, plan, temporary)
    if case.subject != DIGITS and curves.repeats(case.subject, case.method, plan) == 0:
        temporary()  # which compiles: a lone call's time is the run's

    def export(output: Any) -> Value:
        if route.result in ("gradient", "product"):
            output = backend.runtime.ravel(output)
        array = backend.runtime.to_numpy(output)
        if route.result == "products":
            return {"vector": array.ravel()}
        if array.ndim == 1:
            return {"vector": array[places]}
        known = {} if temporary() is None else {"temporary_bytes": np.array(temporary())}
        return {**_project(array, places, problem), **known}

    return single(lambda: backend.runtime.wait(compute(params, batch, *rest)), export)


def summarize(case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
    """Keep the distances to the references: a matrix is too large for a record."""
    problem, route = problems.make(case.subject, workload, plan.seed), BY_NAME[case.method]
    kept: dict[str, Any] = {"parameters": problem.size, "rows": len(problem.batch[0]), "depth": len(problem.widths) - 1}
    kept["estimated_bytes"] = routes.estimate_bytes(route, case.framework, problem, np.dtype(plan.dtype).itemsize)
    if "temporary_bytes" in value:
        kept["temporary_bytes"] = int(value["temporary_bytes"])
    if "vector" in value:
        return kept | {"residual": stats.residual(value["vector"], _reference_vector(route, problem))}
    expected = np.stack(
        [baseline.hessian_product_by_differences(problem.params, problem.batch, v) for v in _directions(problem)],
        axis=1,
    )
    kept |= {"products_residual": stats.residual(value["products"], expected), "asymmetry": float(value["asymmetry"])}
    if "matrix" in value:
        reference = closed_form.hessian_closed_form(problem.params, problem.batch)
        kept["residual"] = stats.residual(value["matrix"], reference)
    return kept


def skip(case: Case, records: Sequence[Record], plan: Plan) -> str | None:
    """Say why a case of a curve need not be tried: it would take too long."""
    return None if case.subject == DIGITS else curves.skip(case, records, plan)


def findings(records: Sequence[Record], plan: Plan) -> list[Finding]:
    """Hold each case to its references."""
    return [_finding(record, plan) for record in records if record.ok]


def rows(records: Sequence[Record], plan: Plan) -> list[dict[str, Any]]:
    """Return one row for each case."""
    agrees = {finding.subject: finding.agrees for finding in findings(records, plan)}
    return report.rows(records, {case for case, good in agrees.items() if good}, DIGITS)


def tables(rows: Sequence[Mapping[str, Any]], plan: Plan) -> list[Table]:
    """Return the routes on digits with their ratios, and the curves with what was fitted to them."""
    found = report.tables([r for r in rows if r["problem"] == DIGITS], DIGITS, plan)
    drawn = [r for r in rows if r["problem"] != DIGITS]
    return found + ([report.cases(drawn, plan), *curves.tables(drawn, plan)] if drawn else [])


def figures(records: Sequence[Record], plan: Plan) -> list[Figure]:
    """Return the routes' times on digits, and time and memory against the number of parameters."""
    good = {finding.subject for finding in findings(records, plan) if finding.agrees}
    sound = [r for r in records if r.ok and r.case.key in good]
    return report.figures([r for r in sound if r.subject == DIGITS], plan) + curves.figures(sound, plan)


def verdict(rows: Sequence[Mapping[str, Any]], plan: Plan) -> str:
    """Say how the frameworks' best routes by automatic differentiation compare, and what blocks save."""
    return report.verdict([r for r in rows if r["problem"] == DIGITS and r["agrees"]], plan)


def _curve_groups(plan: Plan) -> list[Group]:
    return [
        Group(_cases([BY_NAME[method]], problem, plan), curves.repeats(problem, method, plan), fresh=True)
        for problem, methods in curves.problems_and_routes(plan).items()
        for method in methods
    ]


def _cases(chosen: Sequence[Route], subject: str, plan: Plan) -> tuple[Case, ...]:
    frameworks = (*plan.frameworks, "numpy")
    return tuple(
        Case("hessian", subject, framework, route.method)
        for framework in frameworks
        for route in chosen
        if framework in route.frameworks
    )


def _refuse_too_large(case: Case, problem: Problem, plan: Plan, temporary: Callable[[], int | None]) -> None:
    """Refuse what would not fit. The formula is quick and errs upwards; where it says no, the compiler is asked."""
    itemsize, limit = np.dtype(plan.dtype).itemsize, MEMORY_SHARE * psutil.virtual_memory().available
    needed = routes.estimate_bytes(BY_NAME[case.method], case.framework, problem, itemsize)
    if needed > limit and (known := temporary()) is not None:
        needed = known + itemsize * problem.size**2
    if plan.device == "cpu" and needed > limit:
        raise TooLarge(f"estimated {needed / 2**30:.1f} GiB, the limit is {limit / 2**30:.1f} GiB")


def _directions(problem: Problem) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((DIRECTIONS, problem.size))


def _vectors(route: Route, problem: Problem) -> np.ndarray | None:
    """Return what the route is called with, in the project's order: a vector, probes of random signs, or nothing."""
    if route.result == "product":
        return _directions(problem)[0]
    if route.result == "probed diagonal":
        return np.random.default_rng(2).choice([-1.0, 1.0], (PROBES, problem.size))
    return None


def _arguments(backend: Any, route: Route, problem: Problem) -> tuple[Any, ...]:
    """Return what the route is called with beside parameters and batch, as the backend takes it."""
    if route.result == "products":
        return tuple(
            backend.runtime.from_numpy(array) for array in closed_form.rows_and_weights(problem.params, problem.batch)
        )
    vectors = _vectors(route, problem)
    return () if vectors is None else (_argument(backend, route, problem, vectors),)


def _argument(backend: Any, route: Route, problem: Problem, vectors: np.ndarray) -> Any:
    """Return `vectors` as the backend takes them: a tree like the parameters, or rows in its own order."""
    places = enumerate_params(problem.params)
    if route.result == "product":
        tree = {k: {n: vectors[leaf.astype(int)] for n, leaf in leaves.items()} for k, leaves in places.items()}
        return backend.runtime.params_from_numpy(tree)
    mine = np.empty_like(vectors)
    mine[:, routes.places(backend, problem.params)] = vectors
    return backend.runtime.from_numpy(mine)


def _project(matrix: np.ndarray, places: np.ndarray, problem: Problem) -> Value:
    """Return the matrix times the directions, how far it is from its transpose, and itself if it has a closed form."""
    directions = np.empty((problem.size, DIRECTIONS))
    directions[places] = _directions(problem).T
    value = {
        "products": (matrix @ directions.astype(matrix.dtype))[places],
        "asymmetry": np.array(_asymmetry(matrix)),
    }
    if len(problem.widths) == 2:
        value["matrix"] = matrix[np.ix_(places, places)]
    return value


def _asymmetry(matrix: np.ndarray) -> float:
    """Return the largest |H - H'|, relative to the largest |H|, without a second matrix, which would count as peak."""
    apart = [np.abs(matrix[i : i + 256] - matrix[:, i : i + 256].T).max() for i in range(0, len(matrix), 256)]
    return float(max(apart) / np.maximum(matrix.max(), -matrix.min()))


def _reference_vector(route: Route, problem: Problem) -> np.ndarray:
    if route.result == "gradient":
        return baseline.gradient_network(problem.params, problem.batch)
    if route.result == "products":
        rows, weights = closed_form.rows_and_weights(problem.params, problem.batch)
        return np.einsum("ni,pn,nj->pij", rows, weights, rows, optimize=True).ravel()
    matrix = closed_form.hessian_closed_form(problem.params, problem.batch)
    vectors = _vectors(route, problem)
    if vectors is None:
        return np.diag(matrix)
    return matrix @ vectors if vectors.ndim == 1 else np.mean([z * (matrix @ z) for z in vectors], axis=0)


def _finding(record: Record, plan: Plan) -> Finding:
    measured = {
        name: record.value[name] for name in ("residual", "products_residual", "asymmetry") if name in record.value
    }
    bounds = {name: (PRODUCTS if name == "products_residual" else HESSIAN)[plan.dtype].bound for name in measured}
    words = ", ".join(
        f"{name.replace('_', ' ')} {value:.1e} (at most {bounds[name]:.0e})" for name, value in measured.items()
    )
    return Finding(record.case.key, all(value <= bounds[name] for name, value in measured.items()), words)

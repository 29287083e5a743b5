"""A method on a problem: its task, and the comparison of its value. Two experiments are made of it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from shutil import which
from typing import Any

import numpy as np
import psutil

from jaxopt_study.backends import Backend
from jaxopt_study.backends.numpy import closed_form
from jaxopt_study.bench import ratio, stats
from jaxopt_study.bench.case import Case, Plan
from jaxopt_study.bench.finding import Finding, compare
from jaxopt_study.bench.ratio import Ratio
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.results import Results
from jaxopt_study.bench.task import Skipped, Task, TooLarge, Value, single
from jaxopt_study.data.problem import Problem
from jaxopt_study.data.workload import Workload, enumerate_params
from jaxopt_study.studies.experiment import Experiment
from jaxopt_study.studies.hessian import references
from jaxopt_study.studies.hessian.methods import METHODS, Method, estimate_bytes, make, places
from jaxopt_study.studies.hessian.rows import row_of
from jaxopt_study.studies.tolerances import HESSIAN, PRODUCTS

COMPILERS = ("g++", "clang++", "c++")

MEMORY_SHARE = 0.8
"""A method may take this part of the memory that is free."""

COMPARED = {
    "residual": ("value, with the reference in float64, relative", HESSIAN),
    "products_residual": (
        f"{references.DIRECTIONS} products H v, with differences of the gradient, relative",
        PRODUCTS,
    ),
    "asymmetry": ("H, with its transpose, relative", HESSIAN),
}
"""What a record keeps -> what was compared, and the bounds by dtype."""


class HessianExperiment(Experiment):
    """An experiment whose cases are each one method on one problem."""

    study = "hessian"

    @abstractmethod
    def problem(self, case: Case, workload: Workload, plan: Plan) -> Problem:
        """Return what the case differentiates.

        Raises:
            Skipped: The workload has no such problem.
        """

    def compiles_first(self, case: Case, plan: Plan) -> bool:
        """Say whether the case is compiled before its first call, which is then all that is timed."""
        return False

    def cases(self, methods: Sequence[Method], subject: str, plan: Plan) -> tuple[Case, ...]:
        """Return the cases of these methods in the plan's frameworks, and in NumPy where it has them."""
        frameworks = (*plan.frameworks, "numpy")
        return tuple(
            self.case(subject, f, method.name) for f in frameworks for method in methods if f in method.frameworks
        )

    def task(self, backend: Backend, case: Case, workload: Workload, plan: Plan) -> Task:
        """Return the method on the problem's initial parameters; its value is brought to the project's order."""
        problem, method = self.problem(case, workload, plan), METHODS[case.method]
        if method.compiler and plan.device == "cpu" and not any(map(which, COMPILERS)):
            raise Skipped(f"torch.compile needs a C++ compiler, and there is none of {', '.join(COMPILERS)}")
        batch = tuple(backend.runtime.from_numpy(array) for array in problem.batch)
        params = backend.runtime.params_from_numpy(problem.params)
        compute, place = make(backend, method, problem), places(backend, problem.params)
        rest = _arguments(backend, method, problem)

        @cache
        def temporary() -> int | None:
            return backend.runtime.temporary_memory(compute, params, batch) if method.result == "matrix" else None

        _refuse_too_large(case, problem, plan, temporary)
        if self.compiles_first(case, plan):
            temporary()  # which compiles

        def export(output: Any) -> Value:
            if method.result in ("gradient", "product"):
                output = backend.runtime.ravel(output)
            array = backend.runtime.to_numpy(output)
            if method.result == "products":
                return {"vector": array.ravel()}
            if array.ndim == 1:
                return {"vector": array[place]}
            known = {} if temporary() is None else {"temporary_bytes": np.array(temporary())}
            return references.project(array, place, problem) | known

        return single(lambda: backend.runtime.wait(compute(params, batch, *rest)), export)

    def summarize(self, case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
        """Keep the distances from the references: a matrix is too large for a record."""
        problem, method = self.problem(case, workload, plan), METHODS[case.method]
        kept: dict[str, Any] = {
            "parameters": problem.size,
            "rows": len(problem.batch[0]),
            "depth": len(problem.widths) - 1,
            "random": problem.random,
            "estimated_bytes": estimate_bytes(method, case.framework, problem, np.dtype(plan.dtype).itemsize),
        }
        if "temporary_bytes" in value:
            kept["temporary_bytes"] = int(value["temporary_bytes"])
        if "vector" in value:
            return kept | {"residual": stats.residual(value["vector"], references.vector(method, problem))}
        kept["products_residual"] = stats.residual(value["products"], references.products(problem))
        kept["asymmetry"] = float(value["asymmetry"])
        if "matrix" in value:
            kept["residual"] = stats.residual(value["matrix"], references.hessian(problem))
        return kept

    def findings(self, records: Sequence[Record], plan: Plan) -> list[Finding]:
        """Compare each case with its references."""
        return [
            compare(what, [r.case], r.value[name], bounds[plan.dtype].bound)
            for r in records
            if r.ok
            for name, (what, bounds) in COMPARED.items()
            if name in r.value
        ]

    def row(self, record: Record, results: Results) -> dict[str, Any]:
        """Return what a record says, with its time in gradients."""
        row = row_of(record, results) | dict(record.value) | {"in_gradients": self.in_gradients(record, results)}
        return {"residual": row.get("products_residual")} | row

    def in_gradients(self, record: Record, results: Results) -> Ratio | None:
        """Return the time in gradients of the same framework on the same problem; of medians if in other rounds."""
        wanted = self.case(record.subject, record.framework, "gradient")
        gradient = next((r for r in self.records(results) if r.case == wanted), None)
        if gradient is None or not (results.shows(record) and results.shows(gradient)):
            return None
        same_rounds = record.group == gradient.group
        return results.ratio(record, gradient) if same_rounds else ratio.of_medians(record, gradient)


def _refuse_too_large(case: Case, problem: Problem, plan: Plan, temporary: Callable[[], int | None]) -> None:
    """Refuse what would not fit. The formula is quick and errs upwards; where it says no, the compiler is asked."""
    itemsize, limit = np.dtype(plan.dtype).itemsize, MEMORY_SHARE * psutil.virtual_memory().available
    needed = estimate_bytes(METHODS[case.method], case.framework, problem, itemsize)
    if needed > limit and (known := temporary()) is not None:
        needed = known + itemsize * problem.size**2
    if plan.device == "cpu" and needed > limit:
        raise TooLarge(f"estimated {needed / 2**30:.1f} GiB, the limit is {limit / 2**30:.1f} GiB")


def _arguments(backend: Backend, method: Method, problem: Problem) -> tuple[Any, ...]:
    """Return what the method is called with beside parameters and batch, as the backend takes it.

    A vector is a tree like the parameters; probes are rows in the backend's own order.
    """
    if method.result == "products":
        rows_and_weights = closed_form.rows_and_weights(problem.params, problem.batch)
        return tuple(backend.runtime.from_numpy(array) for array in rows_and_weights)
    vectors = references.vectors(method, problem)
    if vectors is None:
        return ()
    if method.result == "product":
        numbered = enumerate_params(problem.params)
        tree = {k: {n: vectors[leaf.astype(int)] for n, leaf in leaves.items()} for k, leaves in numbered.items()}
        return (backend.runtime.params_from_numpy(tree),)
    mine = np.empty_like(vectors)
    mine[:, places(backend, problem.params)] = vectors
    return (backend.runtime.from_numpy(mine),)

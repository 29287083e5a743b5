"""A sparse Hessian beside the dense ones: a chain of variables, each of which meets its neighbours alone.

The function is Rosenbrock's, chained: sum of 100 (x[i+1] - x[i]^2)^2 + (1 - x[i])^2. Its Hessian is tridiagonal, and
known by formula.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxopt_study.backends import Backend
from jaxopt_study.bench import stats
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.finding import Finding, compare
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.results import Results
from jaxopt_study.bench.task import Skipped, Task, Value, single
from jaxopt_study.data.workload import Array, Workload
from jaxopt_study.report import table as text
from jaxopt_study.report.table import ABSENT, Table
from jaxopt_study.studies.experiment import Experiment, Row, Rows
from jaxopt_study.studies.hessian.methods import METHODS, OWN
from jaxopt_study.studies.hessian.rows import COLUMNS, MAIN_COLUMNS, cells, label, reasons, row_of
from jaxopt_study.studies.tolerances import HESSIAN

SPARSE = "hessian_sparse"
DENSE = (OWN, "hessian_blocked")
VARIABLES = {"smoke": (100,), "default": (100, 300, 1000), "full": (100, 300, 1000, 3000)}


def chain(x: Any, batch: Any) -> Any:
    """Return the chained function, in arithmetic that NumPy, JAX and PyTorch share."""
    del batch  # it has none
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum(0)


def start(variables: int) -> Array:
    """Return where the Hessian is taken."""
    return np.linspace(-1.2, 1.0, variables)


def chain_hessian(x: Array) -> Array:
    """Return the Hessian by formula."""
    beside = -400 * x[:-1]
    middle = np.append(1200 * x[:-1] ** 2 - 400 * x[1:] + 2, 0.0) + np.insert(np.full(len(x) - 1, 200.0), 0, 0.0)
    return np.diag(middle) + np.diag(beside, 1) + np.diag(beside, -1)


class Sparse(Experiment):
    """A banded problem that grows, by dense methods and by one that knows where the zeros are."""

    study, name = "hessian", "sparse"

    def groups(self, plan: Plan) -> list[Group]:
        """Return a group for each number of variables, with all methods in the same rounds; none in the main job."""
        if plan.overview:
            return []
        return [
            Group(
                tuple(self.case(f"chain of {n}", f, m) for f in plan.frameworks for m in (*DENSE, SPARSE)),
                max(1, plan.repeats // 6),
            )
            for n in VARIABLES[plan.profile]
        ]

    def task(self, backend: Backend, case: Case, workload: Workload, plan: Plan) -> Task:
        """Return the method at the start.

        Raises:
            Skipped: The framework has no sparse method.
        """
        x = start(int(case.subject.split()[-1]))
        module = getattr(backend, "sparse" if case.method == SPARSE else METHODS[case.method].module, None)
        if module is None:
            raise Skipped("asdex colours the Hessians of JAX's functions alone")
        compute: Callable[..., Any] = getattr(module, case.method)(chain)
        params = backend.runtime.from_numpy(x)

        def export(output: Any) -> Value:
            known = {"products": np.array(compute.colours(params, None))} if case.method == SPARSE else {}  # type: ignore[attr-defined]
            dense = output.todense() if case.method == SPARSE else output
            return {"matrix": backend.runtime.to_numpy(dense), **known}

        return single(lambda: backend.runtime.wait(compute(params, None)), export)

    def summarize(self, case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
        """Keep the distance from the formula, and how many products were made."""
        matrix = value["matrix"]
        residual = stats.residual(matrix, chain_hessian(start(len(matrix))))
        return {"residual": residual, "products": int(value.get("products", len(matrix)))}

    def findings(self, records: Sequence[Record], plan: Plan) -> list[Finding]:
        """Compare each matrix with the formula."""
        words, bound = "all entries, with the formula's, relative", HESSIAN[plan.dtype].bound
        return [compare(words, [r.case], r.value["residual"], bound) for r in records if r.ok]

    def rows(self, results: Results, plan: Plan) -> Rows:
        """Return one row for each case, with the time of the framework's own Hessian divided by its own."""
        records = self.records(results)
        own = {(r.subject, r.framework): r for r in records if r.method == OWN}
        return [
            row_of(r, results) | dict(r.value) | {"own_over_this": results.ratio(own.get((r.subject, r.framework)), r)}
            for r in records
        ]

    def tables(self, rows: Sequence[Row], plan: Plan) -> list[Table]:
        """Return the methods at each number of variables."""
        lines = [
            (
                r["problem"],
                label(r),
                *cells(r),
                str(r.get("products", ABSENT)),
                text.ratio(r["own_over_this"]) if r["method"] != OWN else ABSENT,
            )
            for r in rows
        ]
        notes = (
            "Residual: largest difference from the formula in float64, relative to its largest entry. First call: of a "
            "sparse Hessian, with the search for its zeros and their colouring.",
            "Products: Hessian-vector products. A sparse Hessian takes one for each colour.",
            *text.flags(r["own_over_this"] for r in rows),
        )
        columns = ("problem", "method", *COLUMNS, "products", "own / this [95 %]")
        title = f"A tridiagonal Hessian: the chained Rosenbrock function, {plan.dtype}"
        main = ("method", *MAIN_COLUMNS)
        return [Table(title, columns, lines, notes, ("method",), main, tuple(reasons(rows)))]

    def verdict(self, rows: Sequence[Row], plan: Plan) -> str:
        """Say what the sparse Hessian saves at the largest number of variables."""
        found = [r for r in rows if r["method"] == SPARSE and r["own_over_this"]]
        if not found:
            return ""
        r = found[-1]
        return (
            f"the sparse Hessian of a {r['problem']} variables takes {r['products']} products and "
            f"{text.seconds(r['seconds'])}; jax.hessian takes {text.ratio(r['own_over_this'])} times as long"
        )

"""The notebook's f(a, b) = a^2 b at (2, 3): its first and second derivatives, in both frameworks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxopt_study.backends import Backend
from jaxopt_study.bench import stats
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.finding import Finding, compare
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.results import Results
from jaxopt_study.bench.task import Task, Value, single
from jaxopt_study.data.workload import Workload
from jaxopt_study.report import table as text
from jaxopt_study.report.table import ABSENT, Table
from jaxopt_study.studies.experiment import Experiment, Row, Rows, Study, facts

POINT = {"a": 2.0, "b": 3.0}

# 2ab, a^2; 2b, 2a, 2a, 0. All are small integers, so every framework must give them to the last bit.
EXPECTED = {"df/da": 12.0, "df/db": 4.0, "d2f/da2": 6.0, "d2f/dadb": 4.0, "d2f/dbda": 4.0, "d2f/db2": 0.0}

METHODS = {
    "jax": ("hessian_forward_over_reverse",),
    "torch": ("hessian_forward_over_reverse", "hessian_double_backward"),
}


def toy(params: Mapping[str, Any], batch: Any) -> Any:
    """Return f(a, b) = a^2 b; it has no batch."""
    del batch
    return params["a"] ** 2 * params["b"]


class Derivatives(Experiment):
    """Every method for the Hessian, in every framework, compared with derivatives worked out by hand."""

    study = name = "derivatives"

    def groups(self, plan: Plan) -> list[Group]:
        """Return one group."""
        cases = [self.case("a^2 b", f, method) for f in plan.frameworks for method in METHODS[f]]
        return [Group(tuple(cases), 1 if plan.overview else plan.repeats)]

    def task(self, backend: Backend, case: Case, workload: Workload, plan: Plan) -> Task:
        """Return the gradient and the Hessian of the toy."""
        gradient, hessian = backend.derivatives.gradient(toy), getattr(backend.derivatives, case.method)(toy)
        params = {name: backend.runtime.from_numpy(np.array(value)) for name, value in POINT.items()}

        def differentiate() -> Any:
            return backend.runtime.wait((gradient(params, None), hessian(params, None)))

        def export(output: Any) -> Value:
            slopes, matrix = output
            return {
                "gradient": np.array([backend.runtime.to_numpy(slopes[name]) for name in POINT]),
                "hessian": backend.runtime.to_numpy(matrix),
            }

        return single(differentiate, export)

    def summarize(self, case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
        """Keep all six derivatives by name."""
        numbers = [*value["gradient"].tolist(), *value["hessian"].ravel().tolist()]
        return dict(zip(EXPECTED, numbers, strict=True))

    def findings(self, records: Sequence[Record], plan: Plan) -> list[Finding]:
        """Compare each method with the derivatives worked out by hand."""
        return [compare("all derivatives, with those by hand", [r.case], _distance(r), 0) for r in records if r.ok]

    def rows(self, results: Results, plan: Plan) -> Rows:
        """Return one row for each method."""
        return [_row(r, results) for r in self.records(results)]

    def tables(self, rows: Sequence[Row], plan: Plan) -> list[Table]:
        """Return the six derivatives by each method."""
        by_hand = ("by hand", *(f"{value:g}" for value in EXPECTED.values()), ABSENT)
        columns = ("method", *(name.replace("df/", "").replace("d2f/", "") for name in EXPECTED), "time")
        title = "Derivatives of f(a, b) = a² b at (2, 3): df/da, df/db, d2f/da2, ...; time of gradient and Hessian"
        return [Table(title, columns, [by_hand, *map(_line, rows)], main=("time",))]


DERIVATIVES = Study(
    "Derivatives: do the frameworks differentiate the notebook's toy alike?",
    (Derivatives(),),
    "Derivatives of a small function by each framework are compared with those by formula.",
)


def _distance(record: Record) -> float:
    """Return the largest difference from the derivatives by hand; infinite where one is missing."""
    return stats.absolute_distance([record.value[name] for name in EXPECTED], list(EXPECTED.values()))


def _row(record: Record, results: Results) -> dict[str, Any]:
    shown = results.shows(record)
    return {
        **facts(record, results),
        "seconds": record.seconds if shown else None,
        "first_seconds": record.first_seconds if shown else None,
        **record.value,
    }


def _line(row: Row) -> tuple[str, ...]:
    name = f"{row['framework']} {row['method'].removeprefix('hessian_')}"
    if row["status"] != "ok":
        return (name, row["status"], row["reason"], *[ABSENT] * 5)
    time = text.seconds(row["seconds"]) if row["agrees"] else "withheld: WRONG"
    return (name, *(f"{row[key]:g}" for key in EXPECTED), time)

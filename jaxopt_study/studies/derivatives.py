"""The notebook's f(a, b) = a^2 b at (2, 3): its first and second derivatives, in both frameworks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.finding import Finding
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.report import table as text
from jaxopt_study.bench.report.figure import Figure
from jaxopt_study.bench.report.table import Table
from jaxopt_study.bench.task import Task, Value, single
from jaxopt_study.bench.workload import Workload

QUESTION = "Derivatives: do the frameworks differentiate the notebook's toy alike?"

POINT = {"a": 2.0, "b": 3.0}

# 2ab, a^2; 2b, 2a, 2a, 0. All are small integers, so every framework must give them to the last bit.
EXPECTED = {"df/da": 12.0, "df/db": 4.0, "d2f/da2": 6.0, "d2f/dadb": 4.0, "d2f/dbda": 4.0, "d2f/db2": 0.0}

HESSIANS = {
    "jax": ("hessian_forward_over_reverse",),
    "torch": ("hessian_forward_over_reverse", "hessian_double_backward"),
}


def toy(params: Mapping[str, Any], batch: Any) -> Any:
    """Return f(a, b) = a^2 b; it has no batch."""
    del batch
    return params["a"] ** 2 * params["b"]


def groups(plan: Plan) -> list[Group]:
    """Return one group: every way to the Hessian, in every framework."""
    cases = [Case("derivatives", "a^2 b", f, method) for f in plan.frameworks for method in HESSIANS[f]]
    return [Group(tuple(cases), plan.repeats)]


def task(wing: Any, case: Case, workload: Workload, plan: Plan) -> Task:
    """Return the gradient and the Hessian of the toy."""
    del workload, plan
    gradient, hessian = wing.derivatives.gradient(toy), getattr(wing.derivatives, case.method)(toy)
    params = {name: wing.runtime.from_numpy(np.array(value)) for name, value in POINT.items()}

    def differentiate() -> Any:
        return wing.runtime.block((gradient(params, None), hessian(params, None)))

    def export(output: Any) -> Value:
        slopes, matrix = output
        return {
            "gradient": np.array([wing.runtime.to_numpy(slopes[name]) for name in POINT]),
            "hessian": wing.runtime.to_numpy(matrix),
        }

    return single(differentiate, export)


def condense(case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
    """Keep all six derivatives by name."""
    del case, workload, plan
    numbers = [*value["gradient"].tolist(), *value["hessian"].ravel().tolist()]
    return dict(zip(EXPECTED, numbers, strict=True))


def findings(records: Sequence[Record], plan: Plan) -> list[Finding]:
    """Hold each way to the derivatives worked out by hand."""
    del plan
    return [
        Finding(f"{r.framework} {r.method}", dict(r.value) == EXPECTED, f"{dict(r.value)}, by hand {EXPECTED}")
        for r in records
        if r.ok
    ]


def rows(records: Sequence[Record], plan: Plan) -> list[dict[str, Any]]:
    """Return one row for each way."""
    agrees = {finding.subject: finding.agrees for finding in findings(records, plan)}
    return [
        {
            "framework": r.framework,
            "method": r.method,
            "status": r.status,
            "reason": r.reason,
            "agrees": agrees.get(f"{r.framework} {r.method}"),
            "seconds": float(np.median(r.step_seconds)) if r.ok else None,
            "first_seconds": r.first_seconds,
            **r.value,
        }
        for r in records
    ]


def tables(rows: Sequence[Mapping[str, Any]], plan: Plan) -> list[Table]:
    """Return the six derivatives of each way."""
    del plan
    lines = [("by hand", *(f"{value:g}" for value in EXPECTED.values()), text.ABSENT)]
    for row in rows:
        name = f"{row['framework']} {row['method'].removeprefix('hessian_')}"
        if row["status"] != "ok":
            lines.append((name, row["status"], row["reason"], *[text.ABSENT] * 5))
            continue
        time = text.seconds(row["seconds"]) if row["agrees"] else "struck out: WRONG"
        lines.append((name, *(f"{row[key]:g}" for key in EXPECTED), time))
    return [
        Table(
            "Derivatives of f(a, b) = a² b at (2, 3): df/da, df/db, d2f/da2, ...; time of the gradient and the Hessian",
            ("way", *(name.replace("df/", "").replace("d2f/", "") for name in EXPECTED), "time"),
            lines,
        )
    ]


def figures(records: Sequence[Record], plan: Plan) -> list[Figure]:
    """There is none: the table says it."""
    del records, plan
    return []


def verdict(rows: Sequence[Mapping[str, Any]], plan: Plan) -> str:
    """There is none: the finding says it."""
    del rows, plan
    return ""

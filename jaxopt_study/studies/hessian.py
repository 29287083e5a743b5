"""The dense Hessian of the digits loss, by each route: proved equal, then timed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxopt_study.bench import stats
from jaxopt_study.bench.baseline import derivatives as closed_form
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.finding import Finding
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.report import table as text
from jaxopt_study.bench.report.figure import Figure
from jaxopt_study.bench.report.table import Table
from jaxopt_study.bench.task import Task, Value, single
from jaxopt_study.bench.workload import Workload, enumerate_params
from jaxopt_study.studies.tolerances import HESSIAN

QUESTION = "Hessian: what does the dense Hessian of the digits loss cost, by each route?"

ROUTES = {
    "jax": ("hessian_forward_over_reverse",),
    "torch": ("hessian_forward_over_reverse", "hessian_double_backward"),
    "numpy": ("hessian_closed_form",),
}

CLOSED_FORMS = ("hessian_closed_form",)


def groups(plan: Plan) -> list[Group]:
    """Return one group: every route of every framework, and the closed form in NumPy."""
    cases = [
        Case("hessian", plan.workload, framework, method)
        for framework in (*plan.frameworks, "numpy")
        for method in ROUTES[framework]
    ]
    return [Group(tuple(cases), plan.repeats // 3 + 1)]  # the slowest route takes most of a second


def task(wing: Any, case: Case, workload: Workload, plan: Plan) -> Task:
    """Return the Hessian of the mean loss of all training rows, at the initial parameters."""
    del plan
    batch = tuple(wing.runtime.from_numpy(array) for array in workload.train)
    params = wing.runtime.params_from_numpy(workload.params)
    route = getattr(wing.derivatives, case.method)
    # A closed form is a function of the parameters as it is; the other routes make one of any loss.
    hessian = route if case.method in CLOSED_FORMS else route(_loss(wing, workload))
    places = _places(wing, workload)

    def export(matrix: Any) -> Value:
        return {"hessian": wing.runtime.to_numpy(matrix)[np.ix_(places, places)]}

    return single(lambda: wing.runtime.block(hessian(params, batch)), export)


def condense(case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
    """Keep the distances to the closed form in float64 and to the transpose: a matrix is too large for a record."""
    del case, plan
    matrix = value["hessian"].astype(float)
    reference = closed_form.hessian_closed_form(workload.params, workload.train)
    return {
        "residual": stats.residual(matrix, reference),
        "asymmetry": stats.residual(matrix, matrix.T),
        "parameters": len(matrix),
        "training_rows": len(workload.train[0]),
    }


def findings(records: Sequence[Record], plan: Plan) -> list[Finding]:
    """Hold each route to the closed form in float64."""
    bound = HESSIAN[plan.dtype].bound
    return [
        Finding(
            f"{r.framework} {r.method}",
            bool(r.value["residual"] <= bound and r.value["asymmetry"] <= bound),
            f"residual {r.value['residual']:.1e}, asymmetry {r.value['asymmetry']:.1e} (each at most {bound:.0e})",
        )
        for r in records
        if r.ok
    ]


def rows(records: Sequence[Record], plan: Plan) -> list[dict[str, Any]]:
    """Return one row for each route."""
    agrees = {finding.subject: finding.agrees for finding in findings(records, plan)}
    fastest = min((float(np.median(r.step_seconds)) for r in records if r.ok), default=float("nan"))
    return [
        {
            "framework": r.framework,
            "route": r.method,
            "status": r.status,
            "reason": r.reason,
            "agrees": agrees.get(f"{r.framework} {r.method}"),
            **r.value,
            **(_times(r, fastest) if r.ok else {}),
        }
        for r in records
    ]


def tables(rows: Sequence[Mapping[str, Any]], plan: Plan) -> list[Table]:
    """Return each route's residual, and its time where the residual is in bounds."""
    lines = []
    for row in rows:
        name = f"{row['framework']} {row['route'].removeprefix('hessian_')}"
        if row["status"] != "ok":
            lines.append((name, row["status"], row["reason"], *[text.ABSENT] * 3))
        elif not row["agrees"]:
            lines.append((name, text.number(row["residual"]), "WRONG", *[text.ABSENT] * 3))
        else:
            lines.append(
                (
                    name,
                    text.number(row["residual"]),
                    text.seconds(row["first_seconds"]),
                    text.seconds(row["seconds"]),
                    text.spread(row["spread"]),
                    f"{row['times_fastest']:.1f}",
                )
            )
    sizes = next(
        (f", {r['parameters']} parameters, {r['training_rows']} rows" for r in rows if r["status"] == "ok"), ""
    )
    return [
        Table(
            f"Dense Hessian of the loss: {plan.workload}{sizes}, {plan.dtype}",
            ("route", "residual", "first", "a Hessian", "spread", "/ fastest"),
            lines,
            ("Residual: largest difference from the closed form in float64, relative to its largest entry.",),
        )
    ]


def figures(records: Sequence[Record], plan: Plan) -> list[Figure]:
    """There is none: the table says it."""
    del records, plan
    return []


def verdict(rows: Sequence[Mapping[str, Any]], plan: Plan) -> str:
    """Say how the frameworks' best routes compare."""
    good = [row for row in rows if row["agrees"]]
    best = {
        framework: min((row for row in good if row["framework"] == framework), key=lambda row: row["seconds"])
        for framework in plan.frameworks
        if any(row["framework"] == framework for row in good)
    }
    if len(best) < 2:
        return ""
    return "a dense Hessian takes " + " and ".join(
        f"{text.seconds(row['seconds'])} in {name} ({row['route'].removeprefix('hessian_').replace('_', ' ')})"
        for name, row in best.items()
    )


def _times(record: Record, fastest: float) -> dict[str, float]:
    seconds = float(np.median(record.step_seconds))
    return {
        "first_seconds": record.first_seconds,
        "seconds": seconds,
        "spread": stats.spread(record.step_seconds),
        "times_fastest": seconds / fastest,
    }


def _loss(wing: Any, workload: Workload) -> Any:
    return wing.models.loss(wing.models.network(workload.widths))


def _places(wing: Any, workload: Workload) -> np.ndarray:
    """Return where, in the wing's own order, each parameter stands, in the project's (`workload.ravel`)."""
    numbered = wing.runtime.params_from_numpy(enumerate_params(workload.params))
    return np.argsort(wing.runtime.to_numpy(wing.runtime.ravel(numbered)))

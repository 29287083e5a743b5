"""A hundred penalized logistic regressions, each with its own penalty: at once by `vmap`, or one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxopt_study.bench import stats
from jaxopt_study.backends.numpy import newton as baseline
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.finding import Finding
from jaxopt_study.bench.record import Record
from jaxopt_study.report import table as text
from jaxopt_study.report.table import ABSENT, Table
from jaxopt_study.bench.task import Task, Value, single
from jaxopt_study.data.workload import breast_cancer_standardized, zero_params
from jaxopt_study.studies.tolerances import REGRESSIONS

SUBJECT = "breast-cancer-standardized"
PENALTIES = np.geomspace(1e-4, 1, 100)
TOLERANCE = {"float64": 1e-9, "float32": 1e-5}
VMAP, LOOP = ("jax", "100 regressions, vmap"), ("numpy", "100 regressions, scikit-learn")


def is_one(case: Case | Record) -> bool:
    """Say whether a case is of the regressions; the race has the same rows for a subject."""
    return (case.framework, case.method) in (VMAP, LOOP)


def groups(plan: Plan) -> list[Group]:
    """Return one group: all at once, and scikit-learn's loop, where JAX takes part."""
    arms = (VMAP, LOOP) if "jax" in plan.frameworks else ()
    cases = tuple(Case("newton", SUBJECT, framework, method) for framework, method in arms)
    return [Group(cases, plan.repeats // 3 + 1)] if cases else []


def task(backend: Any, case: Case, plan: Plan) -> Task:
    """Return all regressions of one arm as one lap, from parameters that are all 0."""
    return (_vmap if (case.framework, case.method) == VMAP else _loop)(backend, plan)


def _vmap(backend: Any, plan: Plan) -> Task:
    workload = breast_cancer_standardized(plan.seed, 1)
    loss = backend.models.penalized(backend.models.logistic_loss(backend.models.network(workload.widths)))
    start = backend.runtime.params_from_numpy(zero_params(workload.widths))
    batch = tuple(backend.runtime.from_numpy(array) for array in workload.train)
    penalties = backend.runtime.from_numpy(PENALTIES)
    minimize = backend.newton.many(
        loss, (None, None, 0), hessian=backend.newton.logistic_hessian, tolerance=TOLERANCE[plan.dtype]
    )

    def export(result: Any) -> Value:
        layers = backend.runtime.params_to_numpy(result.x)
        (layer,) = layers.values()
        points = np.concatenate([layer["bias"], layer["kernel"].reshape(len(PENALTIES), -1)], axis=1)
        return {"points": points.astype(float), "iterations": np.asarray(result.iterations)}

    return single(lambda: backend.runtime.wait(minimize(start, batch, penalties)), export)


def _loop(backend: Any, plan: Plan) -> Task:
    """In float64 whatever the plan, as in the race."""
    rows = breast_cancer_standardized(plan.seed, 1).train

    def run() -> Any:
        tolerance = TOLERANCE["float64"]
        return [backend.newton.scikit_learn(rows, penalty, "newton-cholesky", tolerance, 100) for penalty in PENALTIES]

    def export(answers: Any) -> Value:
        iterations = np.array([answer.iterations for answer in answers])
        return {"points": np.array([answer.x for answer in answers]), "iterations": iterations}

    return single(run, export)


def summarized(value: Value) -> Mapping[str, Any]:
    """Keep each regression's objective, by formula, and how many steps the slowest took."""
    rows = breast_cancer_standardized(0, 1).train
    pairs = zip(value["points"], PENALTIES, strict=True)
    return {
        "values": [baseline.logistic_objective(x, rows, penalty) for x, penalty in pairs],
        "most": int(value["iterations"].max()),
    }


def findings(records: Sequence[Record], plan: Plan) -> list[Finding]:
    """Hold each regression's objective to scikit-learn's."""
    pair = _pair(records)
    if pair is None:
        return []
    mine, theirs = pair
    apart, bound = stats.absolute_distance(mine.value["values"], theirs.value["values"]), REGRESSIONS[plan.dtype].bound
    words = f"100 optimal values part from scikit-learn's by {apart:.1e} at most (bound {bound:.0e})"
    return [Finding(mine.method, apart <= bound, words)]


def rows(records: Sequence[Record], plan: Plan) -> list[dict[str, Any]]:
    """Return one row for each arm; that of `vmap` has its distance from scikit-learn and the ratio of their times."""
    agrees = {finding.subject: finding.agrees for finding in findings(records, plan)}
    pair = _pair(records)
    found: list[dict[str, Any]] = []
    for r in records:
        row: dict[str, Any] = {
            "framework": r.framework,
            "regressions": r.method,
            "status": r.status,
            "reason": r.reason,
        }
        if r.ok:
            row |= {"agrees": agrees.get(r.method), "most": r.value["most"], "first_seconds": r.first_seconds}
            row |= {"seconds": float(np.median(r.step_seconds)), "spread": stats.spread(r.step_seconds)}
        if pair and r is pair[0]:
            row["apart"] = stats.absolute_distance(r.value["values"], pair[1].value["values"])
            row["ratio"] = pair[1].ratio_to(r) if row["agrees"] else None
        found.append(row)
    return found


def table(rows: Sequence[Mapping[str, Any]], plan: Plan) -> Table:
    """Return one line for each arm."""
    lines = []
    for row in rows:
        if row["status"] != "ok":
            lines.append((row["regressions"], row["status"], row["reason"], *[ABSENT] * 4))
            continue
        wrong = row["agrees"] is False
        lines.append(
            (
                row["regressions"],
                (text.number(row["apart"]) if "apart" in row else ABSENT) + (": WRONG" if wrong else ""),
                f"{row['most']}",
                text.seconds(row["first_seconds"]),
                ABSENT if wrong else text.seconds(row["seconds"]),
                text.spread(row["spread"]),
                text.interval(row["ratio"]) if row.get("ratio") else ABSENT,
            )
        )
    columns = ("arm", "values part by", "most steps", "first", "all", "spread", "times faster [95 %]")
    notes = (
        f"Logistic regression of 569 rows and 30 inputs with {len(PENALTIES)} penalties from {PENALTIES[0]:g} to "
        f"{PENALTIES[-1]:g}, by Newton's method. `vmap` runs until the last has converged; scikit-learn (newton-"
        "cholesky, float64) takes one after the other.",
    )
    return Table(f"A hundred regressions at once: {SUBJECT}, {plan.dtype}", columns, lines, notes)


def verdict(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say how much faster all at once is."""
    return next(
        (
            f"100 logistic regressions at once by vmap take {text.seconds(row['seconds'])}, a scikit-learn loop "
            f"{text.interval(row['ratio'])} times as long"
            for row in rows
            if row.get("ratio")
        ),
        "",
    )


def _pair(records: Sequence[Record]) -> tuple[Record, Record] | None:
    found = {(r.framework, r.method): r for r in records if r.ok}
    return (found[VMAP], found[LOOP]) if VMAP in found and LOOP in found else None

"""A hundred penalized logistic regressions, each with its own penalty: at once by `vmap`, or one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxopt_study.backends import Backend
from jaxopt_study.backends.numpy import newton as references
from jaxopt_study.bench import stats
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.finding import Finding, compare
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.results import Results
from jaxopt_study.bench.task import Task, Value, single
from jaxopt_study.data.workload import Workload, zero_params
from jaxopt_study.data.workloads import whole_breast_cancer
from jaxopt_study.report import table as text
from jaxopt_study.report.table import ABSENT, Table
from jaxopt_study.studies.experiment import Experiment, Row, Rows, facts
from jaxopt_study.studies.tolerances import REGRESSIONS

SUBJECT = "breast-cancer-standardized"
PENALTIES = np.geomspace(1e-4, 1, 100)
TOLERANCE = {"float64": 1e-9, "float32": 1e-5}
MANY = "many"
"""The function of the JAX backend's `newton` that makes many runs at once."""


class Regressions(Experiment):
    """All regressions at once in JAX, and scikit-learn's one after the other."""

    study, name = "newton", "regressions"

    def groups(self, plan: Plan) -> list[Group]:
        """Return one group of both, where JAX takes part."""
        if plan.overview or "jax" not in plan.frameworks:
            return []
        cases = (self.case(SUBJECT, "jax", "vmap"), self.case(SUBJECT, "numpy", "scikit-learn"))
        return [Group(cases, plan.repeats // 3 + 1)]

    def task(self, backend: Backend, case: Case, workload: Workload, plan: Plan) -> Task:
        """Return all regressions as one lap, from parameters that are all 0."""
        data = whole_breast_cancer(SUBJECT)
        return _at_once(backend, data, plan) if case.framework == "jax" else _one_by_one(data)

    def summarize(self, case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
        """Keep each regression's objective, by formula, and the largest number of steps."""
        rows = whole_breast_cancer(SUBJECT).train
        pairs = zip(value["points"], PENALTIES, strict=True)
        return {
            "values": [references.logistic_objective(x, rows, penalty) for x, penalty in pairs],
            "most_steps": int(value["iterations"].max()),
        }

    def findings(self, records: Sequence[Record], plan: Plan) -> list[Finding]:
        """Compare each regression's objective with scikit-learn's."""
        vmap, loop = _pair(records)
        if vmap is None or loop is None:
            return []
        bound = REGRESSIONS[plan.dtype].bound
        return [compare("100 optimal values, with scikit-learn's", [vmap.case], _distance(vmap, loop), bound)]

    def rows(self, results: Results, plan: Plan) -> Rows:
        """Return one row for each method."""
        records = self.records(results)
        return [_row(r, _pair(records), results) for r in records]

    def tables(self, rows: Sequence[Row], plan: Plan) -> list[Table]:
        """Return one line for each method."""
        columns = ("method", "max. difference", "most steps", "first call", "all 100", "IQR", "loop / vmap [95 %]")
        notes = (
            f"Logistic regression of 569 rows and 30 inputs with {len(PENALTIES)} penalties from {PENALTIES[0]:g} to "
            f"{PENALTIES[-1]:g}, by Newton's method. `vmap` runs until the last regression has converged. scikit-learn "
            "(newton-cholesky, float64) takes one after the other. Max. difference: of the optimal values.",
            *text.flags(row["loop_over_vmap"] for row in rows),
        )
        title, main = f"A hundred regressions at once: {SUBJECT}, {plan.dtype}", ("all 100", "loop / vmap [95 %]")
        return [Table(title, columns, [*map(_line, rows)], notes, main=main)]

    def verdict(self, rows: Sequence[Row], plan: Plan) -> str:
        """Say how much faster all at once is."""
        return next(
            (
                f"100 logistic regressions at once by vmap take {text.seconds(row['seconds'])}, a loop over "
                f"scikit-learn's {text.ratio(row['loop_over_vmap'])} times as long"
                for row in rows
                if row["loop_over_vmap"]
            ),
            "",
        )


def _at_once(backend: Backend, workload: Workload, plan: Plan) -> Task:
    loss = backend.models.penalized(backend.models.logistic_loss(backend.models.network(workload.widths)))
    start = backend.runtime.params_from_numpy(zero_params(workload.widths))
    batch = tuple(backend.runtime.from_numpy(array) for array in workload.train)
    penalties = backend.runtime.from_numpy(PENALTIES)
    minimize = getattr(backend.newton, MANY)(
        loss, (None, None, 0), hessian=backend.newton.logistic_hessian, tolerance=TOLERANCE[plan.dtype]
    )

    def export(result: Any) -> Value:
        layers = backend.runtime.params_to_numpy(result.x)
        (layer,) = layers.values()
        points = np.concatenate([layer["bias"], layer["kernel"].reshape(len(PENALTIES), -1)], axis=1)
        return {"points": points.astype(float), "iterations": np.asarray(result.iterations)}

    return single(lambda: backend.runtime.wait(minimize(start, batch, penalties)), export)


def _one_by_one(workload: Workload) -> Task:
    """In float64 whatever the plan, as in the race."""

    def run() -> list[references.Answer]:
        tolerance = TOLERANCE["float64"]
        return [references.scikit_learn(workload.train, p, "newton-cholesky", tolerance, 100) for p in PENALTIES]

    def export(answers: list[references.Answer]) -> Value:
        return {
            "points": np.array([answer.x for answer in answers]),
            "iterations": np.array([answer.iterations for answer in answers]),
        }

    return single(run, export)


def _pair(records: Sequence[Record]) -> tuple[Record | None, Record | None]:
    by_framework = {r.framework: r for r in records if r.ok}
    return by_framework.get("jax"), by_framework.get("numpy")


def _distance(vmap: Record, loop: Record) -> float:
    return stats.absolute_distance(vmap.value["values"], loop.value["values"])


def _row(record: Record, pair: tuple[Record | None, Record | None], results: Results) -> dict[str, Any]:
    vmap, loop = pair
    row: dict[str, Any] = {
        **facts(record, results),
        "loop_over_vmap": results.ratio(loop, vmap) if record is vmap else None,
    }
    if vmap and loop and record is vmap:
        row["distance"] = _distance(vmap, loop)
    if record.ok:
        row["most_steps"] = record.value["most_steps"]
    if results.shows(record):
        row |= {
            "first_seconds": record.first_seconds,
            "seconds": record.seconds,
            "spread": stats.spread(record.step_seconds),
        }
    return row


def _line(row: Row) -> tuple[str, ...]:
    name = f"{row['framework']} {row['method']}"
    if row["status"] != "ok":
        return (name, row["status"], row["reason"], *[ABSENT] * 4)
    times = [ABSENT, "withheld: values disagree", ABSENT]
    if "seconds" in row:
        times = [text.seconds(row["first_seconds"]), text.seconds(row["seconds"]), text.spread(row["spread"])]
    distance = text.number(row["distance"]) if "distance" in row else ABSENT
    return (name, distance, f"{row['most_steps']}", *times, text.ratio(row["loop_over_vmap"]))

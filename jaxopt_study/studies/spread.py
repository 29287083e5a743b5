"""Where does the notebook's one draw of initial parameters lie among many?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxopt_study.bench import stats
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.finding import Finding
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.report import table as text
from jaxopt_study.bench.report.figure import Figure
from jaxopt_study.bench.report.table import Table
from jaxopt_study.bench.task import Task, Value
from jaxopt_study.bench.workload import Workload, draw_params, stack_params
from jaxopt_study.studies.optimizers import NOTEBOOK

QUESTION = "Spread: where does the notebook's one draw of initial parameters lie among many?"


def groups(plan: Plan) -> list[Group]:
    """Return one case for each optimizer, in JAX alone: there, all runs go at once."""
    if "jax" not in plan.frameworks:
        return []
    repeats = max(1, plan.repeats // (12 if plan.overview else 6))  # a block takes as long as all runs: half a second
    return [Group((Case("spread", name, "jax", "scan under vmap"),), repeats) for name in plan.optimizers]


def task(wing: Any, case: Case, workload: Workload, plan: Plan) -> Task:
    """Return the training of one optimizer from many initial parameters at once; the first are the workload's."""
    model = wing.models.network(workload.widths)
    optimizer = wing.optimizers.OPTIMIZERS[case.subject](plan.learning_rate)
    loop = wing.sweep.many(wing.loops.scan(model, optimizer))
    data = tuple(loop.load(array) for array in workload.train)
    order = loop.load(workload.order.ravel())
    seeds = range(plan.seed, plan.seed + plan.initializations)
    drawn = stack_params([draw_params(workload.widths, seed) for seed in seeds])
    params = wing.runtime.params_from_numpy(drawn)

    def train(state: Any) -> Iterator[Any]:
        _, losses = loop.run(state, data, order)
        yield wing.runtime.block(losses)

    def export(losses: Any) -> Value:
        by_epoch = wing.runtime.to_numpy(losses).reshape(len(seeds), *workload.order.shape)
        return {"final_losses": by_epoch[:, -1].mean(axis=1, dtype=float)}

    return Task(train, export, steps=workload.order.size, start=lambda: wing.runtime.block(loop.init(params)))


def condense(case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
    """Keep every final loss."""
    del case, workload, plan
    return {"final_losses": value["final_losses"].tolist()}


def findings(records: Sequence[Record], plan: Plan) -> list[Finding]:
    """There is nothing to compare: one framework runs."""
    del records, plan
    return []


def rows(records: Sequence[Record], plan: Plan) -> list[dict[str, Any]]:
    """Return one row for each optimizer."""
    del plan
    return [_row(record) for record in records]


def tables(rows: Sequence[Mapping[str, Any]], plan: Plan) -> list[Table]:
    """Return the spread of the final loss, with the notebook's figure in it."""
    lines = []
    for row in rows:
        if row["status"] != "ok":
            lines.append((row["optimizer"], row["status"], row["reason"], *[text.ABSENT] * 3))
            continue
        lines.append(
            (
                row["optimizer"],
                f"{row['mean']:.5f} ± {row['standard_deviation']:.5f}"
                + (f", {row['diverged']} diverged" if row["diverged"] else ""),
                f"{row['least']:.5f} to {row['largest']:.5f}",
                ", ".join(f"{percentile:.0f}" for percentile in row["notebook_percentiles"]),
                text.seconds(row["run_seconds"]),
                text.seconds(row["run_seconds"] / row["initializations"]),
            )
        )
    return [
        Table(
            f"Final loss over {plan.initializations} initial parameters (seeds {plan.seed} to "
            f"{plan.seed + plan.initializations - 1}), all at once by vmap",
            ("optimizer", "mean ± sd", "range", "percentile", "all runs", "a run"),
            lines,
            ("Percentile: the one at which the loss that the notebook printed lies.",),
        )
    ]


def figures(records: Sequence[Record], plan: Plan) -> list[Figure]:
    """There is none: the table says it."""
    del records, plan
    return []


def verdict(rows: Sequence[Mapping[str, Any]], plan: Plan) -> str:
    """There is none: nothing is compared."""
    del rows, plan
    return ""


def _row(record: Record) -> dict[str, Any]:
    row: dict[str, Any] = {"optimizer": record.subject, "status": record.status, "reason": record.reason}
    if not record.ok:
        return row
    everything = np.array(record.value["final_losses"], dtype=float)
    losses = everything[np.isfinite(everything)]
    row["diverged"] = len(everything) - len(losses)
    if len(losses) < 2:
        return row | {"status": "diverged", "reason": f"{row['diverged']} of {len(everything)} runs"}
    return row | {
        "initializations": len(losses),
        "mean": float(losses.mean()),
        "standard_deviation": float(losses.std(ddof=1)),
        "least": float(losses.min()),
        "largest": float(losses.max()),
        "notebook_percentiles": [stats.percentile_of(loss, losses) for loss in NOTEBOOK[record.subject]],
        "run_seconds": float(np.median(record.step_seconds)) * record.run_steps,
    }

"""How far does the final loss depend on the initial parameters, and where among many is the notebook's one draw?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxopt_study.backends import Backend
from jaxopt_study.bench import stats
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.results import Results
from jaxopt_study.bench.task import Task, Value
from jaxopt_study.data.workload import Workload, stack_params
from jaxopt_study.report import table as text
from jaxopt_study.report.table import ABSENT, Table
from jaxopt_study.studies import trained
from jaxopt_study.studies.experiment import Experiment, Row, Rows, Study
from jaxopt_study.studies.registry import row_of
from jaxopt_study.studies.tolerances import notebooks

SWEEP = "sweep"
"""The backend's module that trains many networks at once; only JAX has it."""


class Spread(Experiment):
    """Each optimizer from many initial parameters at once."""

    study = name = "spread"

    def groups(self, plan: Plan) -> list[Group]:
        """Return one case for each optimizer, in JAX alone, which trains all of them at once."""
        if "jax" not in plan.frameworks:
            return []
        repeats = max(1, plan.repeats // 6)  # a sample is all runs: half a second
        return [Group((self.case(name, "jax", "scan under vmap"),), repeats) for name in plan.optimizers]

    def task(self, backend: Backend, case: Case, workload: Workload, plan: Plan) -> Task:
        """Return the training of one optimizer from many initial parameters at once; the first are the workload's."""
        model, output_loss = trained.model(backend, workload.network), trained.output_loss(backend, workload, plan)
        optimizer = trained.optimizer(backend, case.framework, case.subject, plan)
        loop = getattr(backend, SWEEP).vmapped(backend.loops.scan(model, optimizer, output_loss))
        data = tuple(loop.load(array) for array in workload.train)
        order = loop.load(workload.steps)
        seeds = range(plan.seed, plan.seed + plan.initializations)
        drawn = stack_params([trained.draw(backend, workload, seed) for seed in seeds])
        params = trained.conversion(backend, case.framework, workload.network).from_tree(drawn)

        def train(state: Any) -> Iterator[Any]:
            _, losses = loop.run(state, data, order)
            yield backend.runtime.wait(losses)

        def export(losses: Any) -> Value:
            by_epoch = backend.runtime.to_numpy(losses).reshape(len(seeds), *workload.order.shape[:2])
            return {"final_losses": by_epoch[:, -1].mean(axis=1, dtype=float)}

        return Task(train, export, steps=len(workload.steps), start=lambda: backend.runtime.wait(loop.init(params)))

    def summarize(self, case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
        """Keep every final loss."""
        return {"final_losses": value["final_losses"].tolist()}

    def rows(self, results: Results, plan: Plan) -> Rows:
        """Return one row for each optimizer."""
        lowest = _lowest(self.records(results))
        return [_row(record, plan) | {"lowest": lowest.get(record.subject)} for record in self.records(results)]

    def tables(self, rows: Sequence[Row], plan: Plan) -> list[Table]:
        """Return the spread of the final loss, with the notebook's figure in it."""
        last = plan.seed + plan.initializations - 1
        over = f"{plan.initializations} initial parameters (seeds {plan.seed} to {last})"
        title = f"Final loss over {over}, by vmap: {plan.workload}, {plan.rows_per_step}"
        columns, lines = ["optimizer", "mean ± sd", "range", "all runs", "per run"], [_line(row) for row in rows]
        if not notebooks(plan):
            return [Table(title, tuple(columns), [tuple(line) for line in lines])]
        columns.insert(3, "percentile")
        for row, line in zip(rows, lines, strict=True):
            line.insert(3, ", ".join(f"{p:.0f}" for p in row.get("notebook_percentiles", ())) or ABSENT)
        notes = ("Percentile: the one at which the loss that the notebook printed lies.",)
        return [Table(title, tuple(columns), [tuple(line) for line in lines], notes)]

    def verdict(self, rows: Sequence[Row], plan: Plan) -> str:
        """Say which optimizer has the lowest final loss from how many of the initial parameters."""
        counted = [row for row in rows if row.get("lowest") is not None]
        if len(counted) < 2:
            return ""
        best = max(counted, key=lambda row: row["lowest"])
        return (
            f"lowest training loss for {best['lowest']} of {plan.initializations} initial parameters: "
            f"{best['optimizer']}"
        )


SPREAD = Study(
    "Spread: how far does the final loss depend on the initial parameters?",
    (Spread(),),
    "JAX trains each optimizer from many initial parameters at once.",
)


def _lowest(records: Sequence[Record]) -> dict[str, int]:
    """Return for how many of the initial parameters, the same for all, each optimizer's final loss is the lowest."""
    losses = {r.subject: np.nan_to_num(np.array(r.value["final_losses"], float), nan=np.inf) for r in records if r.ok}
    names = list(losses)
    best = np.argmin(np.array(list(losses.values())), axis=0) if len(names) > 1 else np.array([], int)
    return {name: int(np.sum(best == place)) for place, name in enumerate(names) if len(best)}


def _row(record: Record, plan: Plan) -> dict[str, Any]:
    row: dict[str, Any] = {"optimizer": record.subject, "status": record.status, "reason": record.reason}
    if not record.ok:
        return row
    everything = np.array(record.value["final_losses"], dtype=float)
    losses = everything[np.isfinite(everything)]
    row["diverged"] = len(everything) - len(losses)
    if len(losses) < 2:
        return row | {"status": "diverged", "reason": f"{row['diverged']} of {len(everything)} runs"}
    printed = row_of(record.subject).notebook if notebooks(plan) else ()
    return row | {
        "initializations": len(losses),
        "mean": float(losses.mean()),
        "standard_deviation": float(losses.std(ddof=1)),
        "least": float(losses.min()),
        "largest": float(losses.max()),
        "notebook_percentiles": [stats.percentile_of(loss, losses) for loss in printed],
        "run_seconds": record.seconds * record.run_steps if record.samples else float("nan"),
    }


def _line(row: Row) -> list[str]:
    if row["status"] != "ok":
        return [row["optimizer"], row["status"], row["reason"], *[ABSENT] * 2]
    diverged = f", {row['diverged']} diverged" if row["diverged"] else ""
    return [
        row["optimizer"],
        f"{row['mean']:.5f} ± {row['standard_deviation']:.5f}{diverged}",
        f"{row['least']:.5f} to {row['largest']:.5f}",
        text.seconds(row["run_seconds"]),
        text.seconds(row["run_seconds"] / row["initializations"]),
    ]

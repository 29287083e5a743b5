"""The workload's own training loss, of any network, convex or not: what each minimizer makes of it."""

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
from jaxopt_study.studies import trained
from jaxopt_study.studies.experiment import Experiment, Row, Rows, all_skipped, facts
from jaxopt_study.studies.tolerances import HESSIAN

METHODS = ("newton_cg", "trust_krylov", "lbfgs")
"""The minimizers that make no dense Hessian."""
MOST_ROWS = 256
"""The loss is that of the first rows of the training part, at most so many."""
MOST_STEPS = 100


class OwnLoss(Experiment):
    """The minimizers from the initial parameters, where the training is no softmax regression."""

    study, name = "newton", "network"

    def groups(self, plan: Plan) -> list[Group]:
        """Return the minimizers of both frameworks in the same rounds; nothing in the main job, which takes seconds."""
        if plan.linear or plan.overview:
            return []
        cases = tuple(self.case(plan.workload, f, name) for f in plan.frameworks for name in METHODS)
        return [Group(cases, plan.repeats // 6 + 1)]

    def task(self, backend: Backend, case: Case, workload: Workload, plan: Plan) -> Task:
        """Return a minimizer's run; its value has the loss and the gradient, computed again at its ends."""
        model = trained.model(backend, workload.network)
        loss = backend.models.batch_loss(model, trained.output_loss(backend, workload, plan))
        start = trained.conversion(backend, case.framework, workload.network).from_tree(workload.params)
        batch = tuple(backend.runtime.from_numpy(array[:MOST_ROWS]) for array in workload.train)
        options = {"method": case.method, "max_iterations": MOST_STEPS}
        differentiate = backend.derivatives.gradient(loss)  # once: what `export` compiles anew would spoil a sample

        def run() -> Any:
            return backend.runtime.wait(backend.newton.minimize(loss, start, batch, **options))

        def export(result: Any) -> Value:
            gradient = differentiate(result.x, batch)
            return {
                "start": backend.runtime.to_numpy(loss(start, batch)),
                "value": np.asarray(float(result.value)),
                "again": backend.runtime.to_numpy(loss(result.x, batch)),
                "gradient": np.abs(backend.runtime.to_numpy(backend.runtime.ravel(gradient))).max(),
                "steps": np.asarray(int(result.iterations)),
                "ended": np.asarray(int(result.status)),
                "work": np.asarray([int(count) for count in result.counts]),
            }

        return single(run, export)

    def summarize(self, case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
        """Keep all of it, with the number of rows."""
        kept = {name: np.asarray(array).tolist() for name, array in value.items()}
        return kept | {"rows": min(MOST_ROWS, len(workload.train[1]))}

    def findings(self, records: Sequence[Record], plan: Plan) -> list[Finding]:
        """Compare each result's value with the loss there, and the losses at the start with each other.

        Where the loss is not convex, two frameworks may end at two minima, so that their ends are not compared.
        """
        ok, bound = [r for r in records if r.ok], HESSIAN[plan.dtype].bound
        found = []
        for r in ok:
            distance = stats.relative_distance([r.value["value"]], [r.value["again"]])
            found.append(compare("the result's value, with the loss there, relative", [r.case], distance, bound))
            rise = max(0.0, r.value["value"] - r.value["start"])
            found.append(compare("rise of the loss from start to end", [r.case], rise, 0.0))
        first = {r.framework: r for r in reversed(ok)}
        if len(first) == 2:
            jax, torch = first["jax"], first["torch"]
            distance = stats.relative_distance([jax.value["start"]], [torch.value["start"]])
            found.append(compare("loss at the start, relative", [jax.case, torch.case], distance, bound))
        return found

    def rows(self, results: Results, plan: Plan) -> Rows:
        """Return one row for each minimizer and framework."""
        return [
            facts(r, results) | dict(r.value) | {"seconds": r.seconds if results.shows(r) else None}
            for r in self.records(results)
        ]

    def tables(self, rows: Sequence[Row], plan: Plan) -> list[Table]:
        """Return where each minimizer ended, and what it took."""
        rows_of = next((f", {row['rows']} rows" for row in rows if row["status"] == "ok"), "")
        title = f"Minimizers on the training loss: {plan.workload}{rows_of}, {plan.dtype}"
        columns = ("method", "in", "loss", "largest gradient", "steps", "gradients, HVPs", "time")
        notes = (
            f"Each begins at the initial parameters and makes {MOST_STEPS} steps at most. Where the loss is not "
            "convex, two frameworks may end at two minima.",
            *{f"{r['status'].capitalize()}: {r['reason']}." for r in rows if r["status"] != "ok"},
        )
        main = ("loss", "time", "steps")
        return [all_skipped(title, rows) or Table(title, columns, [_line(row) for row in rows], notes, main=main)]

    def verdict(self, rows: Sequence[Row], plan: Plan) -> str:
        """Say which minimizer reaches the lowest loss."""
        ended = [row for row in rows if row["status"] == "ok"]
        if not ended:
            return ""
        best = min(ended, key=lambda row: row["value"])
        return (
            f"of the minimizers, {best['method']} in {best['framework']} reaches the lowest training loss of "
            f"{plan.workload}: {best['value']:.3g}, from {best['start']:.3g}"
        )


def _line(row: Row) -> tuple[str, ...]:
    name = (row["method"], row["framework"])
    if row["status"] != "ok":
        return (*name, row["status"], *[ABSENT] * 4)
    _, gradients, products, _ = row["work"]
    took = "withheld" if row["seconds"] is None else text.seconds(row["seconds"])
    return (
        *name,
        f"{row['value']:.3e}",
        text.number(row["gradient"]),
        str(row["steps"]),
        f"{gradients}, {products}",
        took,
    )

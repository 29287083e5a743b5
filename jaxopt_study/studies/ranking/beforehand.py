"""What is settled before the ranking's sweep: each workload's target, and the faster way to make a grid in JAX."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxopt_study.backends import Backend
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.finding import Finding
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.results import Results
from jaxopt_study.bench.task import Task, Value
from jaxopt_study.data.workload import Workload
from jaxopt_study.report import table as text
from jaxopt_study.report.table import Table
from jaxopt_study.studies.experiment import Experiment, Row, Rows, facts
from jaxopt_study.studies.ranking import points, problems, trainings
from jaxopt_study.studies.ranking.agreement import compared
from jaxopt_study.studies.tolerances import Bound

WAYS = ("vmapped", "sequential")
"""How JAX can make a grid: functions of its backend's `grid`."""
NATIVE = "natively"
"""The same where a step has one row of a small network, which is for the main job."""
LOOP = "usual loop"
"""PyTorch's way: one training after the other, in each step one call for each operator."""
OPTIMIZER = "adam"

# The test loss after one epoch of Adam at its default learning rate, relative; the worst of all workloads of `points`.
BOUNDS = {"float64": Bound(2.5e-15, 2.2e-16), "float32": Bound(3e-5, 2.9e-6)}


class Beforehand(Experiment):
    """One epoch of Adam's grid on each workload, in both of JAX's ways; and one training of it in PyTorch."""

    study, name = "ranking", "beforehand"

    def groups(self, plan: Plan) -> list[Group]:
        """Return one group for each workload; none without JAX, which alone makes whole grids."""
        if plan.overview or "jax" not in plan.frameworks:
            return []
        ways = [("jax", way) for way in WAYS] + [("torch", LOOP)] * ("torch" in plan.frameworks)
        return [
            Group(tuple(self.case(name, *way) for way in ways), min(plan.repeats, 5)) for name in points.workloads(plan)
        ]

    def task(self, backend: Backend, case: Case, workload: Workload, plan: Plan) -> Task:
        """Return one epoch of the trainings. A step of the task is one step of one of them."""
        size = points.size(plan)
        torch = case.framework == "torch"
        starts = 1 if torch else size.initializations
        problem = trainings.problem(backend, case.subject, workload, plan, starts, epochs=1)
        steps, middle = problem.orders.shape[2], size.rates // 2
        rates = points.by_step(points.grid(points.OPTIMIZERS[OPTIMIZER].default, size.rates), 1, steps)
        if torch:
            train = trainings.one_training(backend, case.framework, problem, OPTIMIZER, plan)
            rates, trained = rates[middle], 1
        else:
            train = trainings.whole_grid(backend, problem, OPTIMIZER, case.method, plan)
            trained = len(problem.orders) * len(rates)
        target = problems.target(problem) if case.method == WAYS[0] else np.nan

        def run(_: Any) -> Iterator[Any]:
            yield train(rates)

        def export(curves: Any) -> Value:
            test = backend.runtime.to_numpy(curves.test)
            of_starts = np.atleast_2d(test)[:, 0 if test.ndim == 0 else middle]
            return {"test": of_starts[0], "moved": of_starts[-1], "target": np.array(target)}

        return Task(run, export, steps=steps * trained)

    def summarize(self, case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
        """Keep the target, which the first way has, and the test loss of the default rate from the first start.

        `moved` is that from the start that is moved, which JAX makes.
        """
        return {name: float(number) for name, number in value.items()}

    def findings(self, records: Sequence[Record], plan: Plan) -> list[Finding]:
        """Compare each way's test loss with that of the first way."""
        found = []
        for name in points.workloads(plan):
            mine = [r for r in records if r.subject == name and r.ok]
            for other in mine[1:]:
                first, moved, second = mine[0].value["test"], mine[0].value["moved"], other.value["test"]
                what, cases = "test loss after one epoch, relative", (mine[0].case, other.case)
                found.append(compared(what, cases, first, second, moved, BOUNDS[plan.dtype].bound))
        return found

    def rows(self, results: Results, plan: Plan) -> Rows:
        """Return one row for each workload and way."""
        records = self.records(results)
        usual = {r.subject: r for r in records if r.framework == "torch"}
        return [
            {
                "workload": r.subject,
                **facts(r, results),
                "chosen": r.framework == "jax" and r.method == faster(records, r.subject),
                "step_seconds": r.seconds if results.shows(r) else float("nan"),
                "torch_over_this": results.ratio(usual.get(r.subject), r),
                **r.value,
            }
            for r in records
        ]

    def tables(self, rows: Sequence[Row], plan: Plan) -> list[Table]:
        """Return the ways' times and the targets."""
        lines = [
            (
                row["workload"],
                "PyTorch"
                if row["framework"] == "torch"
                else f"JAX {row['method']}" + (", taken" if row["chosen"] else ""),
                text.seconds(row["step_seconds"]) if row["status"] == "ok" else row["status"],
                text.ratio(row["torch_over_this"]),
            )
            for row in rows
        ]
        size = points.size(plan)
        notes = (
            f"JAX makes {2 * size.rates} points from {size.initializations} initializations in one program. PyTorch "
            "makes one training in its usual loop. Taken: the way that the sweep takes.",
            *text.flags(row["torch_over_this"] for row in rows),
        )
        title, main = "Trainings of Adam: the time of one step of one run", ("torch / this [95 %]", "way")
        return [Table(title, ("workload", "way", "per step and run", main[0]), lines, notes, ("way",), main)]


def target(records: Sequence[Record], workload: str) -> float:
    """Return the validation loss that a training on the workload should reach; NaN if it is not known."""
    found = [
        r.value["target"]
        for r in records
        if (r.experiment, r.subject, r.method, r.ok) == (Beforehand.name, workload, WAYS[0], True)
    ]
    return float(found[0]) if found else float("nan")


def faster(records: Sequence[Record], workload: str) -> str:
    """Return the way that took less time on the workload; the first way where the times are not known."""
    times = {
        r.method: r.seconds
        for r in records
        if (r.experiment, r.subject, r.framework) == (Beforehand.name, workload, "jax") and r.samples
    }
    return min(times, key=lambda way: times[way]) if len(times) == len(WAYS) else WAYS[0]

"""The ranking's sweep: each optimizer on each workload, over learning rates, schedules and initializations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxopt_study.backends import Backend
from jaxopt_study.bench import record
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.finding import Finding
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.results import Results
from jaxopt_study.bench.task import Task, Value
from jaxopt_study.data.workload import Array, Workload
from jaxopt_study.report.figures import Figure
from jaxopt_study.report.table import Table
from jaxopt_study.studies.experiment import Experiment, Row, Rows
from jaxopt_study.studies.ranking import agreement, beforehand, figures, points, tables, trainings
from jaxopt_study.studies.ranking.beforehand import LOOP, WAYS
from jaxopt_study.studies.ranking.outcomes import best_point, read
from jaxopt_study.studies.ranking.rows import rows_of

ADDED, WIDENINGS = 3, 4
"""Where the best learning rate is at an edge of the grid, so many are added beyond it, at most so many times."""


class Sweep(Experiment):
    """Each optimizer on each workload."""

    study, name = "ranking", "sweep"

    def groups(self, plan: Plan) -> list[Group]:
        """Return one group for each workload and optimizer; PyTorch makes the first initialization's runs."""
        if plan.overview or "jax" not in plan.frameworks:
            return []
        ways = [("jax", way) for way in WAYS] + [("torch", LOOP)] * ("torch" in plan.frameworks)
        return [
            Group(tuple(self.case(points.subject(optimizer, name), *way) for way in ways), repeats=0, distributed=True)
            for name in points.workloads(plan)
            for optimizer in points.optimizers(plan)
        ]

    def skip(self, case: Case, records: Sequence[Record], plan: Plan) -> str | None:
        """Skip the slower of JAX's ways."""
        way = beforehand.faster(records, points.parts(case.subject)[1])
        return f"{way} is faster on this workload" if case.method in WAYS and case.method != way else None

    def runs(self, case: Case, plan: Plan) -> int:
        """Return how many trainings a grid has before it is widened."""
        size = points.size(plan)
        return len(points.SCHEDULES) * size.rates * (size.initializations if case.framework == "jax" else 1)

    def part(self, case: Case) -> str:
        """Return the workload."""
        return points.parts(case.subject)[1]

    def task(self, backend: Backend, case: Case, workload: Workload, plan: Plan) -> Task:
        """Return the sweep of one optimizer on one workload, or in PyTorch its runs from the first initialization."""
        optimizer, name = points.parts(case.subject)
        size, torch = points.size(plan), case.framework == "torch"
        problem = trainings.problem(backend, name, workload, plan, 1 if torch else size.initializations, plan.epochs)
        trainings.check_matrices(optimizer, plan, problem)
        rates = points.grid(points.default_rate(optimizer, plan), size.rates)
        if torch:
            train = _one_by_one(backend, trainings.one_training(backend, case.framework, problem, optimizer, plan))
        else:
            train = _all_at_once(backend, trainings.whole_grid(backend, problem, optimizer, case.method, plan))
        steps = problem.orders.shape[2]

        def run(_: Any) -> Iterator[Value]:
            yield _swept(lambda some: train(points.by_step(some, plan.epochs, steps)), rates, 0 if torch else WIDENINGS)

        return Task(run, lambda value: {**value, "steps": np.array(steps)})

    def summarize(self, case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
        """Keep all validation and test losses; `moved` is the validation loss of the start that is moved."""
        return {
            "rates": value["rates"].tolist(),
            "steps_per_epoch": int(value["steps"]),
            "validation": record.pack(value["validation"]),
            "test": record.pack(value["test"]),
            "moved": record.pack(value["moved"]),
        }

    def findings(self, records: Sequence[Record], plan: Plan) -> list[Finding]:
        """Compare the frameworks' runs at the default and at the chosen learning rate."""
        return agreement.findings(records, plan)

    def rows(self, results: Results, plan: Plan) -> Rows:
        """Return one row for each workload and optimizer."""
        return rows_of(results, self.records(results), plan)

    def tables(self, rows: Sequence[Row], plan: Plan) -> list[Table]:
        """Return each workload's results, and what they come to over all workloads."""
        return tables.tables(rows, plan)

    def brief(self, rows: Sequence[Row], plan: Plan) -> list[Table]:
        """Return the ranks over all workloads."""
        return tables.brief(rows, plan)

    def figures(self, results: Results, plan: Plan) -> list[Figure]:
        """Return the sensitivity to the learning rate, and the ranking over all workloads."""
        return figures.figures(read(self.records(results)), self.rows(results, plan), plan)

    def verdict(self, rows: Sequence[Row], plan: Plan) -> str:
        """Say in how many workloads Adam is best or tied."""
        return tables.verdict(rows)


Losses = dict[str, Array]
"""By name: `validation` (initializations, schedules, rates, epochs), `test` without the epochs, and `moved`, the
validation loss of one start: (1, schedules, rates, epochs)."""


def _all_at_once(backend: Backend, grid: Callable[[Array], Any]) -> Callable[[Array], Losses]:
    def train(rates: Array) -> Losses:
        curves = grid(rates)
        validation, test = (_by_schedule(backend.runtime.to_numpy(c)) for c in (curves.validation, curves.test))
        return {"validation": validation[:-1], "test": test[:-1], "moved": validation[-1:]}

    return train


def _one_by_one(backend: Backend, training: Callable[[Array], Any]) -> Callable[[Array], Losses]:
    def train(rates: Array) -> Losses:
        curves = [training(point) for point in rates]
        validation, test = (
            _by_schedule(np.stack([backend.runtime.to_numpy(getattr(curve, part)) for curve in curves])[None])
            for part in ("validation", "test")
        )
        return {"validation": validation, "test": test, "moved": validation[:0]}

    return train


def _by_schedule(losses: Array) -> Array:
    """Return (starts, points, ...) as (starts, schedules, rates, ...)."""
    return losses.reshape(len(losses), len(points.SCHEDULES), -1, *losses.shape[2:])


def _swept(train: Callable[[Array], Losses], rates: Array, widenings: int) -> Value:
    """Train at these learning rates, and at others beyond the edge at which the best one is."""
    losses = train(rates)
    for _ in range(widenings):
        _, best = best_point(losses["validation"][..., -1])
        if 0 < best < len(rates) - 1:
            break
        factors = (rates[1] / rates[0]) ** np.arange(1, ADDED + 1)
        below = best == 0
        added = rates[0] / factors[::-1] if below else rates[-1] * factors
        more = train(added)
        rates = np.concatenate([added, rates] if below else [rates, added])
        losses = {
            name: np.concatenate([more[name], old] if below else [old, more[name]], axis=2)
            for name, old in losses.items()
        }
    return {"rates": rates, **losses}

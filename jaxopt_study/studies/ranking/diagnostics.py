"""The ranking's diagnostics: how often does an optimizer reach the minimum of a surface of two numbers?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxopt_study.backends import Backend
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.results import Results
from jaxopt_study.bench.task import Skipped, Task, Value
from jaxopt_study.data.workload import Workload
from jaxopt_study.report.table import Table
from jaxopt_study.studies.experiment import Experiment, Row, Rows
from jaxopt_study.studies.ranking import points

SURFACES = "surfaces"
"""The backend's module of surfaces; only JAX has it."""
STEPS, STARTS = 1000, {"smoke": 100, "default": 1000, "full": 1000}


class Diagnostics(Experiment):
    """Each optimizer on all surfaces, from the same starts, at every learning rate of its grid."""

    study, name = "ranking", "diagnostics"

    def groups(self, plan: Plan) -> list[Group]:
        """Return one group for each optimizer, in JAX alone."""
        if "jax" not in plan.frameworks:
            return []
        cases = [self.case(name, "jax", "vmapped") for name in points.optimizers(plan)]
        return [Group((case,), repeats=0, distributed=True) for case in cases]

    def runs(self, case: Case, plan: Plan) -> int:
        """Return how many descents start on each surface."""
        return points.size(plan).rates * STARTS[plan.profile]

    def task(self, backend: Backend, case: Case, workload: Workload, plan: Plan) -> Task:
        """Return all runs of one optimizer: rates x starts, each on all surfaces."""
        optimizer = case.subject
        if optimizer in points.OPTIMIZERS and points.OPTIMIZERS[optimizer].matrices:
            raise Skipped("a point of two numbers is no matrix")
        module = getattr(backend, SURFACES)
        surfaces: Mapping[str, Any] = module.SURFACES
        load, generator = backend.runtime.from_numpy, np.random.default_rng(plan.seed)
        shape = (STARTS[plan.profile], 2)
        starts = {name: load(s.box * generator.uniform(-1, 1, shape)) for name, s in surfaces.items()}
        rates = points.grid(points.default_rate(optimizer, plan), points.size(plan).rates)
        run = module.descend(backend.more_optimizers.OPTIMIZERS[optimizer], STEPS)

        def train(_: Any) -> Iterator[Any]:
            yield backend.runtime.wait(run(starts, load(rates)))

        def export(last: Any) -> Value:
            values = {name: backend.runtime.to_numpy(of_surface) for name, of_surface in last.items()}
            passed = {name: (value <= surfaces[name].passed).sum(axis=1) for name, value in values.items()}
            limits = np.array([surfaces[name].passed for name in passed])
            return {"rates": rates, "limits": limits, **passed}

        return Task(train, export)

    def summarize(self, case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
        """Keep at each rate how many starts reached the minimum of each surface."""
        return {name: array.tolist() for name, array in value.items()}

    def rows(self, results: Results, plan: Plan) -> Rows:
        """Return one row for each optimizer and surface."""
        starts = STARTS[plan.profile]
        return [
            {
                "optimizer": r.subject,
                "surface": name,
                "default": _rate(passed[len(passed) // 2], starts),
                "best": _rate(max(passed), starts),
                "best_rate": r.value["rates"][int(np.argmax(passed))],
                "limit": limit,
            }
            for r in self.records(results)
            if r.ok
            for (name, passed), limit in zip(list(r.value.items())[2:], r.value["limits"], strict=True)
        ]

    def tables(self, rows: Sequence[Row], plan: Plan) -> list[Table]:
        """Return the part of the starts that reached each minimum."""
        names = list(dict.fromkeys(row["surface"] for row in rows))
        limits = ", ".join({row["surface"]: f"{row['surface']} {row['limit']:g}" for row in rows}.values())
        lines = [
            (optimizer, *(f"{100 * row['default'][0]:.0f} / {100 * row['best'][0]:.0f}" for row in mine))
            for optimizer in dict.fromkeys(row["optimizer"] for row in rows)
            if (mine := [row for row in rows if row["optimizer"] == optimizer])
        ]
        notes = (
            f"Percent of {STARTS[plan.profile]} random starts that reached the minimum within {STEPS:,} steps: at the "
            "default learning rate / at the best one of the grid. "
            f"The 95 % interval reaches at most {100 * _widest(STARTS[plan.profile]):.0f} points to each side.",
            f"A run succeeds if its last value is at most: {limits}.",
        )
        return [Table("Surfaces of two numbers: success rate", ("optimizer", *names), lines, notes)]


def _rate(passed: int, starts: int) -> tuple[float, float, float]:
    """Return the part of the starts that passed, and its 95 % interval (Wilson)."""
    from scipy.stats import binomtest  # takes most of a second to load

    interval = binomtest(passed, starts).proportion_ci(method="wilson")
    return passed / starts, float(interval.low), float(interval.high)


def _widest(starts: int) -> float:
    part, low, _ = _rate(starts // 2, starts)
    return part - low

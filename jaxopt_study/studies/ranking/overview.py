"""The main job's short answer: is Adam best on the workload that it trains, untuned and tuned?"""

from __future__ import annotations

from collections.abc import Sequence

from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.finding import Finding
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.results import Results
from jaxopt_study.report.figure import Figure
from jaxopt_study.report.table import Table
from jaxopt_study.studies.experiment import Row
from jaxopt_study.studies.ranking import points, tables
from jaxopt_study.studies.ranking.beforehand import NATIVE
from jaxopt_study.studies.ranking.sweep import Sweep


class Overview(Sweep):
    """Each optimizer on the plan's workload, in JAX alone: the main job trains in both frameworks elsewhere."""

    name = "overview"

    def groups(self, plan: Plan) -> list[Group]:
        """Return one case for each optimizer, where a step is so small that the whole grid takes a second or two."""
        if not (plan.overview and plan.native and "jax" in plan.frameworks):
            return []
        names = [points.subject(optimizer, plan.workload) for optimizer in points.optimizers(plan)]
        return [Group((self.case(name, "jax", NATIVE),), repeats=0) for name in names]

    def skip(self, case: Case, records: Sequence[Record], plan: Plan) -> str | None:
        """Skip nothing: there is one way."""
        return None

    def findings(self, records: Sequence[Record], plan: Plan) -> list[Finding]:
        """Compare nothing: PyTorch makes none of these runs."""
        return []

    def tables(self, rows: Sequence[Row], plan: Plan) -> list[Table]:
        """Return the test losses in one table."""
        return [tables.short(rows, plan)] if rows else []

    def figures(self, results: Results, plan: Plan) -> list[Figure]:
        """Return none."""
        return []

    def verdict(self, rows: Sequence[Row], plan: Plan) -> str:
        """Say whether Adam has the least test loss."""
        return tables.short_verdict(rows)

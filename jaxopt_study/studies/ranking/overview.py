"""The main job's short answer: is Adam best on the workload that it trains, untuned and tuned?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.finding import Finding
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.results import Results
from jaxopt_study.report.figures import Figure
from jaxopt_study.report.table import Table, sentence
from jaxopt_study.studies.experiment import Row
from jaxopt_study.studies.ranking import points, tables
from jaxopt_study.studies.ranking.beforehand import NATIVE
from jaxopt_study.studies.ranking.rows import REFERENCE
from jaxopt_study.studies.ranking.statistics import BETTER, TIED
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
        return tables.of_workload(plan.workload, rows, plan)[:1] if rows else []

    def brief(self, rows: Sequence[Row], plan: Plan) -> list[Table]:
        """Return the medians alone, with the answer."""
        notes = tuple(map(sentence, self.verdict(rows, plan).splitlines()))
        done = sorted((row for row in rows if row["status"] == "ok"), key=lambda row: np.median(row["tuned_test"]))
        lines = [
            (
                row["optimizer"],
                f"{_standing(row, 'default')} at {row['default_rate']:g}",
                _standing(row, "tuned"),
                tables.tuned_rate(row),
            )
            for row in done
        ]
        title = f"Test loss, {plan.workload} ({tables.LEGEND})"
        return [Table(title, ("optimizer", "at the default rate", "tuned", "tuned rate"), lines, notes)] if done else []

    def figures(self, results: Results, plan: Plan) -> list[Figure]:
        """Return none."""
        return []

    def verdict(self, rows: Sequence[Row], plan: Plan) -> str:
        """Say whether Adam has the least test loss."""
        others = [row for row in rows if f"default_against_{REFERENCE}" in row]
        if not others:
            return ""
        parts = []
        for at, words in (("default", "at default learning rates"), ("tuned", "tuned")):
            standing = {row["optimizer"]: row[f"{at}_against_{REFERENCE}"] for row in others}
            better = [row for row in others if standing[row["optimizer"]] == BETTER]
            names = [row["optimizer"] for row in sorted(better, key=lambda row: np.median(row[f"{at}_test"]))]
            tied = TIED in standing.values()
            answer = f"worse than {' and '.join(names)}" if names else "tied for the best" if tied else "the best"
            parts.append(f"{answer} {words}")
        return f"by test loss, Adam is {', and '.join(parts)}"


def _standing(row: Row, at: str) -> str:
    """Return the median test loss, and how it stands against Adam's."""
    sign = tables.SIGNS.get(row.get(f"{at}_against_{REFERENCE}", ""), " ")
    return f"{tables.number(float(np.median(row[f'{at}_test'])))} {sign}"

"""How float32 differences grow over 13,470 steps: in training, and with the same gradients for both frameworks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from jaxopt_study.backends import Backend
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.finding import Finding, compare
from jaxopt_study.bench.record import Record, pack, unpack
from jaxopt_study.bench.results import Results
from jaxopt_study.bench.task import Task, Value
from jaxopt_study.data.workload import Workload
from jaxopt_study.dictionary.rules import translate
from jaxopt_study.report import charts
from jaxopt_study.report import table as text
from jaxopt_study.report.axes import Axis
from jaxopt_study.report.figures import Figure
from jaxopt_study.report.table import Table
from jaxopt_study.studies.dictionary import bounds, paths
from jaxopt_study.studies.dictionary.paths import FIRST, METHODS, ROWS, Differences, Trainer
from jaxopt_study.studies.experiment import Experiment, Row, Rows

STEPS = 13_470

NOTES = (
    "Trained: on digits, each framework with its own gradients. Replayed: random gradients, the same for both; "
    "the optimizer's arithmetic alone, which is held to a bound.",
    "Rounding of the gradients: where a row is almost surely right, the gradient of its class is p - 1, and the two "
    "softmax round it to float32 numbers 1.2e-7 apart, which is 2 % of 5e-6. A rule that divides by the size of rare "
    "gradients makes that 2 % of a step: the parameters that differ are those of pixels that are lit in 3 of 898 rows. "
    "SparseAdam leaves a class out where its gradient is 0, which by underflow it can be in one framework alone.",
)


class Growth(Experiment):
    """The first row of each class in float32, in profile full.

    Args:
        steps: Steps made.
    """

    study, name = "dictionary", "growth"

    def __init__(self, steps: int = STEPS) -> None:
        # Evenly on a logarithmic axis.
        self.steps = tuple(int(step) for step in np.unique(np.geomspace(1, steps, 17).round().astype(int)))

    def groups(self, plan: Plan) -> list[Group]:
        """Return one group for each class; L-BFGS is not trained row by row."""
        rows = [row for row in FIRST if row.name != "LBFGS"] if plan.profile == "full" else []
        return [Group(tuple(self.case(r.key, f, METHODS[f]) for f in plan.frameworks), 0, together=True) for r in rows]

    def task(self, backend: Backend, case: Case, workload: Workload, plan: Plan) -> Task:
        """Return the training and the replay of one row, and in PyTorch the training from moved parameters."""
        paths.require_pinned(workload)
        trainer = Trainer(backend, case.framework, ROWS[case.subject], workload, plan.seed)

        def compute() -> Value:
            made = {"trained": trainer.path("digits", self.steps), "replayed": trainer.path("replay", self.steps)}
            if case.framework == "torch":
                made["moved"] = trainer.path("digits", self.steps, moved="float32")
            return made

        return paths.computed_in("float32", backend, plan, compute)

    def summarize(self, case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
        """Keep every parameter at the steps compared, and of the moved path its distance from the path itself."""
        kept: dict[str, Any] = {name: pack(value[name]) for name in ("trained", "replayed")}
        if "moved" in value:
            kept["moved"] = np.abs(value["moved"] - value["trained"]).max(axis=1).tolist()
        return kept

    def findings(self, records: Sequence[Record], plan: Plan) -> list[Finding]:
        """Hold the replayed parameters to a bound; a training also shows how the gradients are rounded."""
        what = f"replayed float32 parameters, {self.steps[-1]:,} steps"
        return [
            compare(
                what, (jax.case, torch.case), max(self._differences(jax, torch, "replayed").distance), _bound(subject)
            )
            for subject, jax, torch in paths.pairs(records)
        ]

    def rows(self, results: Results, plan: Plan) -> Rows:
        """Return one row for each class."""
        return [
            {
                "subject": subject,
                "name": ROWS[subject].name,
                "decays": translate(ROWS[subject].name, ROWS[subject].options).decays,
                "holds": results.agrees(jax),
                "trained": self._differences(jax, torch, "trained"),
                "replayed": self._differences(jax, torch, "replayed").distance,
            }
            for subject, jax, torch in paths.pairs(self.records(results))
        ]

    def tables(self, rows: Sequence[Row], plan: Plan) -> list[Table]:
        """Return the distances after the last step, and why they are what they are."""
        lines = [
            (
                row["subject"],
                "holds" if row["holds"] else "NO LONGER SO",
                text.number(row["trained"].distance[-1]),
                text.number(row["trained"].sensitivity[-1]),
                text.number(row["replayed"][-1]),
                _why(row),
            )
            for row in rows
        ]
        columns = ("torch.optim", "here", "trained", "sensitivity", "replayed", "why")
        title = f"float32: distances after {self.steps[-1]:,} steps"
        return [Table(title, columns, lines, NOTES, left=("here", "why"))]

    def figures(self, results: Results, plan: Plan) -> list[Figure]:
        """Return how the distances grow: in training, and with the same gradients for both frameworks."""
        rows = self.rows(results, plan)
        if not rows:
            return []
        steps, step = f"{self.steps[-1]:,} steps in float32", Axis("step", log=True)
        distance = Axis("largest difference of a parameter", log=True)
        trained = {row["name"]: row["trained"].distance for row in rows}
        replayed = {row["name"]: row["replayed"] for row in rows}
        rounding = {row["name"]: row["trained"].sensitivity for row in rows}
        return [
            Figure(
                "float32_trained",
                f"Rounding in training: {steps}",
                "On digits, each framework with its own gradients. Beside it, what one unit in the last place of the "
                "initial parameters changes in one framework. What has no line is equal to the last bit.",
                partial(charts.lines, self._points(trained, rounding), step, distance, dots=False),
            ),
            Figure(
                "float32_replayed",
                f"Rounding of the optimizers alone: {steps}",
                "The same gradients for both frameworks. What has no panel is equal to the last bit.",
                partial(charts.lines, self._points(replayed, {}), step, distance, dots=False, context=True),
            ),
        ]

    def _differences(self, jax: Record, torch: Record, name: str) -> Differences:
        moved = torch.value["moved"] if name == "trained" else None
        return paths.differences(unpack(jax.value[name]), unpack(torch.value[name]), moved, self.steps)

    def _points(
        self, differ: Mapping[str, Sequence[float]], rounding: Mapping[str, Sequence[float]]
    ) -> list[dict[str, Any]]:
        """Return a panel for each class, that which differs most first."""
        order = sorted(differ, key=lambda name: -differ[name][-1])
        return [
            {"x": step, "y": distance, "panel": name, "group": group}
            for name in order
            for group, found in (("between the frameworks", differ), ("sensitivity to rounding", rounding))
            for step, distance in zip(self.steps, found.get(name, ()), strict=False)
        ]


def _bound(subject: str) -> float:
    return bounds.float32_bound(translate(ROWS[subject].name, ROWS[subject].options))


def _why(row: Row) -> str:
    if row["name"] == "Muon":
        return "torch iterates in bfloat16: another order of summation flips its bits"
    if row["decays"]:
        return "torch rounds 1 - lr weight_decay (ASGD: lambd), alike at every step: the distance grows as the steps"
    trained, replayed = row["trained"].distance[-1], row["replayed"][-1]
    if trained == replayed == 0:
        return "equal to the last bit"
    return "rounding of the gradients" if trained > 10 * max(replayed, row["trained"].sensitivity[-1]) else "rounding"

"""What changes with the installed versions: known upstream defects, and which optimizers there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxopt_study.backends import Backend
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.results import Results
from jaxopt_study.bench.task import Task, Value
from jaxopt_study.data.workload import Workload
from jaxopt_study.dictionary.others import OPTAX, OPTAX_ALONE, TORCH
from jaxopt_study.report.table import Table
from jaxopt_study.studies.dictionary import paths
from jaxopt_study.studies.dictionary.paths import METHODS
from jaxopt_study.studies.experiment import Experiment, Row, Rows

WORDS = {
    "rprop_lags": "optax.rprop applies the update of the step before; its first is zero (optax pull request 1725)",
    "adadelta_climbs": "optax.adadelta() without a learning rate does not turn the sign: it climbs",
    "muon_gives_vectors_nesterov": "optax.contrib.muon trains vectors by NAdamW, since it hands its nesterov on",
    "rmsprop_keeps_the_learning_rate": "optax.rmsprop with momentum keeps old learning rates in its buffer",
    "schedules_in_float32": "under x64 optax's schedules still compute in float32, as an int32 count is divided",
    "asgd_lags": "torch.optim.ASGD uses a changed learning rate one step late",
    "nadam_keeps_default_dtype": "torch.optim.NAdam keeps its running product in the default type, not the parameters'",
    "adafactor_documents_another_decay": "torch.optim.Adafactor documents weight_decay=1e-2 by default, and has 0",
    "normalizations_lose_their_statistics": "torch.func.hessian takes normalizations' mean and deviation for constants",
}
KNOWN = {"jax": OPTAX, "torch": TORCH}


class Upstream(Experiment):
    """Of each framework: whether its known defects are still there, and the names of its optimizers."""

    study, name = "dictionary", "upstream"

    def groups(self, plan: Plan) -> list[Group]:
        """Return one group: what each framework is asked."""
        return [Group(tuple(self.case("installed", f, METHODS[f]) for f in plan.frameworks), 0, together=True)]

    def task(self, backend: Backend, case: Case, workload: Workload, plan: Plan) -> Task:
        """Return the answers of all probes, and the names."""

        def compute() -> Value:
            found = {name: np.array(probe()) for name, probe in backend.defects.DEFECTS.items()}
            return found | {"optimizers": np.array(backend.defects.optimizers())}

        return paths.computed_in("float64", backend, plan, compute)

    def summarize(self, case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
        """Keep each probe's answer, 1 where the defect is there, and the names."""
        return {name: answer.tolist() for name, answer in value.items()}

    def rows(self, results: Results, plan: Plan) -> Rows:
        """Return one row for each framework."""
        return [_row(r.framework, dict(r.value)) for r in self.records(results) if r.ok]

    def tables(self, rows: Sequence[Row], plan: Plan) -> list[Table]:
        """Return which defects are still there, and what optax alone has."""
        lines = [
            (WORDS.get(name, name), "still so" if there else "NO LONGER SO")
            for row in rows
            for name, there in row["defects"].items()
        ]
        alone = [(where, ", ".join(names)) for where, names in OPTAX_ALONE.items()]
        return [
            Table("Known defects of the frameworks, not of this table", ("defect", "here"), lines),
            Table("In optax alone: no counterpart in torch.optim", ("where", "names"), alone, left=("names",)),
        ]

    def verdict(self, rows: Sequence[Row], plan: Plan) -> str:
        """Name the defects that are gone, and the optimizers that are new to the dictionary or gone."""
        named = {
            "known defects that are gone": [
                name for row in rows for name, there in row["defects"].items() if not there
            ],
            "NEW, and not in the dictionary": [name for row in rows for name in row["new"]],
            "in the dictionary, but gone": [name for row in rows for name in row["gone"]],
        }
        return "; ".join(f"{words}: {', '.join(names)}" for words, names in named.items() if names)


def _row(framework: str, answers: dict[str, Any]) -> dict[str, Any]:
    names = set(answers.pop("optimizers"))
    known = KNOWN[framework]
    defects = {name: bool(there) for name, there in answers.items()}
    return {
        "framework": framework,
        "defects": defects,
        "new": sorted(names - known),
        "gone": sorted(known - names),
    }

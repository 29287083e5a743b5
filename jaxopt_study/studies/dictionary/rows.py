"""Every configuration of torch.optim in the table: its expression in optax against torch itself, in float64."""

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
from jaxopt_study.dictionary import TABLE, build
from jaxopt_study.dictionary.rules import translate
from jaxopt_study.dictionary.table import Row as TableRow
from jaxopt_study.report.table import Table
from jaxopt_study.studies.dictionary import bounds, paths, tables
from jaxopt_study.studies.dictionary.paths import FIRST, METHODS, REPLAYS, ROWS, WHAT, Differences, Trainer
from jaxopt_study.studies.experiment import Experiment, Row, Rows

# After how many steps parameters are compared, by profile.
STEPS: dict[str, tuple[int, ...]] = {
    "smoke": (1, 2, 10, 100),
    "default": (1, 2, 10, 100, 1000),
    "full": (1, 2, 10, 100, 1000),
}
MLP_STEPS = STEPS | {"default": (1, 2, 10, 100)}
LBFGS_STEPS = (1, 2, 10, 50)


class Configurations(Experiment):
    """The rows of the dictionary, each in both frameworks from the same NumPy arrays."""

    study, name = "dictionary", "configurations"

    def groups(self, plan: Plan) -> list[Group]:
        """Return one group for each row; in profile smoke, for each class's first row."""
        rows = FIRST if plan.profile == "smoke" else TABLE
        return [Group(tuple(self.case(r.key, f, METHODS[f]) for f in plan.frameworks), 0, together=True) for r in rows]

    def task(self, backend: Backend, case: Case, workload: Workload, plan: Plan) -> Task:
        """Return the paths of one row; no time is shown, so that one lap makes them all."""
        paths.require_pinned(workload)
        trainer = Trainer(backend, case.framework, ROWS[case.subject], workload, plan.seed)
        searches = trainer.row.options.get("line_search_fn")
        compute = trainer.search if searches else partial(_compute, trainer, plan)
        return paths.computed_in("float64", backend, plan, compute)

    def summarize(self, case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
        """Keep every parameter at the steps compared, and of a moved path its distance from the path itself."""
        if "losses" in value:
            return {name: array.tolist() for name, array in value.items()}
        return {
            name: np.abs(path - value[name.removesuffix(" moved")]).max(axis=1).tolist()
            if name.endswith(" moved")
            else pack(path)
            for name, path in value.items()
        }

    def findings(self, records: Sequence[Record], plan: Plan) -> list[Finding]:
        """Compare the two frameworks' paths of each row."""
        return [f for _, jax, torch in paths.pairs(records) for f in _compare(jax, torch, plan)]

    def rows(self, results: Results, plan: Plan) -> Rows:
        """Return one row for each configuration."""
        records = self.records(results)
        found = {subject: (jax, torch) for subject, jax, torch in paths.pairs(records)}
        return [
            _row(subject, [r for r in records if r.subject == subject], results)
            | (_differences(*found[subject], plan) if subject in found else {})
            for subject in dict.fromkeys(r.subject for r in records)
        ]

    def tables(self, rows: Sequence[Row], plan: Plan) -> list[Table]:
        """Return the dictionary in short, the code to copy, every configuration, and the distances step by step."""
        return tables.dictionary(rows)

    def verdict(self, rows: Sequence[Row], plan: Plan) -> str:
        """Say how many rows hold."""
        compared = [row["holds"] for row in rows if row["holds"] is not None]
        return f"{sum(compared)} of {len(compared)} lines of the dictionary hold on these versions" if compared else ""


def steps_of(row: TableRow, name: str, plan: Plan) -> tuple[int, ...]:
    """Return after how many steps the parameters of `replay`, `schedule`, `digits` or `mlp` are compared."""
    if row.name == "LBFGS":
        return LBFGS_STEPS
    return (MLP_STEPS if name == "mlp" else STEPS)[plan.profile]


def _compute(trainer: Trainer, plan: Plan) -> Value:
    """Make all paths of a row: in PyTorch the moved ones as well, in JAX that of the optax function of its name."""
    made, row = {}, trainer.row
    fed_back = bounds.fed_back(translate(row.name, row.options))
    for name in _names(row, plan):
        steps = steps_of(row, name, plan)
        made[name] = trainer.path(name, steps)
        if trainer.framework == "torch" and (fed_back or name not in REPLAYS):
            made[f"{name} moved"] = trainer.path(name, steps, moved="float64")
    if trainer.framework == "jax" and row.namesake and plan.profile != "smoke":
        made["namesake"] = trainer.train(build(row.namesake), "digits", steps_of(row, "digits", plan))
    return made


def _names(row: TableRow, plan: Plan) -> list[str]:
    """Return which paths a row gets: all of them, but fewer in profile smoke."""
    if row.name == "LBFGS":  # it takes the same function at each step, and so has no gradients to replay
        return ["digits"] if plan.profile == "smoke" else ["digits", "mlp"]
    return ["schedule", "digits"] if plan.profile == "smoke" else list(WHAT)


def _compare(jax: Record, torch: Record, plan: Plan) -> list[Finding]:
    cases, row = (jax.case, torch.case), ROWS[jax.subject]
    found = _differences(jax, torch, plan)
    if "search" in found:
        (ours, theirs), counts = found["search"], found["evaluations"]
        distance, ratio = abs(ours - theirs) / torch.value["losses"][0], max(counts) / min(counts)
        note = tables.searched(found)
        return [
            compare("final losses, relative to the first,", cases, distance, bounds.SEARCH_LOSS.bound, note),
            compare("evaluations of the loss, as a factor,", cases, ratio, bounds.SEARCH_EVALUATIONS.bound, note),
        ]
    translation = translate(row.name, row.options)
    made = []
    for name in WHAT:
        if name in REPLAYS and name in found:
            bound = bounds.replay_bound(translation, found[name].sensitivity)
            made.append(compare(WHAT[name], cases, max(found[name].distance), bound))
        elif name in found:
            allowed = bounds.trained_bounds(translation, found[name].sensitivity)
            # One step stands for all: the one that is nearest to its bound.
            worst = int(np.argmax(np.array(found[name].distance) / allowed))
            note = _note(found[name], worst)
            made.append(compare(WHAT[name], cases, found[name].distance[worst], allowed[worst], note))
    return made


def _note(found: Differences, worst: int) -> str:
    note = f"at step {found.steps[worst]}, the nearest to its bound"
    if found.sensitivity[-1] > bounds.CHAOTIC:
        note += (
            f"; chaotic at step {found.steps[-1]}: one unit in the last place changes PyTorch's own parameters by "
            f"{found.sensitivity[-1]:.1e}"
        )
    return note


def _differences(jax: Record, torch: Record, plan: Plan) -> dict[str, Any]:
    """Return the differences of each pair of paths, or where two line searches ended."""
    row = ROWS[jax.subject]
    if "losses" in jax.value:
        ends = [(min(r.value["losses"]), r.value["evaluations"][-1]) for r in (jax, torch)]
        return {"search": [loss for loss, _ in ends], "evaluations": [count for _, count in ends]}
    found = {
        name: paths.differences(
            unpack(jax.value[name]),
            unpack(torch.value[name]),
            torch.value.get(f"{name} moved"),
            steps_of(row, name, plan),
        )
        for name in WHAT
        if name in jax.value
    }
    if "namesake" in jax.value:
        ours, theirs = unpack(jax.value["namesake"]), unpack(torch.value["digits"])
        found["namesake"] = paths.differences(ours, theirs, None, steps_of(row, "digits", plan))
    return found


def _row(subject: str, records: Sequence[Record], results: Results) -> dict[str, Any]:
    translation = translate(ROWS[subject].name, ROWS[subject].options)
    return {
        "subject": subject,
        "name": translation.name,
        "expression": translation.expression,
        "class": translation.status,
        "reason": translation.reason,
        "condition": translation.condition,
        "holds": results.agrees(records[0]),
        "missing": "; ".join(f"{r.status}: {r.reason}" for r in records if not r.ok),
    }

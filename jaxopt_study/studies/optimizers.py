"""Do the frameworks train alike with the notebook's optimizers, and what does a step cost in each?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from jaxopt_study.backends import Backend
from jaxopt_study.bench import stats
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.finding import Finding, compare
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.results import Results
from jaxopt_study.bench.task import Task, Value
from jaxopt_study.data.workload import Array, Workload, next_up, ravel
from jaxopt_study.report import answers, charts
from jaxopt_study.report import table as text
from jaxopt_study.report.axes import Axis
from jaxopt_study.report.figures import Figure
from jaxopt_study.report.looks import LABELS
from jaxopt_study.report.table import ABSENT, Table
from jaxopt_study.studies import best, trained
from jaxopt_study.studies.experiment import Experiment, Row, Rows, Study
from jaxopt_study.studies.registry import OPTIMIZERS, row_of
from jaxopt_study.studies.tolerances import BEGINNING, Bound, notebooks, pinned
from jaxopt_study.terminal import counted

SENSITIVITIES = 100
"""Where the bounds were not measured, two frameworks may differ by so many times a run's sensitivity: its distance from
itself after one unit in the last place of the initial parameters."""
CHAOTIC = 1e-4
"""Where the sensitivity is more than this, training is chaotic, and curves cannot tell."""
MAIN_COLUMNS = ("loop", "per step", "PyTorch / JAX [95 %]", "per run")
"""What a narrow terminal shows of the table of times."""
FIRST_STEPS = 10
"""Chaos needs steps to grow: the losses of the first ones must agree all the same."""


@dataclass(frozen=True)
class Method:
    """A framework's way to loop in this study.

    Attributes:
        loop: The function of the backend's `loops`.
        words: What the reader is told.
        lap: `run`, or `epoch` where a whole run takes seconds.
        moved: Whether its export runs once more from parameters moved by one unit in the last place.
    """

    loop: str
    words: str
    lap: str
    moved: bool


METHODS = {
    "jax": Method("native_scan", "the run in one function", lap="run", moved=True),
    "torch": Method("notebook", "the notebook as written", lap="epoch", moved=False),
}
OVERVIEW = METHODS | {"torch": Method("quickest", "rows prepared, fused", lap="epoch", moved=False)}
"""Those of the main job, whose ladder has the notebook's loop."""


def method_of(framework: str, plan: Plan) -> Method:
    """Return the way to loop: `scan` where XLA makes no native function of a step."""
    method = (OVERVIEW if plan.overview else METHODS)[framework]
    return method if plan.native or method.loop != "native_scan" else replace(method, loop="scan")


class Optimizers(Experiment):
    """The same training in both frameworks, one optimizer per group."""

    study = name = "optimizers"

    def groups(self, plan: Plan) -> list[Group]:
        """Return one group for each optimizer: its frameworks in the same rounds."""
        return [
            Group(tuple(self.case(name, f, method_of(f, plan).loop) for f in plan.frameworks), plan.repeats)
            for name in plan.optimizers
        ]

    def task(self, backend: Backend, case: Case, workload: Workload, plan: Plan) -> Task:
        """Return the training of one optimizer, from the workload's initial parameters, in the order of its rows."""
        method = method_of(case.framework, plan)
        model = trained.model(backend, workload.network)
        optimizer = trained.optimizer(backend, case.framework, case.subject, plan)
        loop = getattr(backend.loops, method.loop)(model, optimizer, trained.output_loss(backend, workload, plan))
        from_tree, to_tree = trained.conversion(backend, case.framework, workload.network)
        data = tuple(loop.load(array) for array in workload.train)
        epochs = [workload.steps] if method.lap == "run" else list(workload.order)
        orders = [loop.load(order) for order in epochs]
        score = "r2" if workload.regression else "accuracy"

        def start(params: Any) -> Any:
            return backend.runtime.wait(loop.init(params))

        def train(state: Any) -> Iterator[tuple[Any, list[Any]]]:
            losses: list[Any] = []
            for order in orders:
                state, lap_losses = backend.runtime.wait(loop.run(state, data, order))
                losses.append(lap_losses)
                yield state, losses

        def export(output: tuple[Any, list[Any]]) -> Value:
            state, losses = output
            value = {
                "losses": _by_epoch(losses, workload),
                "params": ravel(to_tree(state.params)),
            }
            for name in PARTS:
                if (rows := getattr(workload, name)) is not None:
                    outputs = _outputs(backend, model, state.params, rows[0])
                    value[f"{name}_{score}"] = SCORES[score](outputs, rows[1])
                    if name == "test" and not workload.regression:
                        value["test_missed"] = np.flatnonzero(_predicted(outputs) != rows[1])
            if method.moved:
                moved = from_tree(next_up(workload.params, plan.dtype))
                *_, (moved_state, moved_losses) = train(start(moved))
                value["moved_losses"] = _by_epoch(moved_losses, workload)
                value["moved_params"] = ravel(to_tree(moved_state.params))
            return value

        params = from_tree(workload.params)
        return Task(train, export, laps=len(orders), steps=len(epochs[0]), start=lambda: start(params))

    def summarize(self, case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
        """Keep each epoch's mean loss, the first steps' losses, the final parameters, the accuracies."""
        losses = value["losses"]
        (not_finite,) = np.nonzero(~np.isfinite(losses.ravel()))
        kept = {
            "epoch_losses": losses.mean(axis=1).tolist(),
            "first_losses": losses.ravel()[:FIRST_STEPS].tolist(),
            "params": value["params"].tolist(),
            **{name: float(score) for name, score in value.items() if name.endswith(tuple(SCORES))},
            **({"test_missed": value["test_missed"].tolist()} if "test_missed" in value else {}),
            "diverged_at_step": int(not_finite[0]) if len(not_finite) else -1,
        }
        if "moved_losses" in value:
            kept["moved_epoch_losses"] = value["moved_losses"].mean(axis=1).tolist()
            kept["moved_first_losses"] = value["moved_losses"].ravel()[:FIRST_STEPS].tolist()
            kept["moved_params"] = value["moved_params"].tolist()
        return kept

    def findings(self, records: Sequence[Record], plan: Plan) -> list[Finding]:
        """Compare the two frameworks' runs of each optimizer."""
        pairs = [_pair(records, name) for name in plan.optimizers]
        return [finding for jax, torch in pairs if jax and torch for finding in _compare(jax, torch, plan)]

    def rows(self, results: Results, plan: Plan) -> Rows:
        """Return one row for each optimizer and framework."""
        records = self.records(results)
        good = {f: best.as_good(r for r in records if r.framework == f) for f in plan.frameworks}
        return [
            _row(r, _pair(records, r.subject), results) | {"as_good": good[r.framework].get(r.subject)} for r in records
        ]

    def tables(self, rows: Sequence[Row], plan: Plan) -> list[Table]:
        """Return what was learned, and what it took."""
        return [_learned(rows, plan), _took(rows, plan)]

    def figures(self, results: Results, plan: Plan) -> list[Figure]:
        """Return the loss of each epoch, and the time of each step."""
        trained = [r for r in self.records(results) if r.ok]
        if not trained:
            return []
        times = [answers.timed(r.subject, r) for r in trained if results.shows(r)]
        epochs, loss = Axis("epoch"), Axis("mean training loss", log=True)
        return [
            Figure(
                "loss_per_epoch",
                "Training loss by optimizer",
                "Mean training loss of each epoch. Where the frameworks agree, JAX's points lie in PyTorch's squares.",
                partial(charts.lines, _losses(trained), epochs, loss),
            ),
            Figure(
                "time_per_step",
                "Time per training step",
                f"Median of the samples, with their interquartile range. {_loops(plan)}.",
                partial(charts.points, times, Axis("time per step", "s", log=True)),
            ),
        ]

    def verdict(self, rows: Sequence[Row], plan: Plan) -> str:
        """Say which optimizer is best here, and how much faster one loop is than the other over all optimizers."""
        return "\n".join([*best.sentences(rows), *([] if plan.overview else best.speed(rows, _loops(plan)))])

    def brief(self, rows: Sequence[Row], plan: Plan) -> list[Table]:
        """Return one line for each optimizer."""
        return best.tables(rows, plan, f"{_loops(plan)}.")


OPTIMIZERS_STUDY = Study(
    "Optimizers: do the frameworks train alike, and what does a step cost?",
    (Optimizers(),),
    "Each optimizer trains the same network on the same rows in the same order in both frameworks; losses and "
    "parameters are compared, then a step is timed.",
)


def _loops(plan: Plan) -> str:
    """Return the loops of this study in words."""
    return "; ".join(f"{LABELS[f]}: {method_of(f, plan).words}" for f in plan.frameworks)


def _by_epoch(losses: list[Any], workload: Workload) -> Array:
    return np.concatenate([np.asarray(lap, dtype=float) for lap in losses]).reshape(workload.order.shape[:2])


def _outputs(backend: Backend, model: Any, params: Any, inputs: Array) -> Array:
    return backend.runtime.to_numpy(backend.models.predict(model)(params, backend.runtime.from_numpy(inputs)))


def _accuracy(outputs: Array, targets: Array) -> Array:
    """Return the part of the rows whose class is predicted; one output means class 1 where it is positive."""
    return np.mean(_predicted(outputs) == targets)


def _predicted(outputs: Array) -> Array:
    return outputs.argmax(axis=1) if outputs.shape[1] > 1 else outputs[:, 0] > 0


def _r2(outputs: Array, targets: Array) -> Array:
    """Return the part of the targets' variance that is explained; 0 for targets that are all equal."""
    squares = np.sum((targets - targets.mean()) ** 2)
    return 1 - np.sum((outputs[:, 0] - targets) ** 2) / squares if squares else np.zeros(())


PARTS = ("train", "validation", "test")
SCORES: dict[str, Callable[[Array, Array], Array]] = {"accuracy": _accuracy, "r2": _r2}
"""Ends of the names under which a record keeps how well the parts of a workload are predicted -> the measure."""
SCORE_WORDS = {
    "accuracy": "part of the rows whose class is predicted",
    "r2": "R², the part of the targets' variance that is explained",
}


def _pair(records: Sequence[Record], optimizer: str) -> tuple[Record | None, Record | None]:
    by_framework = {r.framework: r for r in records if r.subject == optimizer and r.ok}
    return by_framework.get("jax"), by_framework.get("torch")


def _compare(jax: Record, torch: Record, plan: Plan) -> list[Finding]:
    """Compare losses, parameters, the first steps, and where they diverge."""
    cases, bounds = (jax.case, torch.case), row_of(jax.subject).training[plan.dtype]
    measured = pinned(plan) and jax.subject in OPTIMIZERS
    sensitivity = stats.relative_distance(jax.value["moved_epoch_losses"], jax.value["epoch_losses"])
    moved = stats.scaled_distance(jax.value["moved_params"], jax.value["params"])
    loss = stats.relative_distance(jax.value["epoch_losses"], torch.value["epoch_losses"])
    params = stats.scaled_distance(jax.value["params"], torch.value["params"])
    first = stats.scaled_distance(jax.value["first_losses"], torch.value["first_losses"])
    first_losses = jax.value["first_losses"]
    moved_first = stats.scaled_distance(jax.value.get("moved_first_losses", first_losses), first_losses)
    begin = compare(
        f"losses of the first {FIRST_STEPS} steps", cases, first, _bound(BEGINNING[plan.dtype], moved_first, measured)
    )
    if sensitivity > CHAOTIC and loss > bounds.loss.bound and begin.agrees:
        note = f"chaotic training: one unit in the last place changes JAX's own losses by {sensitivity:.1e}"
        return [begin, Finding("loss per epoch", cases, loss, bounds.loss.bound, None, note)]
    step, other = (r.value["diverged_at_step"] for r in (jax, torch))
    found = [begin]
    if _any_finite(jax, torch, "epoch_losses"):
        found.append(compare("loss per epoch, relative", cases, loss, _bound(bounds.loss, sensitivity, measured)))
    if _any_finite(jax, torch, "params"):
        found.append(compare("final parameters", cases, params, _bound(bounds.params, moved, measured)))
    if (step, other) != (-1, -1):
        found.append(compare("step of divergence", cases, abs(step - other), 0))
    return found


def _any_finite(jax: Record, torch: Record, name: str) -> bool:
    """Say whether there is something to compare: where both trainings diverged, there may be nothing."""
    return bool(np.isfinite(np.array([*jax.value[name], *torch.value[name]], float)).any())


def _bound(bound: Bound, sensitivity: float, measured: bool) -> float:
    """Return the bound; where it was not measured on such a training, what the sensitivity allows if that is more."""
    return bound.bound if measured else max(bound.bound, SENSITIVITIES * sensitivity)


def _row(record: Record, pair: tuple[Record | None, Record | None], results: Results) -> dict[str, Any]:
    jax, torch = pair
    row: dict[str, Any] = {
        "optimizer": record.subject,
        "framework": record.framework,
        "loop": record.method,
        "status": record.status,
        "reason": record.reason,
        "agrees": results.agrees(record),
        "torch_over_jax": results.ratio(torch, jax) if record is jax else None,
    }
    if not record.ok:
        return row
    if jax and torch:
        row["loss_distance"] = stats.relative_distance(jax.value["epoch_losses"], torch.value["epoch_losses"])
    row |= {
        "final_loss": record.value["epoch_losses"][-1],
        **{name: value for name, value in record.value.items() if name.endswith(tuple(SCORES))},
        "diverged_at_step": record.value["diverged_at_step"],
    }
    if results.shows(record):
        row |= {
            "first_seconds": record.first_seconds,
            "step_seconds": record.seconds,
            "run_seconds": record.seconds * record.run_steps,
            "spread": stats.spread(record.step_seconds),
        }
    return row


def _learned(rows: Sequence[Row], plan: Plan) -> Table:
    scores = [f"{part}_{end}" for end in SCORES for part in PARTS if any(f"{part}_{end}" in row for row in rows)]
    columns = ["optimizer", "in", "final loss", "max. difference", *(name.partition("_")[0] for name in scores)]
    lines = [_learned_line(row, scores) for row in rows]
    if notebooks(plan):
        columns.insert(3, "notebook")
        for row, line in zip(rows, lines, strict=True):
            line.insert(3, ", ".join(map(str, row_of(row["optimizer"]).notebook)) or ABSENT)
    words = next((words for end, words in SCORE_WORDS.items() if scores and scores[0].endswith(end)), "")
    parts = ", ".join(name.partition("_")[0] for name in scores).capitalize()
    notes = (
        "Final loss: mean training loss of the last epoch. Max. difference: the largest relative difference of an "
        "epoch's loss between the frameworks." + (f" {parts}: {words}." if words else ""),
    )
    title = (
        f"What was learned: {plan.workload}, {counted(plan.epochs, 'epoch')}, {plan.rows_per_step}, "
        f"learning rate {plan.learning_rate:g}, {plan.dtype}"
    )
    return Table(title, tuple(columns), [tuple(line) for line in lines], notes)


def _learned_line(row: Row, scores: Sequence[str]) -> list[str]:
    name = [row["optimizer"], row["framework"]]
    if row["status"] != "ok":
        return [*name, row["status"], row["reason"], *(ABSENT for _ in scores)]
    diverged = row["diverged_at_step"]
    loss = _loss(row["final_loss"]) if diverged < 0 else f"diverged at step {diverged + 1}"
    return [*name, loss, _agreement(row), *(f"{row[score]:.4f}" for score in scores)]


def _loss(value: float) -> str:
    return f"{value:.6f}" if value < 1e4 else f"{value:.4e}"


def _agreement(row: Row) -> str:
    if "loss_distance" not in row:
        return ABSENT
    return text.number(row["loss_distance"]) + {True: "", False: ": DISAGREE", None: ": chaotic"}[row["agrees"]]


NOTE_ON_ONE_ROW = (
    "Each step sees one row. For a small network almost all of its time is then call overhead, and the ratio compares "
    "ways of looping, not frameworks.",
)


def _took(rows: Sequence[Row], plan: Plan) -> Table:
    lines = []
    for row in rows:
        times = [ABSENT] * 5
        if row["agrees"] is False:
            times[1] = "withheld: values disagree"
        elif row["status"] == "ok":
            times = [
                text.seconds(row["first_seconds"]),
                text.seconds(row["run_seconds"]),
                text.seconds(row["step_seconds"]),
                text.spread(row["spread"]),
                text.ratio(row["torch_over_jax"]),
            ]
        lines.append((row["optimizer"], f"{row['framework']} {row['loop']}", *times))
    notes = (
        "First call: compilation included. For JAX, it runs all epochs; for PyTorch, the first epoch, and with the "
        "very first optimizer it loads torch._dynamo (over a second). Per run, per step: medians of "
        f"{counted(plan.repeats, 'sample')}. IQR: their interquartile range, relative to the median.",
        *(NOTE_ON_ONE_ROW if plan.batch_size == 1 else ()),
        *text.flags(row["torch_over_jax"] for row in rows),
    )
    cores = counted(plan.threads, "core")
    columns = ("optimizer", "loop", "first call", "per run", "per step", "IQR", "PyTorch / JAX [95 %]")
    return Table(f"What it took: {plan.rows_per_step}, on {cores}", columns, lines, notes, main=MAIN_COLUMNS)


def _losses(records: Sequence[Record]) -> list[dict[str, Any]]:
    return [
        {"x": epoch, "y": loss, "panel": r.subject, "group": LABELS[r.framework], "case": r.case.key}
        for r in records
        for epoch, loss in enumerate(r.value["epoch_losses"], 1)
    ]

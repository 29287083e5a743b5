"""Do the frameworks train alike with the notebook's optimizers, and what does a step cost in each?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxopt_study.bench import stats
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.finding import Finding
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.report import table as text
from jaxopt_study.bench.report.figure import COLOURS, Figure
from jaxopt_study.bench.report.table import ABSENT, Table
from jaxopt_study.bench.task import Task, Value
from jaxopt_study.bench.workload import Array, ParameterTree, Workload, ravel
from jaxopt_study.studies.tolerances import BEGINNING, TRAINING

QUESTION = "Optimizers: do the frameworks train alike, and what does a step cost?"

OPTIMIZERS = ("adam", "rmsprop", "sgd", "adagrad")

# The final epoch's mean training loss that the notebook printed.
NOTEBOOK = {"adam": (0.0099, 0.0098), "rmsprop": (0.0181,), "sgd": (0.0246,), "adagrad": (1.4305,)}

# The learning rate at which the bounds were pinned. At another one, two frameworks may part by so many times a run's
# sensitivity: its distance from itself after one unit in the last place of the initial parameters. Where that is
# more than CHAOTIC, curves cannot tell.
PINNED_LEARNING_RATE = 1e-3
SENSITIVITIES = 100
CHAOTIC = 1e-4
# Chaos needs steps to grow: the losses of the first ones must agree all the same.
FIRST_STEPS = 10


@dataclass(frozen=True)
class Arm:
    """A framework's way to loop in this study.

    Attributes:
        loop: The function of the wing's `training`.
        words: What the reader is told.
        lap: `run`, or `epoch` where a whole run takes seconds.
        moved: Whether its export runs once more from parameters moved by one unit in the last place.
    """

    framework: str
    loop: str
    words: str
    lap: str
    moved: bool


ARMS = {
    "jax": Arm("jax", "whole_scan", "the whole run in one compiled function", lap="run", moved=True),
    "torch": Arm("torch", "notebook", "the notebook's loop", lap="epoch", moved=False),
}


def groups(plan: Plan) -> list[Group]:
    """Return one group for each optimizer: its frameworks in turn."""
    return [
        Group(tuple(Case("optimizers", name, f, ARMS[f].loop) for f in plan.frameworks), plan.repeats)
        for name in plan.optimizers
    ]


def task(wing: Any, case: Case, workload: Workload, plan: Plan) -> Task:
    """Return the training of one optimizer, from the workload's initial parameters, in the order of its rows."""
    arm = ARMS[case.framework]
    model = wing.models.network(workload.widths)
    optimizer = wing.optimizers.OPTIMIZERS[case.subject](plan.learning_rate)
    loop = getattr(wing.loops, arm.loop)(model, optimizer)
    data = tuple(loop.load(array) for array in workload.train)
    epochs = [workload.order.ravel()] if arm.lap == "run" else list(workload.order)
    orders = [loop.load(order) for order in epochs]

    def start(params: Any) -> Any:
        return wing.runtime.block(loop.init(params))

    def train(state: Any) -> Iterator[tuple[Any, list[Any]]]:
        losses: list[Any] = []
        for order in orders:
            state, lap_losses = wing.runtime.block(loop.run(state, data, order))
            losses.append(lap_losses)
            yield state, losses

    def export(output: tuple[Any, list[Any]]) -> Value:
        state, losses = output
        value = {"losses": _by_epoch(losses, workload), "params": ravel(wing.runtime.params_to_numpy(state.params))}
        for name, rows in (("train", workload.train), ("test", workload.test)):
            value[f"{name}_accuracy"] = _accuracy(wing, model, state.params, rows)
        if arm.moved:
            moved = wing.runtime.params_from_numpy(_move(workload.params, plan.dtype))
            *_, (moved_state, moved_losses) = train(start(moved))
            value["moved_losses"] = _by_epoch(moved_losses, workload)
            value["moved_params"] = ravel(wing.runtime.params_to_numpy(moved_state.params))
        return value

    params = wing.runtime.params_from_numpy(workload.params)
    return Task(train, export, laps=len(orders), steps=len(epochs[0]), start=lambda: start(params))


def path(wing: Any, case: Case, workload: Workload, plan: Plan) -> Iterator[ParameterTree]:
    """Yield the parameters after each single step, for `parity.first_difference`; slow, since each step returns."""
    model = wing.models.network(workload.widths)
    optimizer = wing.optimizers.OPTIMIZERS[case.subject](plan.learning_rate)
    loop = getattr(wing.loops, case.method)(model, optimizer)
    data = tuple(loop.load(array) for array in workload.train)
    state = loop.init(wing.runtime.params_from_numpy(workload.params))
    for row in workload.order.ravel():
        state, _ = loop.run(state, data, loop.load(np.array([row])))
        yield wing.runtime.params_to_numpy(state.params)


def condense(case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
    """Keep each epoch's mean loss, the first steps' losses, the final parameters, the accuracies."""
    del case, workload, plan
    losses = value["losses"]
    (not_finite,) = np.nonzero(~np.isfinite(losses.ravel()))
    kept = {
        "epoch_losses": losses.mean(axis=1).tolist(),
        "first_losses": losses.ravel()[:FIRST_STEPS].tolist(),
        "params": value["params"].tolist(),
        "train_accuracy": float(value["train_accuracy"]),
        "test_accuracy": float(value["test_accuracy"]),
        "diverged_at_step": int(not_finite[0]) if len(not_finite) else -1,
    }
    if "moved_losses" in value:
        kept["moved_epoch_losses"] = value["moved_losses"].mean(axis=1).tolist()
        kept["moved_params"] = value["moved_params"].tolist()
    return kept


def findings(records: Sequence[Record], plan: Plan) -> list[Finding]:
    """Compare the two frameworks' runs of each optimizer."""
    found = []
    for name in plan.optimizers:
        jax, torch = _pair(records, name)
        if jax is not None and torch is not None and jax.ok and torch.ok:
            found.append(_compare(name, jax, torch, plan))
    return found


def rows(records: Sequence[Record], plan: Plan) -> list[dict[str, Any]]:
    """Return one row for each optimizer and framework."""
    found = []
    agreed = {finding.subject: finding.agrees for finding in findings(records, plan)}
    for record in records:
        other = next((r for r in _pair(records, record.subject) if r not in (None, record)), None)
        found.append(_row(record, other, agreed.get(record.subject)))
    return found


def tables(rows: Sequence[Mapping[str, Any]], plan: Plan) -> list[Table]:
    """Return what was learned, and what it took."""
    return [_learned(rows, plan), _took(rows, plan)]


def figures(records: Sequence[Record], plan: Plan) -> list[Figure]:
    """Return the loss of each epoch, and the time of each step."""
    trained = [record for record in records if record.ok]
    wrong = {finding.subject for finding in findings(records, plan) if finding.agrees is False}
    timed = [record for record in trained if record.subject not in wrong]
    if not trained:
        return []
    return [
        Figure(
            "loss_per_epoch",
            "Mean training loss of each epoch: JAX as a line, PyTorch as circles on it.",
            lambda axes: _draw_losses(axes, trained),
        ),
        Figure(
            "time_per_step",
            "Time per training step: median of the blocks, with their interquartile range.",
            lambda axes: _draw_times(axes, timed, plan),
        ),
    ]


def verdict(rows: Sequence[Mapping[str, Any]], plan: Plan) -> str:
    """Say how much faster which framework is, over all optimizers, and under what loop."""
    del plan
    ratios = [row["torch_over_jax"] for row in rows if row["torch_over_jax"] and np.isfinite(row["torch_over_jax"].low)]
    if not ratios:
        return ""
    low, high = min(ratio.low for ratio in ratios), max(ratio.high for ratio in ratios)
    loops = f"JAX: {ARMS['jax'].words}; PyTorch: {ARMS['torch'].words}; one row a step"
    if low <= 1 <= high:
        return f"no difference in speed between JAX and PyTorch in all optimizers alike ({loops})"
    faster, by = ("JAX", (low, high)) if low > 1 else ("PyTorch", (1 / high, 1 / low))
    return f"a step is {by[0]:.3g} to {by[1]:.3g} times faster in {faster} ({loops})"


def _by_epoch(losses: list[Any], workload: Workload) -> Array:
    return np.concatenate([np.asarray(lap, dtype=float) for lap in losses]).reshape(workload.order.shape)


def _accuracy(wing: Any, model: Any, params: Any, rows: tuple[Array, Array]) -> Array:
    inputs, targets = rows
    logits = wing.runtime.to_numpy(wing.models.predict(model)(params, wing.runtime.from_numpy(inputs)))
    return np.mean(logits.argmax(axis=1) == targets)


def _move(params: Any, dtype: str) -> Any:
    """Return the parameters, each moved up by one unit in the last place of `dtype`."""
    up = np.array(np.inf, dtype)
    return {
        layer: {name: np.nextafter(leaf.astype(dtype), up) for name, leaf in leaves.items()}
        for layer, leaves in params.items()
    }


def _pair(records: Sequence[Record], optimizer: str) -> tuple[Record | None, Record | None]:
    by_framework = {record.framework: record for record in records if record.subject == optimizer}
    return by_framework.get("jax"), by_framework.get("torch")


def _compare(name: str, jax: Record, torch: Record, plan: Plan) -> Finding:
    bounds = TRAINING[plan.dtype, name]
    sensitivity = stats.relative_distance(jax.value["moved_epoch_losses"], jax.value["epoch_losses"])
    loss = stats.relative_distance(jax.value["epoch_losses"], torch.value["epoch_losses"])
    params = stats.scaled_distance(jax.value["params"], torch.value["params"])
    first = stats.scaled_distance(jax.value["first_losses"], torch.value["first_losses"])
    first_bound = BEGINNING[plan.dtype].bound
    loss_bound, params_bound = bounds.loss.bound, bounds.params.bound
    if plan.learning_rate != PINNED_LEARNING_RATE:
        moved = stats.scaled_distance(jax.value["moved_params"], jax.value["params"])
        loss_bound = max(loss_bound, SENSITIVITIES * sensitivity)
        params_bound = max(params_bound, SENSITIVITIES * moved)
    begins_alike = first <= first_bound
    if sensitivity > CHAOTIC and loss > bounds.loss.bound and begins_alike:
        words = (
            f"losses part by {loss:.1e}, but one unit in the last place of the initial parameters parts JAX from "
            f"itself by {sensitivity:.1e}: training is chaotic at these settings, and only the first {FIRST_STEPS} "
            f"steps can be compared: they part by {first:.1e}"
        )
        return Finding(name, agrees=None, words=words)
    diverged = [record.value["diverged_at_step"] for record in (jax, torch)]
    words = (
        f"losses part by {loss:.1e} (at most {loss_bound:.1e}), parameters by {params:.1e} (at most {params_bound:.1e})"
        f", the first {FIRST_STEPS} steps' losses by {first:.1e} (at most {first_bound:.1e})"
    )
    if diverged[0] != diverged[1]:
        words += f", and they diverge at different steps: {diverged[0] + 1} and {diverged[1] + 1}"
    alike = begins_alike and loss <= loss_bound and params <= params_bound and diverged[0] == diverged[1]
    return Finding(name, agrees=bool(alike), words=words)


def _row(record: Record, other: Record | None, agrees: bool | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "optimizer": record.subject,
        "framework": record.framework,
        "loop": record.method,
        "status": record.status,
        "reason": record.reason,
        "agrees": agrees,
        "torch_over_jax": None,
    }
    if not record.ok:
        return row
    row |= {
        "final_loss": record.value["epoch_losses"][-1],
        "train_accuracy": record.value["train_accuracy"],
        "test_accuracy": record.value["test_accuracy"],
        "diverged_at_step": record.value["diverged_at_step"],
        "first_seconds": record.first_seconds,
        "step_seconds": float(np.median(record.step_seconds)),
        "run_seconds": float(np.median(record.step_seconds)) * record.run_steps,
        "spread": stats.spread(record.step_seconds),
    }
    if other is not None and other.ok:
        row["loss_distance"] = stats.relative_distance(record.value["epoch_losses"], other.value["epoch_losses"])
        if record.framework == "jax" and agrees is not False and (ratio := other.ratio_to(record)):
            row["torch_over_jax"] = ratio
    return row


def _learned(rows: Sequence[Mapping[str, Any]], plan: Plan) -> Table:
    columns = ("optimizer", "in", "final loss", "notebook", "parts by", "train", "test")
    lines = []
    for row in rows:
        notebook = ", ".join(str(loss) for loss in NOTEBOOK[row["optimizer"]])
        if row["status"] != "ok":
            lines.append((row["optimizer"], row["framework"], row["status"], notebook, row["reason"], ABSENT, ABSENT))
            continue
        diverged = row["diverged_at_step"]
        lines.append(
            (
                row["optimizer"],
                row["framework"],
                _loss(row["final_loss"]) if diverged < 0 else f"diverged at step {diverged + 1}",
                notebook,
                _agreement(row),
                f"{row['train_accuracy']:.4f}",
                f"{row['test_accuracy']:.4f}",
            )
        )
    return Table(
        f"What was learned: {plan.workload}, {plan.epochs} epochs, learning rate {plan.learning_rate:g}, {plan.dtype}",
        columns,
        lines,
        (
            "Final loss: mean training loss of the last epoch, as the notebook counts it. Parts by: largest relative "
            "difference of an epoch's loss between the frameworks. Train, test: accuracy.",
        ),
    )


def _loss(value: float) -> str:
    return f"{value:.6f}" if value < 1e4 else f"{value:.4e}"


def _agreement(row: Mapping[str, Any]) -> str:
    if "loss_distance" not in row:
        return ABSENT
    verdicts = {True: "", False: ": DISAGREE", None: ": chaotic"}
    return text.number(row["loss_distance"]) + verdicts[row["agrees"]]


def _took(rows: Sequence[Mapping[str, Any]], plan: Plan) -> Table:
    lines = []
    for row in rows:
        times = [ABSENT] * 5
        if row["agrees"] is False:
            times[1] = "struck out: values disagree"
        elif row["status"] == "ok":
            ratio = row["torch_over_jax"]
            times = [
                text.seconds(row["first_seconds"]),
                text.seconds(row["run_seconds"]),
                text.seconds(row["step_seconds"]),
                text.spread(row["spread"]),
                (text.interval(ratio) + (": no difference" if ratio.spans_one else "")) if ratio else ABSENT,
            ]
        lines.append((row["optimizer"], f"{row['framework']} {row['loop']}", *times))
    return Table(
        f"What it took, on {plan.threads} core{'s' if plan.threads > 1 else ''}",
        ("optimizer", "loop", "first", "a run", "a step", "spread", "torch/jax [95 %]"),
        lines,
        (
            "First: the first call; for JAX, trace, compile and run all epochs; for PyTorch, the first epoch, and with "
            "the very first optimizer the loading of torch._dynamo (over a second). A run and a step: "
            f"medians of {plan.repeats} blocks measured in turn; spread: their interquartile range.",
            "One row a step: almost all of this is overhead, and the ratio is one of loops, not of frameworks.",
        ),
    )


def _draw_losses(axes: Any, records: Sequence[Record]) -> None:
    colours = dict(zip(dict.fromkeys(record.subject for record in records), COLOURS, strict=False))
    for record in records:
        losses = record.value["epoch_losses"]
        style = {"jax": {"linestyle": "-"}, "torch": {"linestyle": "", "marker": "o", "markerfacecolor": "none"}}
        label = f"{record.subject}, {record.framework}"
        axes.plot(
            range(1, len(losses) + 1), losses, color=colours[record.subject], label=label, **style[record.framework]
        )
    axes.set(xlabel="epoch", ylabel="mean training loss", yscale="log")
    axes.legend(frameon=False, fontsize="small", ncols=2)


def _draw_times(axes: Any, records: Sequence[Record], plan: Plan) -> None:
    places = {name: place for place, name in enumerate(plan.optimizers)}
    colours = dict(zip(("jax", "torch"), COLOURS, strict=False))
    for framework in plan.frameworks:
        mine = [record for record in records if record.framework == framework]
        quarters = np.array([np.percentile(r.step_seconds, [25, 50, 75]) for r in mine]).reshape(-1, 3).T * 1e6
        axes.errorbar(
            quarters[1],
            [places[r.subject] for r in mine],
            xerr=np.abs(quarters[[0, 2]] - quarters[1]),
            fmt="o",
            capsize=3,
            color=colours[framework],
            label=f"{framework}: {ARMS[framework].words}",
        )
    axes.set(xlabel="microseconds per step", xscale="log", yticks=list(places.values()), yticklabels=list(places))
    axes.invert_yaxis()
    axes.grid(axis="x", which="both", alpha=0.3)
    axes.legend(frameon=False, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1))

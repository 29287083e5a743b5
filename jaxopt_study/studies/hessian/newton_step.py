"""What does one Newton step cost beside an epoch of Adam? The second half of the notebook's claim on Hessians.

The step is cut into its parts, Hessian, factorization and solve, each timed by itself: never one time less another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np

from jaxopt_study.backends import Backend
from jaxopt_study.backends.numpy import closed_form, training
from jaxopt_study.bench import stats
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.finding import Finding, compare
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.results import Results
from jaxopt_study.bench.task import Task, Value, single
from jaxopt_study.data import problem as problems
from jaxopt_study.data.workload import Array, Workload, ravel
from jaxopt_study.report import table as text
from jaxopt_study.report.figure import COLOURS, Figure
from jaxopt_study.report.table import ABSENT, Table
from jaxopt_study.studies.experiment import Experiment, Row, Rows
from jaxopt_study.studies.hessian.methods import places
from jaxopt_study.studies.hessian.on_workload import softmax_regression
from jaxopt_study.studies.optimizers import METHODS
from jaxopt_study.studies.tolerances import ADAM_EPOCH, NEWTON_STEP, PINNED_LEARNING_RATE

PARTS = {
    "hessian": "the Hessian, in blocks",
    "factorization": "its Cholesky factorization",
    "solve": "two triangular solves",
    "newton_step": "the whole Newton step",
    "adam_epoch": "an epoch of Adam",
}
DAMPING = 1e-3
"""Added to the diagonal: the Hessian of softmax regression is singular."""
LEARNING_RATE = PINNED_LEARNING_RATE
"""The notebook's, whatever `--learning-rate` says: the time does not depend on it, and at 1e-2 an epoch is chaotic."""


class NewtonStep(Experiment):
    """One Newton step, its parts, and one epoch of Adam."""

    study, name = "hessian", "newton_step"

    def groups(self, plan: Plan) -> list[Group]:
        """Return one group: the parts, the whole step and the epoch, of all frameworks in the same rounds."""
        if plan.overview:
            return []
        cases = tuple(self.case(plan.workload, f, part) for f in plan.frameworks for part in PARTS)
        return [Group(cases, max(1, plan.repeats // 3))]

    def task(self, backend: Backend, case: Case, workload: Workload, plan: Plan) -> Task:
        """Return one part, on all training rows, at the initial parameters; or an epoch of Adam from there."""
        problem = softmax_regression(workload)
        if case.method == "adam_epoch":
            return _adam_epoch(backend, case, workload)
        batch = tuple(backend.runtime.from_numpy(array) for array in problem.batch)
        params = backend.runtime.params_from_numpy(problem.params)
        loss = backend.models.loss(backend.models.network(problem.widths))
        place = places(backend, problem.params)

        def export(output: Any) -> Value:
            array = backend.runtime.to_numpy(output)
            if array.ndim == 1:
                return {"step": array[place]}
            matrix = array @ array.T if case.method == "factorization" else array
            return {"matrix": matrix[np.ix_(place, place)]}

        compute = _MAKERS[case.method](backend, loss, params, batch)
        return single(lambda: backend.runtime.wait(compute()), export)

    def summarize(self, case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
        """Keep how far a part is from the closed form; of Adam, loss and parameters, and how far from NumPy's."""
        if "losses" in value:
            return _summarize_epoch(value, workload)
        problem = problems.whole(workload)
        damping = 0.0 if case.method == "hessian" else DAMPING
        matrix = closed_form.hessian_closed_form(problem.params, problem.batch) + damping * np.eye(problem.size)
        if "matrix" in value:
            return {"residual": stats.residual(value["matrix"], matrix)}
        slope = closed_form.gradient_closed_form(problem.params, problem.batch)
        return {"residual": backward_error(matrix, -value["step"].astype(float), slope)}

    def findings(self, records: Sequence[Record], plan: Plan) -> list[Finding]:
        """Compare the parts with the closed form, and the epochs of Adam with one in NumPy and with each other."""
        parts = [r for r in records if r.ok and r.method != "adam_epoch"]
        epochs = [r for r in records if r.ok and r.method == "adam_epoch"]
        found = [_compare_part(r, plan) for r in parts]
        for r in epochs:
            loss, params = r.value["loss_distance"], r.value["params_distance"]
            found += _compare_epoch("an epoch in NumPy", [r.case], loss, params, plan)
        for one, other in combinations(epochs, 2):
            loss = stats.relative_distance([one.value["loss"]], [other.value["loss"]])
            params = stats.absolute_distance(one.value["params"], other.value["params"])
            found += _compare_epoch("the other framework's epoch", [one.case, other.case], loss, params, plan)
        return found

    def rows(self, results: Results, plan: Plan) -> Rows:
        """Return one row for each part, with the ratio of its time to that of the same framework's epoch of Adam."""
        records = self.records(results)
        epochs = {r.framework: r for r in records if r.method == "adam_epoch"}
        return [_row(r, epochs.get(r.framework), results) for r in records]

    def tables(self, rows: Sequence[Row], plan: Plan) -> list[Table]:
        """Return one line for each part."""
        reasons = dict.fromkeys(row["reason"] for row in rows if row["reason"])
        notes = (
            f"Newton: all rows at once, {DAMPING:g} added to the Hessian's diagonal. Adam: one row per step, in each "
            f"framework's own loop, learning rate {LEARNING_RATE:g}.",
            "Residual: distance from the closed form, relative to its largest entry; of solutions, the backward error; of "
            "Adam, the largest difference of its parameters from those of an epoch in NumPy in float64. First call: "
            "compilation included.",
            *text.flags(row.get("in_epochs") for row in rows),
            *(f"No time: {reason}." for reason in reasons),
        )
        title = f"One Newton step beside one epoch of Adam: {plan.workload}, {plan.dtype}"
        columns = ("part", "residual", "first call", "time", "IQR", "in epochs of Adam [95 %]")
        return [Table(title, columns, [_line(row) for row in rows], notes)]

    def figures(self, results: Results, plan: Plan) -> list[Figure]:
        """Return the time of each part beside the epoch of Adam."""
        shown = [r for r in self.records(results) if results.shows(r)]
        caption = "Time of a Newton step, of its parts, and of an epoch of Adam: median and interquartile range."
        return [Figure("newton_step", caption, partial(_draw, records=shown, plan=plan))] if shown else []

    def verdict(self, rows: Sequence[Row], plan: Plan) -> str:
        """Say what a whole step costs in epochs of Adam."""
        found = [row for row in rows if row["part"] == "newton_step" and row.get("in_epochs")]
        words = " and ".join(f"{text.ratio(row['in_epochs'])} epochs of Adam in {row['framework']}" for row in found)
        return f"one Newton step takes as long as {words}" if found else ""


def backward_error(matrix: Array, solution: Array, right: Array) -> float:
    """Return the least relative change of matrix and right side that makes `solution` exact (Rigal and Gaches, 1967).

    In the maximum norm. The matrix is badly conditioned, so that the distance of two solutions says more of it than of
    the code.
    """
    scale = np.linalg.norm(matrix, np.inf) * np.max(np.abs(solution)) + np.max(np.abs(right))
    return float(np.max(np.abs(matrix @ solution - right)) / scale)


def _hessian(backend: Backend, loss: Any, params: Any, batch: Any) -> Callable[[], Any]:
    return partial(backend.blocks.hessian_blocked(loss), params, batch)


def _factorization(backend: Backend, loss: Any, params: Any, batch: Any) -> Callable[[], Any]:
    return partial(backend.newton_step.cholesky(DAMPING), _hessian(backend, loss, params, batch)())


def _solve(backend: Backend, loss: Any, params: Any, batch: Any) -> Callable[[], Any]:
    factor = _factorization(backend, loss, params, batch)()
    slope = backend.runtime.ravel(backend.derivatives.gradient(loss)(params, batch))
    return partial(backend.newton_step.solve, factor, -slope)


def _newton_step(backend: Backend, loss: Any, params: Any, batch: Any) -> Callable[[], Any]:
    return partial(backend.newton_step.newton_step(loss, DAMPING), params, batch)


_MAKERS = {"hessian": _hessian, "factorization": _factorization, "solve": _solve, "newton_step": _newton_step}


def _adam_epoch(backend: Backend, case: Case, workload: Workload) -> Task:
    model, optimizer = backend.models.network(workload.widths), backend.optimizers.OPTIMIZERS["adam"](LEARNING_RATE)
    loop = getattr(backend.loops, METHODS[case.framework].loop)(model, optimizer)
    data = tuple(loop.load(array) for array in workload.train)
    order, params = loop.load(workload.order[0]), backend.runtime.params_from_numpy(workload.params)

    def export(output: Any) -> Value:
        state, losses = output
        value = ravel(backend.runtime.params_to_numpy(state.params))
        return {"losses": np.asarray(losses, dtype=float), "params": value}

    def run(state: Any) -> Iterator[Any]:
        yield backend.runtime.wait(loop.run(state, data, order))

    return Task(run, export, start=lambda: backend.runtime.wait(loop.init(params)))


def _summarize_epoch(value: Value, workload: Workload) -> dict[str, Any]:
    losses, params = training.train(workload.params, workload.train, workload.order[0], "adam", LEARNING_RATE)
    loss = float(np.mean(value["losses"], dtype=float))
    return {
        "loss": loss,
        "params": value["params"].astype(float).tolist(),
        "loss_distance": stats.relative_distance([loss], [np.mean(losses)]),
        "params_distance": stats.absolute_distance(value["params"], ravel(params)),
    }


def _compare_part(record: Record, plan: Plan) -> Finding:
    bounds = NEWTON_STEP[plan.dtype]
    if record.method in ("solve", "newton_step"):
        return compare("solution, backward error", [record.case], record.value["residual"], bounds.solution.bound)
    return compare(
        "matrix, with the closed form, relative", [record.case], record.value["residual"], bounds.matrix.bound
    )


def _compare_epoch(reference: str, cases: Sequence[Case], loss: float, params: float, plan: Plan) -> list[Finding]:
    bounds = ADAM_EPOCH[plan.dtype]
    return [
        compare(f"mean loss, with {reference}, relative", cases, loss, bounds.loss.bound),
        compare(f"parameters, with {reference}", cases, params, bounds.params.bound),
    ]


def _row(record: Record, epoch: Record | None, results: Results) -> dict[str, Any]:
    row = {
        "framework": record.framework,
        "part": record.method,
        "status": record.status,
        "reason": record.reason,
        "agrees": results.agrees(record) if record.ok else None,
        "residual": record.value.get("residual", record.value.get("params_distance")),
        "seconds": None,
    }
    if not results.shows(record):
        return row
    return row | {
        "first_seconds": record.first_seconds,
        "seconds": record.seconds,
        "spread": stats.spread(record.step_seconds) if len(record.samples) > 1 else None,
        "in_epochs": results.ratio(record, epoch),
    }


def _line(row: Row) -> tuple[str, ...]:
    name = f"{row['framework']} {row['part'].replace('_', ' ')}"
    if row["status"] != "ok":
        return (name, ABSENT, ABSENT, row["status"], ABSENT, ABSENT)
    residual = text.number(row["residual"])
    if row["seconds"] is None:
        return (name, residual, ABSENT, "withheld: values disagree", ABSENT, ABSENT)
    return (
        name,
        residual,
        text.seconds(row["first_seconds"]),
        text.seconds(row["seconds"]),
        ABSENT if row["spread"] is None else text.spread(row["spread"]),
        text.ratio(row["in_epochs"]),
    )


def _draw(axes: Any, records: Sequence[Record], plan: Plan) -> None:
    for number, framework in enumerate(plan.frameworks):
        mine = [r for r in records if r.framework == framework]
        quarters = np.array([np.percentile(r.step_seconds, [25, 50, 75]) for r in mine]).reshape(-1, 3).T * 1e3
        axes.errorbar(
            quarters[1],
            [list(PARTS).index(r.method) for r in mine],
            xerr=np.abs(quarters[[0, 2]] - quarters[1]),
            fmt="o",
            capsize=3,
            color=COLOURS[number],
            label=framework,
        )
    axes.set(xlabel="milliseconds", xscale="log", yticks=range(len(PARTS)), yticklabels=list(PARTS.values()))
    axes.invert_yaxis()
    axes.grid(axis="x", which="both", alpha=0.3)
    axes.legend(frameon=False, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)

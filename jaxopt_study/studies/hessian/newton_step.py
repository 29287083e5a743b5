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
from jaxopt_study.report import answers, charts
from jaxopt_study.report import table as text
from jaxopt_study.report.axes import Axis
from jaxopt_study.report.figures import Figure
from jaxopt_study.report.table import Table
from jaxopt_study.studies.experiment import Experiment, Row, Rows, all_skipped
from jaxopt_study.studies.hessian import references
from jaxopt_study.studies.hessian.methods import places, short
from jaxopt_study.studies.hessian.on_workload import softmax_regression
from jaxopt_study.studies.hessian.rows import COLUMNS, MAIN_COLUMNS, cells, label, reasons, row_of
from jaxopt_study.studies.optimizers import method_of
from jaxopt_study.studies.tolerances import ADAM_EPOCH, NEWTON_STEP, PINNED_LEARNING_RATE

ADAM = "adam_epoch"
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
        cases = tuple(self.case(plan.workload, f, part) for f in plan.frameworks for part in (*PARTS, ADAM))
        return [Group(cases, max(1, plan.repeats // 3))]

    def task(self, backend: Backend, case: Case, workload: Workload, plan: Plan) -> Task:
        """Return one part, on all training rows, at the initial parameters; or an epoch of Adam from there."""
        problem = softmax_regression(workload)
        if case.method == ADAM:
            return _adam_epoch(backend, case, workload, plan)
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

        compute = PARTS[case.method](backend, loss, params, batch)
        return single(lambda: backend.runtime.wait(compute()), export)

    def summarize(self, case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
        """Keep how far a part is from the closed form; of Adam, loss and parameters, and how far from NumPy's."""
        if "losses" in value:
            return _summarize_epoch(value, workload)
        problem = problems.whole(workload)
        damping = 0.0 if case.method == "hessian" else DAMPING
        matrix = references.hessian(problem) + damping * np.eye(problem.size)
        if "matrix" in value:
            return {"residual": stats.residual(value["matrix"], matrix)}
        slope = closed_form.gradient_closed_form(problem.params, problem.batch)
        return {"residual": backward_error(matrix, -value["step"].astype(float), slope)}

    def findings(self, records: Sequence[Record], plan: Plan) -> list[Finding]:
        """Compare the parts with the closed form, and the epochs of Adam with one in NumPy and with each other."""
        parts = [r for r in records if r.ok and r.method != ADAM]
        epochs = [r for r in records if r.ok and r.method == ADAM]
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
        epochs = {r.framework: r for r in records if r.method == ADAM}
        return [
            row_of(r, results)
            | {
                "residual": r.value.get("residual", r.value.get("params_distance")),
                "in_epochs": results.ratio(r, epochs.get(r.framework)),
            }
            for r in records
        ]

    def tables(self, rows: Sequence[Row], plan: Plan) -> list[Table]:
        """Return one line for each part."""
        notes = (
            f"Newton: all rows at once, {DAMPING:g} added to the Hessian's diagonal. Adam: {plan.rows_per_step}, in "
            f"each framework's own loop, learning rate {LEARNING_RATE:g}.",
            "Residual: largest difference from the closed form, relative to its largest entry. Of a solution, the "
            "backward error. Of Adam, the largest difference of a parameter from an epoch in NumPy in float64.",
            "The frameworks must not be compared in epochs of Adam: each has another loop of Adam as its measure.",
            "First call: compilation included. No IQR: a single sample.",
            *text.flags(row["in_epochs"] for row in rows),
        )
        lines = [(label(row), *cells(row), text.ratio(row["in_epochs"])) for row in rows]
        title = f"One Newton step beside one epoch of Adam: {plan.workload}, {plan.dtype}"
        columns = ("part", *COLUMNS, "in epochs of Adam [95 %]")
        return [all_skipped(title, rows) or Table(title, columns, lines, notes, (), MAIN_COLUMNS, tuple(reasons(rows)))]

    def figures(self, results: Results, plan: Plan) -> list[Figure]:
        """Return the time of each part beside the epoch of Adam."""
        shown = [answers.timed(short(r.method), r) for r in self.records(results) if results.shows(r)]
        words = "Median of the samples, with their interquartile range."
        title = f"A Newton step, its parts, and an epoch of Adam: {plan.workload}"
        made = partial(charts.points, shown, Axis("time", "s", log=True))
        return [Figure("newton_step", title, words, made)] if shown else []

    def verdict(self, rows: Sequence[Row], plan: Plan) -> str:
        """Say what a whole step takes; in epochs of Adam each framework has its own measure."""
        found = [row for row in rows if row["method"] == "newton_step" and row["seconds"]]
        words = " and ".join(f"{text.seconds(row['seconds'])} in {row['framework']}" for row in found)
        return f"one Newton step on {plan.workload} takes {words}" if found else ""


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


PARTS = {"hessian": _hessian, "factorization": _factorization, "solve": _solve, "newton_step": _newton_step}
"""A part -> what makes the function that is timed."""


def _adam_epoch(backend: Backend, case: Case, workload: Workload, plan: Plan) -> Task:
    model, optimizer = backend.models.network(workload.widths), backend.optimizers.OPTIMIZERS["adam"](LEARNING_RATE)
    loop = getattr(backend.loops, method_of(case.framework, plan).loop)(model, optimizer)
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

"""What does one Newton step cost beside an epoch of Adam? The second half of the notebook's claim on Hessians.

The step is cut into its parts, Hessian, factorization and solve, each timed by itself: never one time less another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from jaxopt_study.data import problem as problems
from jaxopt_study.bench import stats
from jaxopt_study.backends.numpy import closed_form, training
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.finding import Finding
from jaxopt_study.data.problem import Problem
from jaxopt_study.bench.record import Record
from jaxopt_study.report import table as text
from jaxopt_study.report.figure import COLOURS, Figure
from jaxopt_study.report.table import ABSENT, Table
from jaxopt_study.bench.task import Task, Value, single
from jaxopt_study.data.workload import Workload, ravel
from jaxopt_study.studies.optimizers import ARMS
from jaxopt_study.studies.hessian.routes import places
from jaxopt_study.studies.tolerances import ADAM_EPOCH, NEWTON_STEP

QUESTION = "One Newton step: what does it cost beside an epoch of Adam?"

PARTS = {
    "hessian": "the Hessian, in blocks",
    "factorization": "its Cholesky factorization",
    "solve": "two triangular solves",
    "newton_step": "the whole Newton step",
    "adam_epoch": "an epoch of Adam",
}
DAMPING = 1e-3
"""Added to the diagonal: the Hessian of softmax regression is singular."""
LEARNING_RATE = 1e-3
"""The notebook's, whatever `--learning-rate` says: the time does not depend on it, and at 1e-2 an epoch is chaotic."""


def groups(plan: Plan) -> list[Group]:
    """Return one group: the parts, the whole step and the epoch, of all frameworks in turn."""
    cases = tuple(Case("newton_step", plan.workload, f, part) for f in plan.frameworks for part in PARTS)
    return [Group(cases, max(1, plan.repeats // 3))]


def task(backend: Any, case: Case, workload: Workload, plan: Plan) -> Task:
    """Return one part, on all training rows, at the initial parameters; of Adam, an epoch from there, row by row."""
    if case.method == "adam_epoch":
        return _adam_epoch(backend, case, workload)
    problem = _problem(workload, plan)
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

    compute = _PARTS[case.method](backend, loss, params, batch)
    return single(lambda: backend.runtime.wait(compute()), export)


def summarize(case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
    """Keep how far a part is from the closed form; of Adam, mean loss and parameters, and how far from NumPy's."""
    if "losses" in value:
        loss, expected = float(np.mean(value["losses"], dtype=float)), _epoch_by_hand(workload)
        return {
            "loss": loss,
            "params": value["params"].astype(float).tolist(),
            "loss_apart": stats.relative_distance([loss], [np.mean(expected["losses"])]),
            "params_apart": stats.absolute_distance(value["params"], expected["params"]),
        }
    problem = _problem(workload, plan)
    damping = 0.0 if case.method == "hessian" else DAMPING
    matrix = closed_form.hessian_closed_form(problem.params, problem.batch) + damping * np.eye(problem.size)
    if "matrix" in value:
        return {"residual": stats.residual(value["matrix"], matrix)}
    slope = closed_form.gradient_closed_form(problem.params, problem.batch)
    return {"residual": backward_error(matrix, -value["step"].astype(float), slope)}


def backward_error(matrix: np.ndarray, solution: np.ndarray, right: np.ndarray) -> float:
    """Return the least relative change of matrix and right side that makes `solution` exact (Rigal and Gaches, 1967).

    In the maximum norm. The matrix is badly conditioned, so that the distance of two solutions says more of it than of
    the code.
    """
    scale = np.linalg.norm(matrix, np.inf) * np.max(np.abs(solution)) + np.max(np.abs(right))
    return float(np.max(np.abs(matrix @ solution - right)) / scale)


def findings(records: Sequence[Record], plan: Plan) -> list[Finding]:
    """Hold the parts to the closed form, and the epochs of Adam to one in NumPy, and to each other."""
    good = [record for record in records if record.ok]
    found = [_part_finding(r, plan) for r in good if "residual" in r.value]
    epochs = [r.value for r in good if r.method == "adam_epoch"]
    found += [
        _epoch_finding(f"{r.framework} adam_epoch", r.value["loss_apart"], r.value["params_apart"], plan)
        for r in good
        if r.method == "adam_epoch"
    ]
    if len(epochs) > 1:
        loss = stats.relative_distance([epochs[0]["loss"]], [epochs[1]["loss"]])
        params = stats.absolute_distance(epochs[0]["params"], epochs[1]["params"])
        found.append(_epoch_finding("adam_epoch", loss, params, plan))
    return found


def rows(records: Sequence[Record], plan: Plan) -> list[dict[str, Any]]:
    """Return one row for each part, with the ratio of its time to that of the same framework's epoch of Adam."""
    wrong = {finding.subject for finding in findings(records, plan) if finding.agrees is False}
    bad = {r.case for r in records if not r.ok or wrong & {f"{r.framework} {r.method}", r.method}}
    good = [r for r in records if r.case not in bad]
    found: list[dict[str, Any]] = []
    for r in records:
        row: dict[str, Any] = {"framework": r.framework, "part": r.method, "status": r.status, "reason": r.reason}
        if r.ok:
            row |= {"agrees": r in good, "residual": r.value.get("residual", r.value.get("params_apart"))}
        if r in good:
            row |= {"first_seconds": r.first_seconds, "seconds": float(np.median(r.step_seconds))}
            row |= {"spread": stats.spread(r.step_seconds), "in_epochs": _in_epochs(r, good)}
        found.append(row)
    return found


def tables(rows: Sequence[Mapping[str, Any]], plan: Plan) -> list[Table]:
    """Return one line for each part."""
    return [
        Table(
            f"One Newton step beside one epoch of Adam: {plan.workload}, {plan.dtype}",
            ("part", "residual", "first", "time", "spread", "in epochs of Adam [95 %]"),
            [(f"{row['framework']} {row['part'].replace('_', ' ')}", *_cells(row)) for row in rows],
            (
                f"Newton: all rows at once, {DAMPING:g} added to the Hessian's diagonal. Adam: one row a step, in each "
                f"framework's own loop, learning rate {LEARNING_RATE:g}. Residual: from the closed form; of solutions, "
                "the backward error; of Adam, how far its parameters are from an epoch in NumPy in float64.",
            ),
        )
    ]


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    if row["status"] != "ok":
        return (row["status"], row["reason"], *[ABSENT] * 3)
    if not row["agrees"]:
        return (text.number(row["residual"]), "WRONG", *[ABSENT] * 3)
    return (
        text.number(row["residual"]),
        text.seconds(row["first_seconds"]),
        text.seconds(row["seconds"]),
        text.spread(row["spread"]),
        text.interval(row["in_epochs"]) if row["in_epochs"] else ABSENT,
    )


def figures(records: Sequence[Record], plan: Plan) -> list[Figure]:
    """Return the time of each part beside the epoch of Adam."""
    good = {(row["framework"], row["part"]) for row in rows(records, plan) if row.get("agrees")}
    timed = [r for r in records if (r.framework, r.method) in good]
    caption = "Time of a Newton step, of its parts, and of an epoch of Adam: median and interquartile range."
    return [Figure("newton_step", caption, partial(_draw, records=timed, plan=plan))] if timed else []


def verdict(rows: Sequence[Mapping[str, Any]], plan: Plan) -> str:
    """Say what a whole step costs in epochs of Adam."""
    del plan
    found = [row for row in rows if row["part"] == "newton_step" and row.get("in_epochs")]
    words = " and ".join(f"{text.interval(row['in_epochs'])} epochs of Adam in {row['framework']}" for row in found)
    return f"one Newton step costs as much as {words}" if found else ""


def _hessian(backend: Any, loss: Any, params: Any, batch: Any) -> Any:
    return partial(backend.blocks.hessian_blocked(loss), params, batch)


def _factorization(backend: Any, loss: Any, params: Any, batch: Any) -> Any:
    return partial(backend.newton_step.cholesky(DAMPING), _hessian(backend, loss, params, batch)())


def _solve(backend: Any, loss: Any, params: Any, batch: Any) -> Any:
    factor = _factorization(backend, loss, params, batch)()
    return partial(
        backend.newton_step.solve, factor, -backend.runtime.ravel(backend.derivatives.gradient(loss)(params, batch))
    )


def _newton_step(backend: Any, loss: Any, params: Any, batch: Any) -> Any:
    return partial(backend.newton_step.newton_step(loss, DAMPING), params, batch)


_PARTS = {"hessian": _hessian, "factorization": _factorization, "solve": _solve, "newton_step": _newton_step}


def _adam_epoch(backend: Any, case: Case, workload: Workload) -> Task:
    optimizer = backend.optimizers.adam(LEARNING_RATE)
    loop = getattr(backend.loops, ARMS[case.framework].loop)(backend.models.network(workload.widths), optimizer)
    data = tuple(loop.load(array) for array in workload.train)
    order, params = loop.load(workload.order[0]), backend.runtime.params_from_numpy(workload.params)

    def export(output: Any) -> Value:
        state, losses = output
        value = ravel(backend.runtime.params_to_numpy(state.params))
        return {"losses": np.asarray(losses, dtype=float), "params": value}

    def run(state: Any) -> Iterator[Any]:
        yield backend.runtime.wait(loop.run(state, data, order))

    return Task(run, export, start=lambda: backend.runtime.wait(loop.init(params)))


def _epoch_by_hand(workload: Workload) -> Value:
    losses, params = training.train(workload.params, workload.train, workload.order[0], "adam", LEARNING_RATE)
    return {"losses": losses, "params": ravel(params)}


def _problem(workload: Workload, plan: Plan) -> Problem:
    return problems.make(problems.name_of(workload.widths, len(workload.train[0])), workload, plan.seed)


def _part_finding(record: Record, plan: Plan) -> Finding:
    residual, bound = record.value["residual"], _bound(record.method, plan)
    words = f"residual {residual:.1e} (at most {bound:.0e})"
    return Finding(f"{record.framework} {record.method}", residual <= bound, words)


def _epoch_finding(subject: str, loss: float, params: float, plan: Plan) -> Finding:
    bounds = ADAM_EPOCH[plan.dtype]
    words = f"mean loss off by {loss:.1e} (at most {bounds.loss.bound:.0e}), "
    words += f"parameters by {params:.1e} (at most {bounds.params.bound:.0e})"
    return Finding(subject, loss <= bounds.loss.bound and params <= bounds.params.bound, words)


def _bound(part: str, plan: Plan) -> float:
    bounds = NEWTON_STEP[plan.dtype]
    return (bounds.solution if part in ("solve", "newton_step") else bounds.matrix).bound


def _in_epochs(record: Record, records: Sequence[Record]) -> stats.Interval | None:
    """Return the ratio of a part's time to an epoch's, where both were measured in the same turns."""
    for epoch in records:
        if epoch.framework == record.framework and epoch.ok and epoch.method == "adam_epoch":
            return None if record is epoch else record.ratio_to(epoch)
    return None


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

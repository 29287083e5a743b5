"""The race: Newton's method and its relatives, and first-order methods, to the optimum of a penalized linear model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxopt_study.backends import Backend
from jaxopt_study.bench import ratio, stats
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.finding import Finding, compare
from jaxopt_study.bench.ratio import Ratio
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.results import Results
from jaxopt_study.bench.task import Task, Value
from jaxopt_study.data.workload import Array, Workload
from jaxopt_study.report.figures import Figure
from jaxopt_study.report.table import Table
from jaxopt_study.studies.experiment import Experiment, Row, Rows, facts
from jaxopt_study.studies.newton import methods, problems, report
from jaxopt_study.studies.newton.methods import FIRST_ORDER, METHODS, NEWTON, REFERENCE, method_of, runs
from jaxopt_study.studies.newton.report import TARGETS
from jaxopt_study.studies.optimizers import CHAOTIC, SENSITIVITIES
from jaxopt_study.studies.tolerances import DESCENT, NEWTON_PATH, PINNED_LEARNING_RATE, PINNED_WORKLOAD
from jaxopt_study.studies.tolerances import NEWTON as OPTIMAL_VALUE

CLOSE = (("jax", NEWTON), ("jax", "Newton, float32 factor"), ("torch", NEWTON), REFERENCE)
"""The methods whose ratios have intervals: they are measured in the same rounds."""

OVERVIEW: dict[str, tuple[str, ...]] = {"jax": (NEWTON,), "torch": (NEWTON,), "numpy": ()}
"""The methods of the main job."""

LARGE = {
    framework: tuple(name for name, method in table.items() if method.kind != "scipy")
    for framework, table in METHODS.items()
}
"""The methods on the run's own workload: SciPy's dense trust region can keep up only on the small problems."""

SMALL = {
    "jax": (NEWTON, "adam, tuned"),
    "torch": (NEWTON,),
    "numpy": (REFERENCE[1], "SciPy trust-exact"),
}
"""The methods on the small problems."""

PEERS = (REFERENCE, ("torch", "torchmin newton-exact"))
"""Each method's time is divided by the times of these."""

CONVERGED = (1, 2, 3)
"""`Status.GRADIENT`, `Status.DECREMENT` and `Status.ROUNDING` of the backends' minimizers."""

COMPARED = 16
"""Marks at which first-order methods are compared: 300 steps on all rows, or 15 epochs row by row."""

LAST_PLACES = 10
"""In these a value at the rounding level may differ from the least one."""


class Race(Experiment):
    """All methods on the run's workload, and a few on the small problems."""

    study, name = "newton", "race"

    def groups(self, plan: Plan) -> list[Group]:
        """Return exact Newton and its peers in many rounds, the other quick methods in few, and the rest one by one.

        The main job has a few quick ones.
        """
        few = plan.repeats // 6 + 1
        if plan.overview:
            return [Group(self._cases(plan, plan.workload, OVERVIEW), few)]
        cases = self._cases(plan, plan.workload, LARGE)
        quick = [case for case in cases if method_of(case).repeats is None]
        close = tuple(case for case in quick if (case.framework, case.method) in CLOSE)
        rest = tuple(case for case in quick if case not in close)
        single = [Group((case,), repeats) for case in cases if (repeats := method_of(case).repeats) is not None]
        small = [Group(self._cases(plan, name, SMALL), plan.repeats) for name in problems.subjects(plan.workload)[1:]]
        found = [Group(close, plan.repeats * 2 // 3 + 1), Group(rest, few), *single, *small]
        return [group for group in found if group.cases]

    def _cases(self, plan: Plan, subject: str, table: Mapping[str, tuple[str, ...]]) -> tuple[Case, ...]:
        return tuple(
            self.case(subject, framework, name)
            for framework, names in table.items()
            for name in names
            if runs(plan, framework, name)
        )

    def task(self, backend: Backend, case: Case, workload: Workload, plan: Plan) -> Task:
        """Return a method's run on a problem, from parameters that are all 0."""
        return methods.task(backend, case, problems.problem(case.subject, workload), plan)

    def summarize(self, case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
        """Keep objective, accuracy, steps and work at each mark; of exact Newton, the whole path."""
        problem = problems.problem(case.subject, workload)
        path, outputs = value["path"], problem.widths[-1]
        kept: dict[str, Any] = {
            "values": [problems.objective(x, problem) for x in path],
            "test_accuracies": [problems.accuracy(x, problem.test, outputs) for x in path],
            "steps": value["steps"].tolist(),
            "work": value["work"].tolist(),
        }
        if "moved" in value:
            kept["moved_values"] = [problems.objective(x, problem) for x in value["moved"]]
        if case.method == NEWTON:
            kept["path"] = path.tolist()
        return kept | {name: value[name].item() for name in ("status", "learning_rate") if name in value}

    def findings(self, records: Sequence[Record], plan: Plan) -> list[Finding]:
        """Compare optimal values with scikit-learn's, and the frameworks' courses with each other."""
        return [
            finding
            for mine in _by_problem(records)
            for finding in (*_optimal_values(mine, plan), *_paths(mine, plan), *_descents(mine, plan))
        ]

    def rows(self, results: Results, plan: Plan) -> Rows:
        """Return one row for each method on each problem: its end, and what it took to each target."""
        found = []
        for mine in _by_problem(self.records(results)):
            peers = [r for r in (_of(mine, *peer) for peer in PEERS) if r is not None]
            found += [_row(r, _optimum(mine), peers, results) for r in mine]
        return found

    def tables(self, rows: Sequence[Row], plan: Plan) -> list[Table]:
        """Return for each problem where each method ended, and what it took to come near the optimum."""
        return report.tables(rows, plan)

    def figures(self, results: Results, plan: Plan) -> list[Figure]:
        """Return the gap on the run's workload against steps, work and seconds."""
        mine = [r for r in self.records(results) if r.subject == plan.workload]
        shown = [r for r in mine if results.shows(r)]
        return report.figures(shown, _optimum(mine)) if shown and not plan.overview else []

    def verdict(self, rows: Sequence[Row], plan: Plan) -> str:
        """Say where Newton pays: what it takes to a rough and to a fine target, beside first-order methods."""
        return report.verdict(rows, plan)


def _by_problem(records: Sequence[Record]) -> list[list[Record]]:
    return [[r for r in records if r.subject == name] for name in dict.fromkeys(r.subject for r in records)]


def _of(records: Sequence[Record], framework: str, method: str) -> Record | None:
    return next((r for r in records if r.ok and (r.framework, r.method) == (framework, method)), None)


def _optimum(records: Sequence[Record]) -> float:
    """Return scikit-learn's optimal value; where it did not run, the smallest value of all."""
    reference = _of(records, *REFERENCE)
    if reference is not None:
        return float(reference.value["values"][-1])
    return min((min(r.value["values"]) for r in records if r.ok), default=float("nan"))


def _optimal_values(records: Sequence[Record], plan: Plan) -> list[Finding]:
    """Compare the minimizers that say that they converged with scikit-learn."""
    if _of(records, *REFERENCE) is None:
        return []
    best, bound = _optimum(records), OPTIMAL_VALUE[plan.dtype].bound
    return [
        compare("optimal value, with scikit-learn's", [r.case], abs(r.value["values"][-1] - best), bound)
        for r in records
        if r.ok and r.value.get("status") in CONVERGED
    ]


def _paths(records: Sequence[Record], plan: Plan) -> list[Finding]:
    """Compare exact Newton's iterates, as far as both go, and the steps to the rounding level; one may take one more.

    How many steps follow there is rounding: on breast-cancer-raw in float32, JAX makes 6 with AVX-512 and 3 with AVX2.
    """
    pair = [r for r in (_of(records, "jax", NEWTON), _of(records, "torch", NEWTON)) if r is not None]
    if len(pair) < 2:
        return []
    cases = tuple(r.case for r in pair)
    a, b = (np.array(r.value["path"]) for r in pair)
    common = min(len(a), len(b))
    what, distance = "iterates of exact Newton", stats.absolute_distance(a[:common], b[:common])
    pinned = NEWTON_PATH.get((plan.dtype, cases[0].subject))
    if pinned is None:
        return [Finding(what, cases, distance, float("nan"), None, "no bound was measured on this workload")]
    steps = abs(_steps_to_rounding(pair[0], plan) - _steps_to_rounding(pair[1], plan))
    return [
        compare(what, cases, distance, pinned.bound),
        compare("steps of exact Newton to the rounding level", cases, steps, 1),
    ]


def _steps_to_rounding(record: Record, plan: Plan) -> int:
    """Return after how many steps the value is within a few last places of the least one."""
    values = np.array(record.value["values"])
    least = values.min()
    return int(np.argmax(values - least <= LAST_PLACES * np.finfo(plan.dtype).eps * abs(least)))


def _descents(records: Sequence[Record], plan: Plan) -> list[Finding]:
    """Compare the objective at the first marks of the first-order methods."""
    pairs = [(_of(records, "jax", r.method), r) for r in records if r.ok and r.framework == "torch"]
    return [_descent(jax, torch, plan) for jax, torch in pairs if jax and method_of(jax).name in FIRST_ORDER]


def _descent(jax: Record, torch: Record, plan: Plan) -> Finding:
    """Compare two runs of a first-order method.

    Chaotic ones cannot be compared. RMSprop leaps where a pixel that is seldom lit has a gradient near 0, and where it
    lands depends on the last digit: moved by one unit in the last place, a run differs from itself by 1e-12 after 400
    steps and by 1e-3 after 500; momentum row by row already in its first epoch.
    """
    names = ("values", "values", "moved_values")
    ours, theirs, moved = (np.array(r.value[n])[:COMPARED] for r, n in zip((jax, torch, jax), names, strict=True))
    distance, sensitivity = stats.relative_distance(ours, theirs), stats.relative_distance(moved, ours)
    what, cases, bound = f"objective at the first {len(ours)} marks", (jax.case, torch.case), DESCENT[plan.dtype].bound
    rates = [r.value["learning_rate"] for r in (jax, torch)]
    note = ""
    if rates[0] != rates[1]:
        note = f"tuned to different learning rates: {rates[0]:.2g} and {rates[1]:.2g}"
    elif distance > bound and sensitivity > CHAOTIC:
        note = f"chaotic: one unit in the last place changes JAX's own objective by {sensitivity:.1e}"
    if note:
        return Finding(what, cases, distance, bound, None, note)
    if (plan.learning_rate, jax.subject) != (PINNED_LEARNING_RATE, PINNED_WORKLOAD):
        bound = max(bound, SENSITIVITIES * sensitivity)
    return compare(what, cases, distance, bound)


def _row(record: Record, best: float, peers: Sequence[Record], results: Results) -> dict[str, Any]:
    shown = results.shows(record)
    row: dict[str, Any] = {
        "problem": record.subject,
        **facts(record, results),
        "ratios": {peer.method: found for peer in peers if (found := _ratio(record, peer, results))},
        "targets": dict.fromkeys(map(str, TARGETS)),
    }
    if not record.ok:
        return row
    gaps = (np.array(record.value["values"]) - best) / best
    row |= {
        "value": record.value["values"][-1],
        "gap": float(gaps[-1]),
        "steps": record.value["steps"][-1],
        "work": record.value["work"][-1],
        "learning_rate": record.value.get("learning_rate"),
        "test_accuracy": record.value["test_accuracies"][-1],
    }
    if shown:
        row |= {
            "first_seconds": record.first_seconds,
            "seconds": record.seconds,
            "spread": stats.spread(record.step_seconds),
            "targets": {str(target): _reached(record, gaps, target) for target in TARGETS},
        }
    return row


def _ratio(record: Record, peer: Record, results: Results) -> Ratio | None:
    """Return the ratio of two methods' times; without an interval where they were not measured in the same rounds."""
    if record is peer or not (results.shows(record) and results.shows(peer)):
        return None
    return results.ratio(record, peer) or ratio.of_medians(record, peer)


def _reached(record: Record, gaps: Array, target: float) -> dict[str, float] | None:
    """Return when the gap was first within the target; where only the end is known, that is the end."""
    (marks,) = np.nonzero(gaps <= target)
    if not len(marks):
        return None
    mark = marks[0]
    return {
        "seconds": float(record.seconds * report.shares(record)[mark]),
        "steps": record.value["steps"][mark],
        "work": record.value["work"][mark],
        "test_accuracy": record.value["test_accuracies"][mark],
    }

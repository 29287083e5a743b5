"""When does Newton's method pay? It and its relatives race first-order methods to one penalized optimum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
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
from jaxopt_study.bench.workload import Workload
from jaxopt_study.studies import race, regressions
from jaxopt_study.studies.tolerances import NEWTON

QUESTION = "Newton: when do second-order methods pay?"

REFERENCE = ("numpy", "scikit-learn newton-cholesky")
CLOSE = (("jax", "Newton"), ("jax", "Newton, float32 factor"), ("torch", "Newton"), REFERENCE)
"""The arms whose ratios are given with intervals."""
PEERS = (REFERENCE, ("torch", "torchmin newton-exact"))
"""Whose time exact Newton's is a ratio of."""
PEER = REFERENCE[1]
TARGETS = (1e-2, 1e-4, 1e-8)
CONVERGED = (1, 2)
"""`Status.GRADIENT` and `Status.DECREMENT` of the wings' minimizers."""


def groups(plan: Plan) -> list[Group]:
    """Return exact Newton and its peers in many blocks, the other quick arms in few, and each slow one by itself.

    The main job has three quick ones in few.
    """
    cases = [
        Case("newton", plan.workload, framework, name)
        for framework in (*plan.frameworks, "numpy")
        for name in (race.OVERVIEW[framework] if plan.overview else race.ARMS[framework])
    ]
    own = {case: race.ARMS[case.framework][case.method].repeats for case in cases}
    few, quick = plan.repeats // 6 + 1, [case for case in cases if own[case] is None]
    if plan.overview:
        return [Group(tuple(quick), few)]
    close = tuple(case for case in quick if (case.framework, case.method) in CLOSE)
    rest = tuple(case for case in quick if case not in close)
    slow = [Group((case,), repeats) for case, repeats in own.items() if repeats is not None]
    return [g for g in (Group(close, plan.repeats), Group(rest, few), *slow, *regressions.groups(plan)) if g.cases]


def task(wing: Any, case: Case, workload: Workload, plan: Plan) -> Task:
    """Return an arm's run from parameters that are all 0."""
    if case.subject == regressions.SUBJECT:
        return regressions.task(wing, case, plan)
    return race.start(wing, case, workload, plan)


def condense(case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
    """Keep the objective and the test accuracy at each mark, and the whole path of exact Newton."""
    del plan
    if case.subject == regressions.SUBJECT:
        return regressions.condensed(value)
    return race.condensed(value, workload, keep_path=case.method == "Newton")


def findings(records: Sequence[Record], plan: Plan) -> list[Finding]:
    """Hold what converged to scikit-learn's optimum, and exact Newton's paths to each other."""
    records, many = _split(records)
    found = regressions.findings(many, plan)
    reference, bounds = _of(records, *REFERENCE), NEWTON[plan.dtype]
    if reference is not None:
        optimum = reference.value["values"][-1]
        for r in records:
            if r.ok and r.value.get("status") in CONVERGED:
                apart = abs(r.value["values"][-1] - optimum)
                words = f"{apart:.1e} from scikit-learn's optimum (at most {bounds.value.bound:.0e})"
                found.append(Finding(f"{r.framework} {r.method}", apart <= bounds.value.bound, words))
    jax, torch = _of(records, "jax", "Newton"), _of(records, "torch", "Newton")
    if jax is not None and torch is not None:
        a, b = np.array(jax.value["path"]), np.array(torch.value["path"])
        common = min(len(a), len(b))
        apart = stats.absolute_distance(a[:common], b[:common])
        words = f"iterates part by {apart:.1e} (at most {bounds.path.bound:.0e}), {len(a) - 1} and {len(b) - 1} steps"
        # The last steps, at the floor of rounding, can be one more or less.
        found.append(Finding("Newton's path", apart <= bounds.path.bound and abs(len(a) - len(b)) <= 1, words))
    return found


def rows(records: Sequence[Record], plan: Plan) -> list[dict[str, Any]]:
    """Return one row for each arm: its end, and what it took to each target; then the regressions."""
    records, many = _split(records)
    agrees = {finding.subject: finding.agrees for finding in findings(records, plan)}
    optimum = _optimum(records)
    peers = [r for r in (_of(records, *name) for name in PEERS) if r is not None]
    raced = [_row(r, optimum, agrees.get(f"{r.framework} {r.method}"), peers) for r in records]
    return [*raced, *regressions.rows(many, plan)]


def tables(rows: Sequence[Mapping[str, Any]], plan: Plan) -> list[Table]:
    """Return one line for each arm, and those of the regressions."""
    many = [row for row in rows if "regressions" in row]
    lines = []
    for row in _raced(rows):
        name = f"{row['framework']} {row['arm']}"
        if row["status"] != "ok":
            lines.append((name, row["status"], row["reason"], *[ABSENT] * (5 + len(TARGETS))))
            continue
        struck = row["agrees"] is False
        lines.append(
            (
                name,
                text.number(row["gap"]) + (": WRONG" if struck else ""),
                f"{row['steps']}",
                ABSENT if np.isnan(row["work"]) else f"{row['work']:.0f}",
                text.seconds(row["first_seconds"]),
                ABSENT if struck else text.seconds(row["seconds"]),
                ABSENT if struck or PEER not in row["ratios"] else text.interval(row["ratios"][PEER]),
                *(ABSENT if struck else _target(row["targets"][str(target)]) for target in TARGETS),
                f"{row['test_accuracy']:.4f}",
            )
        )
    columns = (
        "arm",
        "gap",
        "steps",
        "work",
        "first",
        "a run",
        "of newton-cholesky [95 %]",
        *(f"to {t:.0e}" for t in TARGETS),
        "test",
    )
    notes = (
        f"Softmax regression with penalty {race.PENALTY:g}/2 |kernel|^2, from 0. Gap: (value - optimum) / optimum, at "
        "the end. Work: in gradients of all rows, by flops. First: the first call, compilation included. To 1e-02: "
        "seconds of a run until the gap is that small, and the test accuracy there; within a run, seconds are shared "
        "out by work. scikit-learn runs in float64. Default: learning rate as asked for; tuned: the best of 11 from "
        "1e-4 to 10. Of newton-cholesky: the ratio of a run's time to that of scikit-learn's run, with its interval "
        "where both were measured in turn.",
    )
    race_table = Table(f"The race: {plan.workload}, {plan.dtype}", columns, lines, notes)
    return [race_table, *([regressions.table(many, plan)] if many else [])]


def figures(records: Sequence[Record], plan: Plan) -> list[Figure]:
    """Return the gap against steps, against work, and against seconds, without compilation and with."""
    records, _ = _split(records)
    if plan.overview or not any(r.ok for r in records):
        return []
    optimum = _optimum(records)
    courses = [r for r in records if r.ok and len(r.value["values"]) > 1]
    axes = {
        "steps": "steps",
        "work": "work, in gradients of all rows",
        "seconds": "seconds, without compilation",
        "seconds_with_compilation": "seconds, compilation included",
    }
    return [
        Figure(
            f"newton_{name}",
            f"Distance from the optimal value, relative, against {words}.",
            partial(_draw, courses=courses, optimum=optimum, name=name, words=words),
        )
        for name, words in axes.items()
    ]


def verdict(rows: Sequence[Mapping[str, Any]], plan: Plan) -> str:
    """Say when Newton pays: what it takes to a rough and to a fine target, beside the best first-order method."""
    raced = _raced(rows)
    newton = next((r for r in raced if r["arm"] == "Newton" and r["status"] == "ok"), None)
    others = [r for r in raced if r["status"] == "ok" and race.ARMS[r["framework"]][r["arm"]].name in race.FIRST_ORDER]
    if newton is None or not others:
        return ""
    if plan.overview:
        return f"Newton comes to {TARGETS[-1]:.0e} of the optimal value in {_when(newton, TARGETS[-1])}"
    parts = [
        f"to {target:.0e} of the optimal value Newton takes {_when(newton, target)}, {_best(others, target)}"
        for target in (TARGETS[0], TARGETS[-1])
    ]
    first = f"with compilation its first run takes {text.seconds(newton['first_seconds'])}"
    words = [f"Newton pays {_where(newton, others)}: " + "; ".join(parts), first]
    words += [f"it takes {text.interval(ratio)} of {name}'s time" for name, ratio in newton["ratios"].items()]
    return "; ".join(filter(None, [*words, regressions.verdict([r for r in rows if "regressions" in r])]))


def _split(records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """Return the records of the race, and those of the regressions."""
    many = [r for r in records if r.subject == regressions.SUBJECT]
    return [r for r in records if r not in many], many


def _raced(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [row for row in rows if "arm" in row]


def _where(newton: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    """Return from which target on no first-order method is sooner there, compilation apart."""
    sooner = {target: min(_soonest(r, target) for r in others) for target in TARGETS}
    won = [target for target in TARGETS if _soonest(newton, target) < sooner[target]]
    if not won:
        return "at no target here"
    return "at every target" if len(won) == len(TARGETS) else f"from {max(won):.0e} of the optimal value on"


def _soonest(row: Mapping[str, Any], target: float) -> float:
    reached = row["targets"][str(target)]
    return float("inf") if reached is None else float(reached["seconds"])


def _best(rows: Sequence[Mapping[str, Any]], target: float) -> str:
    reached = [r for r in rows if r["targets"][str(target)] is not None]
    if not reached:
        nearest = min(rows, key=lambda r: r["gap"])
        return f"no first-order method gets there ({nearest['arm']} comes to {text.number(nearest['gap'])})"
    best = min(reached, key=lambda r: r["targets"][str(target)]["seconds"])
    return f"{best['arm']} {_when(best, target)}"


def _when(row: Mapping[str, Any], target: float) -> str:
    reached = row["targets"][str(target)]
    return "forever" if reached is None else text.seconds(reached["seconds"])


def _of(records: Sequence[Record], framework: str, method: str) -> Record | None:
    return next((r for r in records if r.ok and (r.framework, r.method) == (framework, method)), None)


def _optimum(records: Sequence[Record]) -> float:
    """Return scikit-learn's optimal value; where it did not run, the least that was found."""
    reference = _of(records, *REFERENCE)
    if reference is not None:
        return float(reference.value["values"][-1])
    return min((min(r.value["values"]) for r in records if r.ok), default=float("nan"))


def _row(record: Record, optimum: float, agrees: bool | None, peers: Sequence[Record]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "framework": record.framework,
        "arm": record.method,
        "status": record.status,
        "reason": record.reason,
        "agrees": agrees,
    }
    if not record.ok:
        return row
    seconds = float(np.median(record.step_seconds))
    gaps = (np.array(record.value["values"]) - optimum) / optimum
    return row | {
        "value": record.value["values"][-1],
        "gap": float(gaps[-1]),
        "steps": record.value["steps"][-1],
        "work": record.value["work"][-1],
        "learning_rate": record.value.get("learning_rate"),
        "test_accuracy": record.value["test_accuracies"][-1],
        "first_seconds": record.first_seconds,
        "seconds": seconds,
        "spread": stats.spread(record.step_seconds),
        "ratios": {peer.method: _ratio(record, peer) for peer in peers if peer is not record},
        "targets": {str(target): _reached(record, gaps, target, seconds) for target in TARGETS},
    }


def _ratio(record: Record, peer: Record) -> stats.Interval:
    """Return the ratio of two arms' times, with its interval where they were measured in the same turns."""
    if record.group == peer.group:
        return stats.ratio(record.step_seconds, peer.step_seconds)
    return stats.ratio(np.median(record.step_seconds, keepdims=True), np.median(peer.step_seconds, keepdims=True))


def _reached(record: Record, gaps: np.ndarray, target: float, seconds: float) -> dict[str, float] | None:
    """Return when the gap was first within the target; an arm that shows its end alone was there at its end."""
    (marks,) = np.nonzero(gaps <= target)
    if not len(marks):
        return None
    mark = marks[0]
    return {
        "seconds": float(seconds * _shares(record)[mark]),
        "steps": record.value["steps"][mark],
        "work": record.value["work"][mark],
        "test_accuracy": record.value["test_accuracies"][mark],
    }


def _shares(record: Record) -> np.ndarray:
    """Return the part of the run's seconds gone at each mark."""
    work = np.array(record.value["work"])
    return np.ones(1) if len(work) == 1 else work / work[-1]


def _target(reached: Mapping[str, float] | None) -> str:
    return ABSENT if reached is None else f"{text.seconds(reached['seconds'])}, {reached['test_accuracy']:.3f}"


def _draw(axes: Any, courses: Sequence[Record], optimum: float, name: str, words: str) -> None:
    styles = {"newton": "-", "default": ":", "tuned": "--", "rows": "-."}
    names = list(dict.fromkeys(race.ARMS[r.framework][r.method].name for r in courses))
    for record in courses:
        arm = race.ARMS[record.framework][record.method]
        gaps = np.maximum((np.array(record.value["values"]) - optimum) / optimum, 1e-16)
        axes.plot(
            _across(record, name),
            gaps,
            styles[arm.kind],
            color=COLOURS[names.index(arm.name) % len(COLOURS)],
            marker="." if arm.kind == "newton" else None,
            markersize=3,
            linewidth=2 if record.framework == "jax" else 1,
            label=f"{record.method} ({record.framework})",
        )
    axes.set(xlabel=words, ylabel="(value - optimum) / optimum", xscale="log", yscale="log")
    axes.legend(frameon=False, fontsize=5, ncols=2)


def _across(record: Record, name: str) -> np.ndarray:
    if name in ("steps", "work"):
        return np.array(record.value[name], dtype=float)
    seconds = float(np.median(record.step_seconds))
    compilation = max(record.first_seconds - seconds, 0.0) if name == "seconds_with_compilation" else 0.0
    return compilation + seconds * _shares(record)

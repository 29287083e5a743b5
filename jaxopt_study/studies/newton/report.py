"""The race as tables, figures and a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from jaxopt_study.bench.case import Plan
from jaxopt_study.bench.record import Record
from jaxopt_study.data.workload import Array
from jaxopt_study.report import answers, charts
from jaxopt_study.report import table as text
from jaxopt_study.report.axes import Axis
from jaxopt_study.report.figures import Figure
from jaxopt_study.report.looks import LABELS
from jaxopt_study.report.table import ABSENT, Table
from jaxopt_study.studies.experiment import Row, all_skipped
from jaxopt_study.studies.newton.methods import FIRST_ORDER, LBFGS, METHODS, NEWTON, REFERENCE, method_of
from jaxopt_study.studies.newton.problems import PENALTY
from jaxopt_study.terminal import counted

__all__ = ["TARGETS", "figures", "shares", "tables", "verdict"]

TARGETS = (1e-2, 1e-4, 1e-8)
"""Gaps, (value - optimum) / optimum, that a run is to reach."""


def tables(rows: Sequence[Row], plan: Plan) -> list[Table]:
    """Return for each problem where each method ended, and when it came near the optimum."""
    found: list[Table] = []
    columns, times = COLUMNS, TIMES
    for name in dict.fromkeys(row["problem"] for row in rows):
        mine, title = [row for row in rows if row["problem"] == name], f"The race: {name}, {plan.dtype}"
        if skipped := all_skipped(title, mine):
            found.append(skipped)
            continue
        found += [_ends(title, mine, columns), _arrivals(name, mine, times)]
        columns, times = (), ()  # the notes on the columns stand under the first two tables, and hold for all
    return found


COLUMNS: tuple[str, ...] = (
    f"Linear models with cross-entropy and penalty {PENALTY:g}/2 |kernel|², from parameters 0. scikit-learn and SciPy "
    "run in float64. Default: the learning rate asked for. Tuned: the best of 11 learning rates from 1e-4 to 10; the "
    "time of the trials is not counted.",
    "Gap: (value - optimum) / optimum, at the end. Work: in gradients of all rows, by flops. First call: compilation "
    "included; what the first breast-cancer problem compiles is not compiled again for the second. Accuracy: on the "
    "test rows; those of the breast-cancer problems are their training rows.",
)
TIMES: tuple[str, ...] = (
    "Time of a run until the gap is that small, and the accuracy there. Within a run, the time is shared out by work. "
    "Of scikit-learn, SciPy, torchmin and torch.optim.LBFGS only the end is known: theirs are whole runs.",
)


def _ends(title: str, rows: Sequence[Row], notes: tuple[str, ...]) -> Table:
    columns = (
        "method", "gap", "steps", "work", "first call", "per run", "time / newton-cholesky's [95 %]", "accuracy",
    )  # fmt: skip
    flags = text.flags(row["ratios"].get(REFERENCE[1]) for row in rows)
    if all(row["framework"] != REFERENCE[0] for row in rows):
        notes += ("scikit-learn did not run: the optimum is the least value of these runs.",)
    main = ("per run", "gap", "time / newton-cholesky's [95 %]", "first call")
    return Table(title, columns, [*map(_end, rows)], (*notes, *flags), main=main)


def _end(row: Row) -> tuple[str, ...]:
    if row["status"] != "ok":
        return (_name(row), row["status"], row["reason"], *[ABSENT] * 5)
    times = [ABSENT, "withheld: values disagree"]
    if "seconds" in row:
        times = [text.seconds(row["first_seconds"]), text.seconds(row["seconds"])]
    return (
        _name(row),
        text.number(row["gap"]),
        f"{row['steps']}",
        ABSENT if np.isnan(row["work"]) else f"{row['work']:,.0f}",
        *times,
        text.ratio(row["ratios"].get(REFERENCE[1])),
        f"{row['test_accuracy']:.4f}",
    )


def _arrivals(name: str, rows: Sequence[Row], notes: tuple[str, ...]) -> Table:
    near = [row for row in rows if row["targets"][str(TARGETS[0])]]
    lines = [(_name(row), *(_arrival(row["targets"][str(target)]) for target in TARGETS)) for row in near]
    others = [_name(row) for row in rows if row["status"] == "ok" and row not in near]
    notes += (f"Did not reach {TARGETS[0]:.0e}: {'; '.join(others)}.",) if others else ()
    targets = tuple(f"to {t:.0e}" for t in TARGETS)
    return Table(f"Near the optimum of {name}", ("method", *targets), lines, notes, main=targets)


def _arrival(reached: Mapping[str, float] | None) -> str:
    return ABSENT if reached is None else f"{text.seconds(reached['seconds'])}, {reached['test_accuracy']:.3f}"


def _name(row: Row) -> str:
    return f"{row['framework']} {row['method']}"


def verdict(rows: Sequence[Row], plan: Plan) -> str:
    """Say which targets Newton reaches first, and when, on the run's workload; then on the small problems."""
    if plan.overview:
        return _in_short(rows, plan)
    newton, others = _rivals(rows, plan.workload)
    reached = [target for target in TARGETS if newton and newton["targets"][str(target)]]
    if newton is None or not others or not reached:
        return ""
    parts = [
        f"compilation not counted, Newton is ahead of first-order methods (L-BFGS too) {_where(newton, others)} "
        f"on {plan.workload}"
    ]
    parts += [
        f"it comes within {target:.0e} of the optimal value in {_when(newton, target)}, and {_best(others, target)}"
        for target in dict.fromkeys([reached[0], reached[-1]])
    ]
    for name in dict.fromkeys(row["problem"] for row in rows if row["problem"] != plan.workload):
        small, rest = _rivals(rows, name)
        parts += [f"on {name}, it is ahead {_where(small, rest)}"] if small and rest else []
    parts.append(f"Newton's first run, compilation included, takes {text.seconds(newton['first_seconds'])}")
    parts += [f"a run takes {text.ratio(ratio)} times as long as {name}" for name, ratio in newton["ratios"].items()]
    return "\n".join(parts)


def _in_short(rows: Sequence[Row], plan: Plan) -> str:
    """Say how many steps Newton's method makes in each framework, and in what time."""
    shown = [row for row in rows if row["problem"] == plan.workload and "seconds" in row and row["method"] == NEWTON]
    if not shown:
        return ""
    times = ", ".join(f"{text.seconds(row['seconds'])} in {row['framework']}" for row in shown)
    *others, last = dict.fromkeys(row["steps"] for row in shown)
    steps = " and ".join([*map(str, others), counted(last, "step")])
    apart = f"; values differ by {text.number(max(row['gap'] for row in shown))}" if len(shown) > 1 else ""
    return f"Newton's method: {steps}, {times}, not counting compilation{apart}"


def _rivals(rows: Sequence[Row], problem: str) -> tuple[Row | None, list[Row]]:
    """Return exact Newton's row on a problem, JAX's if there is one, and those of first-order methods, L-BFGS too."""
    shown = [row for row in rows if row["problem"] == problem and "seconds" in row]
    newton = next((row for row in shown if row["method"] == NEWTON), None)
    return newton, [row for row in shown if METHODS[row["framework"]][row["method"]].name in (*FIRST_ORDER, LBFGS)]


def _where(newton: Row, others: Sequence[Row]) -> str:
    """Return the targets that Newton reaches before all first-order methods, compilation not counted."""
    won = [t for t in TARGETS if _seconds(newton, t) < min(_seconds(row, t) for row in others)]
    if not won:
        return "at no target"
    return "at every target" if len(won) == len(TARGETS) else f"at {' and '.join(f'{t:.0e}' for t in won)}"


def _seconds(row: Row, target: float) -> float:
    reached = row["targets"][str(target)]
    return float("inf") if reached is None else float(reached["seconds"])


def _best(rows: Sequence[Row], target: float) -> str:
    best = min(rows, key=lambda row: _seconds(row, target))
    if best["targets"][str(target)] is None:
        nearest = min(rows, key=lambda row: float(row["gap"]))
        return f"no first-order method does ({nearest['method']} comes to {text.number(nearest['gap'])})"
    return f"the fastest first-order method, {best['method']}, in {_when(best, target)}"


def _when(row: Row, target: float) -> str:
    return text.seconds(_seconds(row, target))


AXES = {
    "work": Axis("work, in gradients of all rows", log=True),
    "seconds": Axis("time, without compilation", "s", log=True),
    "seconds_with_compilation": Axis("time, compilation included", "s", log=True),
}
GAP = "relative distance"
ENDS = ("torchmin", "torch_lbfgs", "scikit_learn", "scipy")
"""Kinds of methods of which only the end is known; its work is not."""
LEAST = 1e-16
"""A gap less than this is shown as this."""


def figures(records: Sequence[Record], best: float) -> list[Figure]:
    """Return the gap against steps, and what it takes in work and in seconds until it is small."""
    courses = [r for r in records if method_of(r).kind in ("newton", "tuned")]
    found = []
    if rows := [row for r in courses for row in _course(r, best)]:
        words = (
            "Distance from the optimal value, relative. Each panel is a method, beside the courses of all others in "
            "grey."
        )
        drawn = partial(charts.lines, rows, Axis("step", log=True), Axis(GAP, log=True), dots=False, context=True)
        found.append(Figure("newton_steps", "Towards the optimum, step by step", words, drawn))
    rough, middle, fine = (f"{target:.0e}" for target in TARGETS)
    for name, axis in AXES.items():
        words = (
            f"Point: the relative distance from the optimal value is {middle}. Line: from {rough} to {fine}, or to "
            f"the end. What never comes to {middle} has no row. Of scikit-learn, SciPy, torchmin and "
            "torch.optim.LBFGS only the end is known."
        )
        known = [r for r in records if name != "work" or method_of(r).kind not in ENDS]
        if rows := _arrivals_at(known, best, name):
            made = partial(charts.points, rows, axis)
            found.append(Figure(f"newton_{name}", f"What it takes to come near the optimum: {axis.title}", words, made))
    return found


def _course(record: Record, best: float) -> list[dict[str, Any]]:
    steps, gaps = record.value["steps"], _gaps(record, best)
    same = {"panel": record.method, "group": LABELS[record.framework], "case": record.case.key}
    return [{"x": step, "y": float(gap), **same} for step, gap in zip(steps, gaps, strict=True)]


def _arrivals_at(records: Sequence[Record], best: float, name: str) -> list[dict[str, Any]]:
    """Return a row for each method that comes within the middle target, the quickest first."""
    rows = []
    for r in records:
        across, gaps = _across(r, name), _gaps(r, best)
        reached = [float(across[np.argmax(gaps <= t)]) for t in TARGETS if (gaps <= t).any()]
        if len(reached) > 1:
            what = {"value": reached[1], "low": reached[0], "high": reached[-1]}
            rows.append({"name": r.method, "group": LABELS[r.framework], **what, **answers.of(r)})
    return sorted(rows, key=lambda row: row["value"])


def _gaps(record: Record, best: float) -> Array:
    return np.maximum((np.array(record.value["values"]) - best) / best, LEAST)


def _across(record: Record, name: str) -> Array:
    if name == "work":
        return np.array(record.value[name], dtype=float)
    compilation = max(record.first_seconds - record.seconds, 0.0) if name == "seconds_with_compilation" else 0.0
    return compilation + record.seconds * shares(record)


def shares(record: Record) -> Array:
    """Return the part of the run's time at each mark, by work."""
    work = np.array(record.value["work"])
    return np.ones(1) if len(work) == 1 else work / work[-1]

"""The race as tables, figures and a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from jaxopt_study.bench.case import Plan
from jaxopt_study.bench.record import Record
from jaxopt_study.report import table as text
from jaxopt_study.report.figure import COLOURS, Figure
from jaxopt_study.report.table import ABSENT, Table
from jaxopt_study.studies.newton import regressions
from jaxopt_study.studies.newton.arms import ARMS, FIRST_ORDER
from jaxopt_study.studies.newton.judgement import PEER, TARGETS, by_problem, optimum, shares
from jaxopt_study.studies.newton.problems import PENALTY

__all__ = ["figures", "tables", "verdict"]

Row = Mapping[str, Any]


def tables(rows: Sequence[Row], plan: Plan) -> list[Table]:
    """Return for each problem where each arm ended, when those that came near were near, and the regressions."""
    raced = [row for row in rows if "arm" in row]
    found = []
    for name in dict.fromkeys(row["problem"] for row in raced):
        mine = [row for row in raced if row["problem"] == name]
        found += [_ends(name, mine, plan), _arrivals(name, mine)]
    many = [row for row in rows if "regressions" in row]
    return [*found, *([regressions.table(many, plan)] if many else [])]


def _ends(name: str, rows: Sequence[Row], plan: Plan) -> Table:
    lines = []
    for row in rows:
        arm = _name(row)
        if row["status"] != "ok":
            lines.append((arm, row["status"], row["reason"], *[ABSENT] * 5))
            continue
        struck = not row["agrees"]
        lines.append(
            (
                arm,
                text.number(row["gap"]) + (": WRONG" if struck else ""),
                f"{row['steps']}",
                ABSENT if np.isnan(row["work"]) else f"{row['work']:.0f}",
                text.seconds(row["first_seconds"]),
                ABSENT if struck else text.seconds(row["seconds"]),
                ABSENT if struck or PEER not in row["ratios"] else text.interval(row["ratios"][PEER]),
                f"{row['test_accuracy']:.4f}",
            )
        )
    columns = ("arm", "gap", "steps", "work", "first", "a run", "of newton-cholesky [95 %]", "accuracy")
    notes = (
        f"{'Softmax' if name == plan.workload else 'Logistic'} regression with penalty {PENALTY:g}/2 |kernel|^2, from "
        "0. Gap: (value - optimum) / optimum, at the end. Work: in gradients of all rows, by flops. First: the first "
        "call, compilation included; what breast-cancer-raw compiled, -standardized finds. "
        "Of newton-cholesky: the ratio of a run's time to that of scikit-learn's, with its "
        "interval where both were measured in turn. scikit-learn and SciPy run in float64. Default: learning rate as "
        "asked for; tuned: the best of 11 from 1e-4 to 10, whose trials are not counted. Accuracy: "
        + ("on the test half." if name == plan.workload else "on all rows, which are those of the training."),
    )
    return Table(f"The race: {name}, {plan.dtype}", columns, lines, notes)


def _arrivals(name: str, rows: Sequence[Row]) -> Table:
    near = [row for row in rows if row["status"] == "ok" and row["agrees"] and row["targets"][str(TARGETS[0])]]
    lines = [(_name(row), *(_target(row["targets"][str(target)]) for target in TARGETS)) for row in near]
    notes = (
        "Seconds of a run until the gap is that small, and the accuracy there; within a run, seconds are shared out by "
        "work. scikit-learn, SciPy, torchmin and torch.optim.LBFGS show their end alone: theirs are whole runs. Not so "
        f"near: {', '.join(_name(row) for row in rows if row not in near) or 'none'}.",
    )
    return Table(f"Near the optimum of {name}", ("arm", *(f"to {t:.0e}" for t in TARGETS)), lines, notes)


def _name(row: Row) -> str:
    return f"{row['framework']} {row['arm']}"


def figures(records: Sequence[Record], plan: Plan) -> list[Figure]:
    """Return the gap against steps, against work, and against seconds, without compilation and with."""
    mine = [r for r in by_problem(records).get(plan.workload, []) if r.ok]
    if plan.overview or not mine:
        return []
    best = optimum(mine)
    axes = {
        "steps": "steps",
        "work": "work, in gradients of all rows",
        "seconds": "seconds, without compilation",
        "seconds_with_compilation": "seconds, compilation included",
    }
    return [
        Figure(
            f"newton_{name}",
            f"Distance from the optimal value, relative, against {words}. Lines are courses, marks alone the ends of "
            "arms that show nothing else.",
            partial(_draw, records=[r for r in mine if _shown(r)], best=best, name=name, words=words),
        )
        for name, words in axes.items()
    ]


def verdict(rows: Sequence[Row], plan: Plan) -> str:
    """Say when Newton pays: what it takes to a rough and to a fine target, beside the best first-order method."""
    newton, others = _rivals(rows, plan.workload)
    if newton is None or not others:
        return ""
    if plan.overview:
        return f"Newton comes to {TARGETS[-1]:.0e} of the optimal value in {_when(newton, TARGETS[-1])}"
    reached = [target for target in TARGETS if newton["targets"][str(target)]]
    parts = [
        f"to {target:.0e} of the optimal value it takes {_when(newton, target)}, {_best(others, target)}"
        for target in dict.fromkeys([*reached[:1], *reached[-1:]])
    ]
    words = [f"compilation apart, Newton is the sooner {_where(newton, others)} of {plan.workload}", *parts]
    small = {row["problem"] for row in rows if row.get("problem", plan.workload) != plan.workload}
    pairs = {name: _rivals(rows, name) for name in sorted(small)}
    words += [f"of {name}, {_where(newton, others)}" for name, (newton, others) in pairs.items() if newton and others]
    words += [f"the first run, with compilation, {text.seconds(newton['first_seconds'])}"]
    words += [f"{text.interval(ratio)} of {name}'s time" for name, ratio in newton["ratios"].items()]
    return "; ".join(filter(None, [*words, regressions.verdict([r for r in rows if "regressions" in r])]))


def _rivals(rows: Sequence[Row], problem: str) -> tuple[Row | None, list[Row]]:
    """Return exact Newton's row on a problem, and those of the first-order methods."""
    raced = [row for row in rows if row.get("problem") == problem and row["status"] == "ok"]
    newton = next((row for row in raced if row["arm"] == "Newton"), None)
    return newton, [row for row in raced if ARMS[row["framework"]][row["arm"]].name in FIRST_ORDER]


def _where(newton: Row, others: Sequence[Row]) -> str:
    """Return to which targets no first-order method comes as soon, compilation apart."""
    sooner = {target: min(_soonest(r, target) for r in others) for target in TARGETS}
    won = [target for target in TARGETS if _soonest(newton, target) < sooner[target]]
    if not won:
        return "to no target"
    return "to every target" if len(won) == len(TARGETS) else f"to {' and '.join(f'{target:.0e}' for target in won)}"


def _soonest(row: Row, target: float) -> float:
    reached = row["targets"][str(target)]
    return float("inf") if reached is None else float(reached["seconds"])


def _best(rows: Sequence[Row], target: float) -> str:
    reached = [r for r in rows if r["targets"][str(target)] is not None]
    if not reached:
        nearest = min(rows, key=lambda r: r["gap"])
        return f"no first-order method gets there ({nearest['arm']} comes to {text.number(nearest['gap'])})"
    best = min(reached, key=lambda r: r["targets"][str(target)]["seconds"])
    return f"{best['arm']} {_when(best, target)}"


def _when(row: Row, target: float) -> str:
    reached = row["targets"][str(target)]
    return "forever" if reached is None else text.seconds(reached["seconds"])


def _target(reached: Mapping[str, float] | None) -> str:
    return ABSENT if reached is None else f"{text.seconds(reached['seconds'])}, {reached['test_accuracy']:.3f}"


STYLES = {"newton": "-", "tuned": "--", "default": ":", "rows": "-."}
ENDS = {"torchmin": "s", "torch_lbfgs": "^", "scikit_learn": "D"}
"""Markers of the arms that show nothing but their end."""


def _shown(record: Record) -> bool:
    """Whether an arm is drawn: all but the repetitions of a course that is drawn already, or of its optimizer."""
    arm = ARMS[record.framework][record.method]
    if arm.kind in ENDS:
        return True
    if arm.kind == "newton":
        return record.framework == "jax" or arm.name in ("exact", "newton_cg")
    return record.framework == "jax" and (arm.kind == "tuned" or arm.name == "adam")


def _draw(axes: Any, records: Sequence[Record], best: float, name: str, words: str) -> None:
    courses = [ARMS[r.framework][r.method] for r in records if len(r.value["values"]) > 1]
    second, first = (
        list(dict.fromkeys(arm.name for arm in courses if (arm.name in FIRST_ORDER) == is_first)) for is_first in (0, 1)
    )
    ends = [r for r in records if ARMS[r.framework][r.method].kind in ENDS]
    for record in records:
        arm = ARMS[record.framework][record.method]
        across, end = _across(record, name), record in ends
        if end and name == "work":
            continue
        gaps = np.maximum((np.array(record.value["values"]) - best) / best, 1e-16)
        shown = slice(None) if end else slice(1, None)  # the start stands at 0, which a logarithmic axis has not
        colours = [r.method for r in ends] if end else second if arm.kind == "newton" else first
        axes.plot(
            across[shown],
            gaps[shown],
            linestyle="none" if end else STYLES[arm.kind],
            color=COLOURS[colours.index(record.method if end else arm.name) % len(COLOURS)],
            marker=ENDS.get(arm.kind, "." if arm.kind == "newton" else None),
            markersize=6 if end else 4,
            linewidth=1.6 if record.framework == "jax" else 0.8,
            label=f"{record.method} ({record.framework})",
        )
    axes.set(xlabel=words, ylabel="(value - optimum) / optimum", xscale="log", yscale="log")
    axes.legend(frameon=False, fontsize=6, loc="center left", bbox_to_anchor=(1, 0.5))


def _across(record: Record, name: str) -> np.ndarray:
    if name in ("steps", "work"):
        return np.array(record.value[name], dtype=float)
    seconds = float(np.median(record.step_seconds))
    compilation = max(record.first_seconds - seconds, 0.0) if name == "seconds_with_compilation" else 0.0
    return compilation + seconds * shares(record)

"""The race as tables, figures and a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from jaxopt_study.bench.case import Plan
from jaxopt_study.bench.record import Record
from jaxopt_study.data.workload import Array
from jaxopt_study.report import table as text
from jaxopt_study.report.figure import COLOURS, Figure
from jaxopt_study.report.table import ABSENT, Table
from jaxopt_study.studies.experiment import Row, all_skipped
from jaxopt_study.studies.newton.methods import FIRST_ORDER, METHODS, NEWTON, REFERENCE, method_of
from jaxopt_study.studies.newton.problems import PENALTY

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
        f"compilation not counted, Newton is ahead of first-order methods {_where(newton, others)} on {plan.workload}"
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
    """Say how near to the optimum Newton's method comes in each framework, and in what time."""
    shown = [row for row in rows if row["problem"] == plan.workload and "seconds" in row and row["method"] == NEWTON]
    reached = [t for t in TARGETS if shown and all(row["targets"][str(t)] for row in shown)]
    if not reached:
        return ""
    times = " and ".join(f"{_when(row, reached[-1])} in {row['framework']}" for row in shown)
    steps = " and ".join(dict.fromkeys(str(row["steps"]) for row in shown))
    return f"Newton's method: {reached[-1]:.0e} from the optimal value in {times} ({steps} steps, without compilation)"


def _rivals(rows: Sequence[Row], problem: str) -> tuple[Row | None, list[Row]]:
    """Return exact Newton's row on a problem, JAX's if there is one, and those of the first-order methods."""
    shown = [row for row in rows if row["problem"] == problem and "seconds" in row]
    newton = next((row for row in shown if row["method"] == NEWTON), None)
    return newton, [row for row in shown if METHODS[row["framework"]][row["method"]].name in FIRST_ORDER]


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
    "steps": "steps",
    "work": "work, in gradients of all rows",
    "seconds": "seconds, without compilation",
    "seconds_with_compilation": "seconds, compilation included",
}
STYLES = {"newton": "-", "tuned": "--", "default": ":", "rows": "-."}
ENDS = {"torchmin": "s", "torch_lbfgs": "^", "scikit_learn": "D"}
"""Markers of the methods of which only the end is known."""


def figures(records: Sequence[Record], best: float) -> list[Figure]:
    """Return the gap against steps, against work, and against seconds, without compilation and with."""
    drawn = [r for r in records if _drawn(r)]
    return [
        Figure(
            f"newton_{name}",
            f"Distance from the optimal value, relative, against {words}. Lines are whole courses; a mark alone is the "
            "end of a method of which nothing else is known.",
            partial(_draw, records=drawn, best=best, name=name, words=words),
        )
        for name, words in AXES.items()
    ]


def _drawn(record: Record) -> bool:
    """Whether a method is drawn: not where another line shows the same course, or another run of the optimizer."""
    method = method_of(record)
    if method.kind in ENDS:
        return True
    if method.kind == "newton":
        return record.framework == "jax" or method.name in ("exact", "newton_cg")
    return record.framework == "jax" and (method.kind == "tuned" or method.name == "adam")


def _draw(axes: Any, records: Sequence[Record], best: float, name: str, words: str) -> None:
    ends = [r for r in records if method_of(r).kind in ENDS and name != "work"]  # the work of these is not known
    courses = [r for r in records if method_of(r).kind not in ENDS]
    for mine in (
        ends,
        [r for r in courses if method_of(r).kind == "newton"],
        [r for r in courses if method_of(r).kind != "newton"],
    ):
        colours = list(dict.fromkeys(_colour_key(r) for r in mine))
        for record in mine:
            _draw_course(
                axes, record, _across(record, name), best, COLOURS[colours.index(_colour_key(record)) % len(COLOURS)]
            )
    axes.set(xlabel=words, ylabel="(value - optimum) / optimum", xscale="log", yscale="log")
    axes.legend(frameon=False, fontsize=6, loc="center left", bbox_to_anchor=(1, 0.5))


def _colour_key(record: Record) -> str:
    method = method_of(record)
    return record.method if method.kind in ENDS else method.name


def _draw_course(axes: Any, record: Record, across: Array, best: float, colour: str) -> None:
    kind = method_of(record).kind
    gaps = np.maximum((np.array(record.value["values"]) - best) / best, 1e-16)
    shown = slice(None) if kind in ENDS else slice(1, None)  # a logarithmic axis has no 0, where the start is
    axes.plot(
        across[shown],
        gaps[shown],
        linestyle=STYLES.get(kind, "none"),
        color=colour,
        marker=ENDS.get(kind, "." if kind == "newton" else None),
        markersize=6 if kind in ENDS else 4,
        linewidth=1.6 if record.framework == "jax" else 0.8,
        label=f"{record.method} ({record.framework})",
    )


def _across(record: Record, name: str) -> Array:
    if name in ("steps", "work"):
        return np.array(record.value[name], dtype=float)
    compilation = max(record.first_seconds - record.seconds, 0.0) if name == "seconds_with_compilation" else 0.0
    return compilation + record.seconds * shares(record)


def shares(record: Record) -> Array:
    """Return the part of the run's time at each mark, by work."""
    work = np.array(record.value["work"])
    return np.ones(1) if len(work) == 1 else work / work[-1]

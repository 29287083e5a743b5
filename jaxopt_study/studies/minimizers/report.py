"""The runs as tables, a figure and a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from jaxopt_study.data.workload import Array
from jaxopt_study.report import charts
from jaxopt_study.report import table as text
from jaxopt_study.report.axes import Axis
from jaxopt_study.report.figures import Figure
from jaxopt_study.report.table import ABSENT, Table
from jaxopt_study.studies.experiment import Row, all_skipped
from jaxopt_study.studies.minimizers.outcomes import Outcome, refuted
from jaxopt_study.studies.minimizers.runs import ITERATIONS
from jaxopt_study.studies.ranking import statistics

__all__ = ["figures", "row", "tables", "verdict"]

TITLE = "Minimizers on unconstrained problems of CUTEst, float64"
MOST = 64.0
"""The profile is drawn up to so many times the least work."""
GROUPS = {True: "ours", False: "other people's"}
"""Whether a minimizer is ours -> its group in the figure."""
NOTES = (
    f"Each minimizer makes at most {ITERATIONS:,} iterations; optimistix, which counts each trial of its line search "
    f"as a step, {10 * ITERATIONS:,} steps. A run solves its problem where the objective is within "
    "1e-6 (1 + |best|) of the best value at which any minimizer ended, and the largest entry of the gradient is at "
    "most 1e-6 (1 + that of the start).",
    "Work is counted in gradients: a Hessian-vector product is two, a Hessian two for each variable. Median work: over "
    "the problems that the minimizer solves. Least work: on how many of the problems that two or more minimizers "
    "solve it needs the least work; in the last column, the least of itself and other people's minimizers.",
)


def row(outcome: Outcome) -> dict[str, Any]:
    """Return a run as plain numbers."""
    return {
        "solver": outcome.solver,
        "own": outcome.own,
        "size": outcome.size,
        "solved": outcome.solved,
        "work": outcome.end.work,
        "iterations": int(outcome.end.iterations),
        "value": outcome.end.value,
        "gap": outcome.gap,
        "gradient": outcome.end.slope,
        "ended": outcome.status,
        "says": outcome.words,
        "refuted": refuted(outcome) if outcome.own else None,
    }


class Works(NamedTuple):
    """The work of each run that solved its problem, infinite where one did not: (problems, solvers)."""

    solvers: list[str]
    own: list[bool]
    problems: list[str]
    work: Array

    def least(self, among: Sequence[int]) -> Array:
        """Return on how many problems that two or more of these solve each of them needs the least: (these,)."""
        some = self.work[:, among]
        shared = some[np.isfinite(some).sum(axis=1) >= 2]
        return (shared == shared.min(axis=1, keepdims=True)).sum(axis=0) / max(1, len(shared))


def works(rows: Sequence[Row]) -> Works:
    """Return the work of the runs."""
    ended = [row for row in rows if "solver" in row]
    own = {row["solver"]: row["own"] for row in ended}
    solvers, problems = list(own), list(dict.fromkeys(row["problem"] for row in ended))
    work = np.full((len(problems), len(solvers)), np.inf)
    for row in ended:
        if row["solved"]:
            work[problems.index(row["problem"]), solvers.index(row["solver"])] = row["work"]
    return Works(solvers, [own[name] for name in solvers], problems, work)


def tables(rows: Sequence[Row]) -> list[Table]:
    """Return the table of all minimizers, and that of the runs of ours that did not solve their problem."""
    skipped = all_skipped(TITLE, [{**row, "status": row["record"]} for row in rows])
    if skipped:
        return [skipped]
    found = works(rows)
    if not found.problems:
        return []
    columns = ("minimizer", "solved", "of", "median work", "least work", "beside others'")
    lines = [_line(found, number) for number in range(len(found.solvers))]
    absent = sorted({row["reason"] for row in rows if "solver" not in row})
    return [Table(TITLE, columns, lines, NOTES, reasons=absent), *_failures(rows)]


def _line(found: Works, number: int) -> tuple[str, ...]:
    mine = found.work[:, number]
    solved = np.isfinite(mine)
    everyone = range(len(found.solvers))
    others = [n for n in everyone if not found.own[n]]
    beside = found.least([number, *others])[0] if found.own[number] else None
    return (
        found.solvers[number],
        f"{solved.sum()}",
        f"{len(mine)}",
        f"{np.median(mine[solved]):,.0f}" if solved.any() else ABSENT,
        f"{100 * found.least(everyone)[number]:.0f} %",
        ABSENT if beside is None else f"{100 * beside:.0f} %",
    )


def _failures(rows: Sequence[Row]) -> list[Table]:
    """Return the runs of ours that did not solve a problem that some minimizer solves."""
    ended = [row for row in rows if "solver" in row]
    solvable = {row["problem"] for row in ended if row["solved"]}
    failed = [row for row in ended if row["own"] and not row["solved"] and row["problem"] in solvable]
    if not failed:
        return []
    lines = [
        (
            row["solver"],
            f"{row['problem']} ({row['size']})",
            text.number(row["gap"]),
            text.number(row["gradient"]),
            f"{row['iterations']}",
            row["says"],
        )
        for row in failed
    ]
    columns = ("minimizer", "problem", "above the best", "gradient", "iterations", "it says")
    note = "In brackets, the number of variables. Problems that no minimizer solves are not listed."
    main = ("problem", "above the best", "it says")
    return [Table("Not solved by ours", columns, lines, (note,), left=("problem", "it says"), main=main)]


def figures(rows: Sequence[Row]) -> list[Figure]:
    """Return the performance profile (Dolan and Moré, 2002)."""
    found = works(rows)
    if not found.problems:
        return []
    caption = (
        "The part of the problems that a minimizer solves within a multiple of the least work of all. Grey: the other "
        "minimizers."
    )
    work, part = Axis("multiple of the least work", log=True), Axis("part of the problems", ends=(0, 1))
    draw = partial(charts.lines, _profile(found), work, part, dots=False, context=True, curve="step-after")
    return [Figure("minimizers_profile", "Performance profile of the minimizers", caption, draw)]


def _profile(found: Works) -> list[dict[str, Any]]:
    factors = np.geomspace(1, MOST, 60)
    parts = statistics.profile(found.work, factors.tolist())
    return [
        {"x": float(factor), "y": float(part), "panel": name, "group": GROUPS[own]}
        for name, own, mine in zip(found.solvers, found.own, parts.T, strict=True)
        for factor, part in zip(factors, mine, strict=True)
    ]


def verdict(rows: Sequence[Row]) -> str:
    """Say how many problems the best minimizer of ours solves, beside the best of the others."""
    found = works(rows)
    if not found.problems:
        return ""
    solved = np.isfinite(found.work).sum(axis=0)
    best = [
        max((n for n, own in enumerate(found.own) if own is kind), key=lambda n: solved[n]) for kind in (True, False)
    ]
    names, counts = [found.solvers[n] for n in best], [int(solved[n]) for n in best]
    said = [row["refuted"] for row in rows if row.get("refuted") is not None]
    lines = [
        f"of {len(found.problems)} problems, {names[0]} solves {counts[0]}, and {names[1]}, the best of the other "
        f"minimizers, {counts[1]}",
        f"of {len(said)} sentences on ends of ours, the objective refutes {sum(map(bool, said))}",
    ]
    return "\n".join(lines)

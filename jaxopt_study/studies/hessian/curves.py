"""Cost curves: problems that grow in one way each, where a route's curve ends, what is fitted, and how it is drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from jaxopt_study.data import problem as problems
from jaxopt_study.bench import stats
from jaxopt_study.bench.case import Case, Plan
from jaxopt_study.data.problem import name_of
from jaxopt_study.bench.record import Record
from jaxopt_study.report import table as text
from jaxopt_study.report.figure import COLOURS, Figure
from jaxopt_study.report.table import Table
from jaxopt_study.studies.hessian.routes import short

Row = Mapping[str, Any]
Arm = tuple[str, str]
"""A framework and a route."""


BOTH_WAYS = ("gradient", "hessian_forward_over_reverse", "hessian_blocked")


@dataclass(frozen=True)
class Curve:
    """Problems that grow in one way.

    Attributes:
        grows: What the reader is told.
        size: The entry of a row that says how large the problem is.
        problems: Profile -> names of problems, the smallest first.
        routes: What is measured of each; `full` has BOTH_WAYS besides.
    """

    grows: str
    size: str
    problems: Mapping[str, tuple[str, ...]]
    routes: tuple[str, ...]


def _hidden(*widths: int) -> tuple[str, ...]:
    return tuple(name_of((64, width, 10), 898) for width in widths)


def _linear(*shapes: tuple[int, int]) -> tuple[str, ...]:
    return tuple(name_of(shape, 449) for shape in shapes)


def _rows(*counts: int) -> tuple[str, ...]:
    return tuple(name_of((32, 10), count) for count in counts)


def _deep(*depths: int) -> tuple[str, ...]:
    return tuple(name_of((12,) * (depth + 1), 225) for depth in depths)


SMALL = ((16, 5), (12, 12), (32, 10), (48, 11), (64, 12))

# What XLA takes to compile is most of a curve's time, and grows with depth; so `default` leaves out what tells least.
CURVES = (
    Curve(
        "parameters, by hidden units",
        "parameters",
        {
            "smoke": _hidden(2, 4),
            "default": _hidden(2, 3, 4, 7),
            "full": _hidden(2, 3, 4, 5, 7, 12, 27, 53, 107, 267),
        },
        BOTH_WAYS,
    ),
    Curve(
        "parameters, by features and classes",
        "parameters",
        {"smoke": _linear((16, 5)), "default": _linear(*SMALL), "full": _linear(*SMALL, (128, 16), (256, 20))},
        (*BOTH_WAYS, "hessian_closed_form"),
    ),
    Curve(
        "rows",
        "rows",
        {"smoke": (), "default": _rows(112, 225, 449, 898, 1796), "full": _rows(112, 225, 449, 898, 1796, 3592, 7184)},
        ("hessian_blocked",),
    ),
    Curve(
        "depth",
        "depth",
        {"smoke": (), "default": _deep(1, 2, 3, 4), "full": _deep(1, 2, 3, 4, 5, 6, 8)},
        ("hessian_blocked",),
    ),
)

BUDGET_SECONDS = {"smoke": 1.0, "default": 2.0, "full": 600.0}
"""A route's curve ends where one Hessian is foreseen to take longer."""

ONE_CALL = 1e10
"""Entries of the Hessian times rows: from here on a Hessian takes seconds, and is made once."""


def problems_and_routes(plan: Plan) -> dict[str, tuple[str, ...]]:
    """Return the problems of all curves, each once, and what is measured of each."""
    found: dict[str, tuple[str, ...]] = {}
    for curve in CURVES:
        for name in curve.problems[plan.profile]:
            more = BOTH_WAYS if plan.profile == "full" else ()
            found[name] = tuple(dict.fromkeys((*found.get(name, ()), *more, *curve.routes)))
    return found


def repeats(problem: str, method: str, plan: Plan) -> int:
    """Return how many blocks of a case are measured: of a large Hessian none, its first call is all."""
    if _cost(problem) > ONE_CALL and method != "gradient":
        return 0
    return max(1, min(plan.repeats // 6, int(ONE_CALL / _cost(problem))))


def skip(case: Case, records: Sequence[Record], plan: Plan) -> str | None:
    """Say why a case need not be tried: by the largest smaller one of its route it would take too long."""
    curves = [r for r in records if r.ok and r.subject in problems_and_routes(plan)]
    same = [r for r in curves if (r.method, r.framework) == (case.method, case.framework)]
    smaller = [r for r in same if _cost(r.subject) < _cost(case.subject)]
    if not smaller:
        return None
    nearest = max(smaller, key=lambda r: _cost(r.subject))
    foreseen = float(np.median(nearest.step_seconds)) * _cost(case.subject) / _cost(nearest.subject)
    budget = BUDGET_SECONDS[plan.profile]
    return f"foreseen: {text.seconds(foreseen)}, budget: {budget:g} s" if foreseen > budget else None


def growth(rows: Sequence[Row], plan: Plan) -> Iterator[tuple[str, Arm, int, stats.Interval]]:
    """Yield (what grows, arm, points, exponent of time in what grows) for each arm with at least three sizes."""
    for curve, mine in _by_curve(rows, plan):
        for arm in _arms(mine):
            points = sorted((r[curve.size], r["seconds"]) for r in mine if (r["framework"], r["route"]) == arm)
            if len(points) >= 3:
                yield curve.grows, arm, len(points), stats.exponent(*np.array(points).T)


def tables(rows: Sequence[Row], plan: Plan) -> list[Table]:
    """Return the fitted exponents, and the crossovers."""
    fits = [
        (grows, _name(arm), str(points), f"{e.value:.2f} [{e.low:.2f}, {e.high:.2f}]")
        for grows, arm, points, e in growth(rows, plan)
    ]
    crossings = [
        (curve.grows, _name(one), _name(other), *place)
        for curve, mine in _by_curve(rows, plan)
        for one, other in combinations([arm for arm in _arms(mine) if arm[1] != "gradient"], 2)
        if (place := _crossover(mine, curve.size, one, other))
    ]
    return [
        Table(
            "How time grows: exponent of what grows",
            ("what grows", "route", "sizes", "exponent [95 %]"),
            fits,
            ("Least squares on logarithms; the interval is Student's, from how far the sizes lie off the line.",),
        ),
        Table(
            "Where one route overtakes another",
            ("what grows", "one", "other", "at", "faster beyond"),
            crossings,
            (f"Times less than {100 * stats.UNSTABLE:.0f} % apart count as equal.",),
        ),
    ]


def figures(records: Sequence[Record], plan: Plan) -> list[Figure]:
    """Return time and peak memory against the number of parameters, for the networks of one hidden layer."""
    curve = [r for r in records if r.subject in CURVES[0].problems[plan.profile]]
    if len({r.subject for r in curve}) < 2:
        return []
    time, memory = (
        partial(_draw, records=curve, measure=lambda r: float(np.median(r.step_seconds)), unit="seconds"),
        partial(_draw, records=curve, measure=lambda r: r.peak_bytes / 2**20, unit="MiB"),
    )
    return [
        Figure("hessian_time", "Time of a Hessian, and of one gradient, against the number of parameters.", time),
        Figure("hessian_memory", "Peak resident size of a process that makes one Hessian and nothing else.", memory),
    ]


def _cost(problem: str) -> float:
    """Return entries of the Hessian times rows: what its time grows with, or faster than."""
    return float(problems.size_of(problem)) ** 2 * problems.rows_of(problem)


def _by_curve(rows: Sequence[Row], plan: Plan) -> list[tuple[Curve, list[Row]]]:
    good = [r for r in rows if r["status"] == "ok"]
    return [(curve, [r for r in good if r["problem"] in curve.problems[plan.profile]]) for curve in CURVES]


def _arms(rows: Sequence[Row]) -> list[Arm]:
    return list(dict.fromkeys((r["framework"], r["route"]) for r in rows))


def _crossover(rows: Sequence[Row], size: str, first: Arm, second: Arm) -> tuple[str, str] | None:
    """Return where the times of two arms cross, and which is faster beyond; nothing if they do not cross."""
    times = [{r[size]: r["seconds"] for r in rows if (r["framework"], r["route"]) == arm} for arm in (first, second)]
    gaps = [(n, float(np.log(times[0][n] / times[1][n]))) for n in sorted(times[0].keys() & times[1].keys())]
    clear = [(n, gap) for n, gap in gaps if abs(gap) > np.log(1 + stats.UNSTABLE)]
    for (a, gap), (b, beyond) in pairwise(clear):
        if gap * beyond < 0:
            return f"{a * (b / a) ** (gap / (gap - beyond)):.0f}", _name(first if beyond < 0 else second)
    return None


def _name(arm: Arm) -> str:
    return f"{arm[0]} {short(arm[1])}"


def _draw(axes: Any, records: Sequence[Record], measure: Any, unit: str) -> None:
    from matplotlib.ticker import LogFormatter  # loaded only to draw

    styles = {"jax": "-o", "torch": "--s", "numpy": ":^"}
    methods = dict(zip(dict.fromkeys(r.method for r in records), COLOURS, strict=False))
    for framework, method in dict.fromkeys((r.framework, r.method) for r in records):
        mine = [r for r in records if (r.framework, r.method) == (framework, method)]
        points = sorted((r.value["parameters"], measure(r)) for r in mine)
        label = _name((framework, method))
        axes.plot(*np.array(points).T, styles[framework], color=methods[method], label=label)
    axes.set(xlabel="parameters", ylabel=unit, xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.5)))
    axes.legend(frameon=False, fontsize="small")

"""Cost curves: problems that grow in one way each, where a method's curve ends, what is fitted, and what is drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from jaxopt_study.bench import stats
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.results import Results
from jaxopt_study.data import problem as problems
from jaxopt_study.data.problem import Problem, name_of
from jaxopt_study.data.workload import Workload
from jaxopt_study.report import answers, charts
from jaxopt_study.report import table as text
from jaxopt_study.report.axes import Axis
from jaxopt_study.report.figures import Figure
from jaxopt_study.report.looks import LABELS
from jaxopt_study.report.table import ABSENT, Table
from jaxopt_study.studies.experiment import Row, Rows
from jaxopt_study.studies.hessian.experiment import HessianExperiment
from jaxopt_study.studies.hessian.methods import METHODS, short
from jaxopt_study.studies.hessian.rows import COLUMNS, cells, label, reasons

Pair = tuple[str, str]
"""A framework and a method."""

BOTH_WAYS = ("gradient", "hessian_forward_over_reverse", "hessian_blocked")


@dataclass(frozen=True)
class Curve:
    """Problems that grow in one way.

    Attributes:
        grows: What the reader is told.
        size: The entry of a row that says how large the problem is.
        problems: Profile -> names of problems, the smallest first.
        methods: What is measured of each; `full` has BOTH_WAYS besides.
    """

    grows: str
    size: str
    problems: Mapping[str, tuple[str, ...]]
    methods: tuple[str, ...]


def _hidden(*widths: int) -> tuple[str, ...]:
    return tuple(name_of((64, width, 10), 898) for width in widths)


def _linear(*shapes: tuple[int, int]) -> tuple[str, ...]:
    return tuple(name_of(shape, 449) for shape in shapes)


def _rows(*counts: int) -> tuple[str, ...]:
    return tuple(name_of((32, 10), count) for count in counts)


def _deep(*depths: int) -> tuple[str, ...]:
    return tuple(name_of((12,) * (depth + 1), 225) for depth in depths)


SMALL = ((16, 5), (12, 12), (32, 10), (48, 11), (64, 12))

# What XLA takes to compile is most of a curve's time, and grows with depth; so `default` has not what tells least.
CURVES = (
    Curve(
        "parameters (hidden units)",
        "parameters",
        {
            "smoke": _hidden(2, 4),
            "default": _hidden(2, 3, 4, 7),
            "full": _hidden(2, 3, 4, 5, 7, 12, 27, 53, 107, 267),
        },
        BOTH_WAYS,
    ),
    Curve(
        "parameters (features, classes)",
        "parameters",
        {"smoke": (), "default": _linear(*SMALL), "full": _linear(*SMALL, (128, 16), (256, 20))},
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
"""A method's curve ends where one Hessian is foreseen to take longer."""

ONE_CALL = 1e10
"""Entries of the Hessian times rows: from here on a Hessian takes seconds, and is made once."""


class Curves(HessianExperiment):
    """Networks that grow, each case in a process of its own."""

    name = "curves"

    def problem(self, case: Case, workload: Workload, plan: Plan) -> Problem:
        """Return the network that the case's subject names."""
        return problems.make(case.subject, workload, plan.seed)

    def compiles_first(self, case: Case, plan: Plan) -> bool:
        """Say whether the case is called once: a lone call's time is the run's, without compilation."""
        return repeats(case.subject, case.method, plan) == 0

    def groups(self, plan: Plan) -> list[Group]:
        """Return a group for each problem and method, with the frameworks' processes one after the other."""
        if plan.overview:
            return []
        return [
            Group(self.cases([METHODS[method]], problem, plan), repeats(problem, method, plan), fresh=True)
            for problem, methods in problems_and_methods(plan).items()
            for method in methods
        ]

    def skip(self, case: Case, records: Sequence[Record], plan: Plan) -> str | None:
        """Say why a case need not be tried: by the largest smaller one of its method it would take too long."""
        same = [r for r in records if r.ok and self.case(r.subject, case.framework, case.method) == r.case]
        smaller = [r for r in same if _cost(r.subject) < _cost(case.subject)]
        if not smaller:
            return None
        nearest = max(smaller, key=lambda r: _cost(r.subject))
        foreseen = nearest.seconds * _cost(case.subject) / _cost(nearest.subject)
        budget = BUDGET_SECONDS[plan.profile]
        return f"foreseen: {text.seconds(foreseen)}, budget: {budget:g} s" if foreseen > budget else None

    def rows(self, results: Results, plan: Plan) -> Rows:
        """Return one row for each case."""
        return [self.row(r, results) | {"peak_bytes": r.peak_bytes} for r in self.records(results)]

    def tables(self, rows: Sequence[Row], plan: Plan) -> list[Table]:
        """Return the cases, the fitted exponents, and the crossovers."""
        fitted = [table for table in (_fits(rows, plan), _crossovers(rows, plan)) if table.rows]
        return [_case_table(rows, plan), *fitted]

    def figures(self, results: Results, plan: Plan) -> list[Figure]:
        """Return time and peak memory against the number of parameters, for the networks of one hidden layer."""
        curve = [r for r in self.records(results) if results.shows(r) and r.subject in CURVES[0].problems[plan.profile]]
        if len({r.subject for r in curve}) < 2:
            return []
        size = Axis("parameters", log=True)
        times, peaks = (_points(curve, of) for of in (lambda r: r.seconds, lambda r: r.peak_bytes))
        return [
            Figure(
                "hessian_time",
                "Time of a Hessian, and of one gradient",
                "Against the number of parameters; networks of one hidden layer.",
                partial(charts.lines, times, size, Axis("time", "s", log=True)),
            ),
            Figure(
                "hessian_memory",
                "Peak memory of a Hessian, and of one gradient",
                "Peak resident size of a process that makes one and nothing else.",
                partial(charts.lines, peaks, size, Axis("peak memory", "B", log=True)),
            ),
        ]


def problems_and_methods(plan: Plan) -> dict[str, tuple[str, ...]]:
    """Return the problems of all curves, each once, and what is measured of each."""
    found: dict[str, tuple[str, ...]] = {}
    for curve in CURVES:
        for name in curve.problems[plan.profile]:
            more = BOTH_WAYS if plan.profile == "full" else ()
            found[name] = tuple(dict.fromkeys((*found.get(name, ()), *more, *curve.methods)))
    return found


def repeats(problem: str, method: str, plan: Plan) -> int:
    """Return how many samples of a case are taken: of a large Hessian none, its first call is all."""
    if _cost(problem) > ONE_CALL and method != "gradient":
        return 0
    return max(1, min(plan.repeats // 6, int(ONE_CALL / _cost(problem))))


def growth(rows: Sequence[Row], plan: Plan) -> Iterator[tuple[str, Pair, int, stats.Interval]]:
    """Yield (what grows, framework and method, points, exponent of time in what grows), of three sizes or more."""
    for curve, mine in _by_curve(rows, plan):
        for pair in _pairs(mine):
            points = sorted((r[curve.size], r["seconds"]) for r in mine if _pair(r) == pair)
            if len(points) >= 3:
                yield curve.grows, pair, len(points), stats.exponent(*np.array(points).T)


def crossovers(rows: Sequence[Row], plan: Plan) -> Iterator[tuple[str, Pair, Pair, float, Pair]]:
    """Yield (what grows, one, other, where their times cross, which is faster beyond)."""
    for curve, mine in _by_curve(rows, plan):
        for one, other in combinations([pair for pair in _pairs(mine) if pair[1] != "gradient"], 2):
            times = [{r[curve.size]: r["seconds"] for r in mine if _pair(r) == pair} for pair in (one, other)]
            if crossing := _crossing(*times):
                yield curve.grows, one, other, crossing[0], one if crossing[1] else other


def _cost(problem: str) -> float:
    """Return entries of the Hessian times rows: what its time grows with, or faster than."""
    return float(problems.size_of(problem)) ** 2 * problems.rows_of(problem)


def _by_curve(rows: Sequence[Row], plan: Plan) -> list[tuple[Curve, list[Row]]]:
    shown = [r for r in rows if r["seconds"] is not None]
    return [(curve, [r for r in shown if r["problem"] in curve.problems[plan.profile]]) for curve in CURVES]


def _pair(row: Row) -> Pair:
    return row["framework"], row["method"]


def _pairs(rows: Sequence[Row]) -> list[Pair]:
    return list(dict.fromkeys(map(_pair, rows)))


def _crossing(first: Mapping[int, float], second: Mapping[int, float]) -> tuple[float, bool] | None:
    """Return the size at which two curves cross, and whether the first is faster beyond; None if they do not cross."""
    gaps = [(n, float(np.log(first[n] / second[n]))) for n in sorted(first.keys() & second.keys())]
    clear = [(n, gap) for n, gap in gaps if abs(gap) > np.log(1 + stats.UNSTABLE)]
    for (a, gap), (b, beyond) in pairwise(clear):
        if gap * beyond < 0:
            return a * (b / a) ** (gap / (gap - beyond)), beyond < 0
    return None


def _case_table(rows: Sequence[Row], plan: Plan) -> Table:
    lines = [
        (
            r["problem"],
            str(r.get("parameters", ABSENT)),
            label(r),
            *cells(r),
            text.plain(r["in_gradients"].value) if r["in_gradients"] else ABSENT,
            f"{r['peak_bytes'] / 2**20:.0f}" if r["seconds"] else ABSENT,
        )
        for r in rows
    ]
    random = dict.fromkeys(r["problem"] for r in rows if r.get("random"))
    notes = (
        "Problem: a network's widths, and rows. Residual: largest difference from the reference in float64, relative "
        "to its largest entry. The reference of a Hessian is the closed form; where hidden layers leave none, central "
        "differences of the gradient, along three directions.",
        "No IQR: a single sample. A large Hessian is made once; it is compiled before that call.",
        "In gradients: the time divided by that of the same framework's gradient, which another process measured.",
        f"Random inputs, since {plan.workload} does not fit the widths: {', '.join(random) or 'none'}.",
    )
    columns = ("problem", "parameters", "method", *COLUMNS, "in gradients", "peak MiB")
    title = f"Cost curves: a process for each case, {plan.dtype}"
    main = ("time", "method", "parameters", "in gradients")
    return Table(title, columns, lines, notes, ("method",), main, tuple(reasons(rows)))


def _fits(rows: Sequence[Row], plan: Plan) -> Table:
    return Table(
        "How time grows: exponent of what grows",
        ("what grows", "method", "sizes", "exponent [95 %]"),
        [
            (grows, _name(pair), str(points), f"{e.value:.2f} [{e.low:.2f}, {e.high:.2f}]")
            for grows, pair, points, e in growth(rows, plan)
        ],
        ("Least squares on logarithms; the interval is Student's, from how far the sizes lie off the line.",),
        left=("method",),
        main=("exponent [95 %]", "method"),
    )


def _crossovers(rows: Sequence[Row], plan: Plan) -> Table:
    return Table(
        "Where one method overtakes another",
        ("faster", "than", "beyond"),
        [
            (_name(faster), _name(other if faster == one else one), f"{size:.0f} {grows.removeprefix('parameters ')}")
            for grows, one, other, size, faster in crossovers(rows, plan)
        ],
        (
            "Beyond: so many parameters; in brackets, what of the network grows. "
            f"Times that differ by less than {100 * stats.UNSTABLE:.0f} % count as equal.",
        ),
        left=("than",),
        main=("than", "beyond"),
    )


def _name(pair: Pair) -> str:
    return f"{pair[0]} {short(pair[1])}"


def _points(records: Sequence[Record], measure: Callable[[Record], float]) -> list[dict[str, Any]]:
    ordered = sorted(records, key=lambda r: r.value["parameters"])
    return [
        {
            "x": r.value["parameters"],
            "y": measure(r),
            "group": LABELS[r.framework],
            "panel": short(r.method),
            **answers.of(r),
        }
        for r in ordered
    ]

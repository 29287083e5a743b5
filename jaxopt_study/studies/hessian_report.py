"""What the records of the Hessian study say: rows, tables, fitted growth, crossovers, charts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from jaxopt_study.bench import stats
from jaxopt_study.bench.case import Plan
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.report import table as text
from jaxopt_study.bench.report.figure import COLOURS, Figure
from jaxopt_study.bench.report.table import ABSENT, Table
from jaxopt_study.studies.routes import BY_NAME

Row = Mapping[str, Any]


def row(record: Record, agrees: bool | None, records: Sequence[Record]) -> dict[str, Any]:
    """Return what a record says, with its time in gradients of the same framework on the same problem."""
    found: dict[str, Any] = {
        "problem": record.subject,
        "framework": record.framework,
        "route": record.method,
        "status": record.status if agrees is not False else "wrong",
        "reason": record.reason,
        "agrees": agrees,
        **record.value,
    }
    if record.ok and agrees:
        seconds = float(np.median(record.step_seconds))
        slope = next(
            (
                float(np.median(r.step_seconds))
                for r in records
                if r.ok and r.method == "gradient" and (r.subject, r.framework) == (record.subject, record.framework)
            ),
            None,
        )
        found |= {
            "first_seconds": record.first_seconds,
            "seconds": seconds,
            "spread": stats.spread(record.step_seconds),
            "in_gradients": seconds / slope if slope else None,
            "peak_bytes": record.peak_bytes,
        }
    return found


def tables(rows: Sequence[Row], digits: str, plan: Plan) -> list[Table]:
    """Return the routes on digits; then, where curves were drawn, their cases, growth and crossovers."""
    found = [_routes([r for r in rows if r["problem"] == digits], digits, plan)]
    curves = [r for r in rows if r["problem"] != digits]
    if curves:
        found += [_curves(curves, plan), _growth(curves), _crossovers(curves)]
    return found


def verdict(rows: Sequence[Row], digits: str, plan: Plan) -> str:
    """Say how the frameworks' best routes to the dense Hessian by automatic differentiation compare on digits."""
    good = [r for r in rows if r["agrees"] and r["problem"] == digits]
    good = [r for r in good if BY_NAME[r["route"]].of == "loss" and BY_NAME[r["route"]].result == "matrix"]
    best = [
        min(mine, key=lambda r: r["seconds"])
        for f in plan.frameworks
        if (mine := [r for r in good if r["framework"] == f])
    ]
    if not best:
        return ""
    words = " and ".join(f"{text.seconds(r['seconds'])} in {r['framework']} ({_short(r['route'])})" for r in best)
    return f"the dense Hessian of digits by the best automatic differentiation takes {words}"


def growth(rows: Sequence[Row]) -> Iterator[tuple[str, str, str, int, stats.Interval]]:
    """Yield (what grows, framework, route, points, exponent) of time in what grows, over at least three sizes."""
    for family, size, mine in _families(rows):
        for framework, route in dict.fromkeys((r["framework"], r["route"]) for r in mine):
            points = sorted((r[size], r["seconds"]) for r in mine if (r["framework"], r["route"]) == (framework, route))
            if len(points) >= 3:
                yield family, framework, route, len(points), stats.exponent(*np.array(points).T)


def figures(records: Sequence[Record], digits: str) -> list[Figure]:
    """Return time and peak memory against the number of parameters, for the networks of one hidden layer."""
    curve = [r for r in records if r.subject != digits and r.subject.count("-") == 2 and r.subject.endswith(" x 898")]
    if len({r.subject for r in curve}) < 2:
        return []
    return [
        Figure(
            "hessian_time",
            "Time of a Hessian, and of one gradient, against the number of parameters.",
            lambda axes: _draw(axes, curve, lambda r: float(np.median(r.step_seconds)), "seconds"),
        ),
        Figure(
            "hessian_memory",
            "Peak resident size of a process that makes one Hessian and nothing else.",
            lambda axes: _draw(axes, curve, lambda r: r.peak_bytes / 2**20, "MiB"),
        ),
    ]


def _routes(rows: Sequence[Row], digits: str, plan: Plan) -> Table:
    lines = [(f"{r['framework']} {_short(r['route'])}", *_cells(r)) for r in rows]
    size = next((f", {r['parameters']} parameters" for r in rows if r["status"] == "ok"), "")
    return Table(
        f"Second derivatives of the loss: {digits} rows{size}, {plan.dtype}",
        ("route", "residual", "first", "time", "spread", "gradients"),
        lines,
        (
            "Residual: largest difference from the closed form in float64, relative to its largest entry. "
            "Gradients: the time in gradients of the same framework. Class pair products: the closed form's own matrix "
            "products, without the rest of it.",
        ),
    )


def _curves(rows: Sequence[Row], plan: Plan) -> Table:
    lines = []
    for r in rows:
        peak = f"{r['peak_bytes'] / 2**20:.0f}" if r.get("peak_bytes") else ABSENT
        lines.append(
            (r["problem"], str(r.get("parameters", ABSENT)), f"{r['framework']} {_short(r['route'])}", *_cells(r), peak)
        )
    return Table(
        f"Cost curves: networks by widths, and rows; a process for each case, {plan.dtype}",
        ("problem", "P", "route", "residual", "first", "time", "spread", "gradients", "peak MiB"),
        lines,
        ("Residual: of three products H v from central differences of the gradient in float64.",),
    )


def _cells(r: Row) -> tuple[str, ...]:
    if r["status"] == "wrong":
        return (text.number(r.get("residual", r.get("products_residual"))), "WRONG", *[ABSENT] * 3)
    if r["status"] != "ok":
        return (r["status"], r["reason"], *[ABSENT] * 3)
    return (
        text.number(r["residual"] if "residual" in r else r["products_residual"]),
        text.seconds(r["first_seconds"]),
        text.seconds(r["seconds"]),
        text.spread(r["spread"]),
        f"{r['in_gradients']:.0f}" if r["in_gradients"] else ABSENT,
    )


def _growth(rows: Sequence[Row]) -> Table:
    lines = [
        (family, f"{framework} {_short(route)}", str(points), f"{e.value:.2f} [{e.low:.2f}, {e.high:.2f}]")
        for family, framework, route, points, e in growth(rows)
    ]
    return Table(
        "How time grows: exponent of what grows",
        ("what grows", "route", "sizes", "exponent [95 %]"),
        lines,
        ("Least squares on logarithms; the interval is Student's, from how far the sizes lie off the line.",),
    )


def _crossovers(rows: Sequence[Row]) -> Table:
    lines = []
    for family, size, mine in _families(rows):
        arms = list(dict.fromkeys((r["framework"], r["route"]) for r in mine if r["route"] != "gradient"))
        for first, second in combinations(arms, 2):
            place, faster = _crossover(mine, size, first, second)
            if place:
                lines.append((family, *(f"{f} {_short(route)}" for f, route in (first, second)), place, faster))
    return Table("Where one route overtakes another", ("what grows", "one", "other", "at", "faster beyond"), lines)


def _crossover(rows: Sequence[Row], size: str, first: tuple[str, str], second: tuple[str, str]) -> tuple[str, str]:
    """Return where the times of two arms cross, and which is faster beyond; nothing if they do not cross."""
    arms = [{r[size]: r["seconds"] for r in rows if (r["framework"], r["route"]) == arm} for arm in (first, second)]
    sizes = sorted(arms[0].keys() & arms[1].keys())
    gaps = [float(np.log(arms[0][n] / arms[1][n])) for n in sizes]
    for (a, b), (gap, beyond) in zip(pairwise(sizes), pairwise(gaps), strict=True):
        if gap * beyond < 0:
            framework, route = first if beyond < 0 else second
            return f"{a * (b / a) ** (gap / (gap - beyond)):.0f}", f"{framework} {_short(route)}"
    return "", ""


def _families(rows: Sequence[Row]) -> list[tuple[str, str, list[Row]]]:
    """Return (what grows, the row's entry that says how large it is, rows) for each curve."""
    good = [r for r in rows if r["status"] == "ok"]
    narrow = [r for r in good if r["problem"].startswith("64-8-")]
    return [
        ("parameters, by hidden units", "parameters", [r for r in good if r["depth"] == 2 and r["rows"] == 898]),
        ("parameters, by features and classes", "parameters", [r for r in good if r["depth"] == 1]),
        ("rows", "rows", [r for r in narrow if r["depth"] == 2]),
        ("depth", "depth", [r for r in narrow if r["rows"] == 898]),
    ]


def _short(route: str) -> str:
    return route.removeprefix("hessian_").replace("_", " ")


def _draw(axes: Any, records: Sequence[Record], measure: Any, unit: str) -> None:
    styles = {"jax": "-o", "torch": "--s", "numpy": ":^"}
    methods = dict(zip(dict.fromkeys(r.method for r in records), COLOURS, strict=False))
    for framework, method in dict.fromkeys((r.framework, r.method) for r in records):
        points = sorted(
            (r.value["parameters"], measure(r)) for r in records if (r.framework, r.method) == (framework, method)
        )
        axes.plot(*np.array(points).T, styles[framework], color=methods[method], label=f"{framework} {_short(method)}")
    axes.set(xlabel="parameters", ylabel=unit, xscale="log", yscale="log")
    axes.legend(frameon=False, fontsize="small")

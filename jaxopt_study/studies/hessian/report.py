"""What the records of the Hessian study say of single cases: rows, ratios, tables, charts, the verdict."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from jaxopt_study.bench import stats
from jaxopt_study.bench.case import Plan
from jaxopt_study.bench.record import Record
from jaxopt_study.report import table as text
from jaxopt_study.report.figure import COLOURS, Figure
from jaxopt_study.report.table import ABSENT, Table
from jaxopt_study.studies.hessian.routes import BY_NAME, short

Row = Mapping[str, Any]

OWN = "hessian_forward_over_reverse"
"""`jax.hessian` and `torch.func.hessian`: what a user would call."""


def rows(records: Sequence[Record], good: Collection[str], digits: str) -> list[dict[str, Any]]:
    """Return what each record says; times and ratios of those alone whose key is in `good`."""
    sound = [r for r in records if r.case.key in good]
    ratios = {r.case.key: _ratios(r, [s for s in sound if s.subject == digits]) for r in sound if r.subject == digits}
    return [_row(r, sound) | {"ratios": ratios.get(r.case.key, [])} for r in records]


def tables(rows: Sequence[Row], digits: str, plan: Plan) -> list[Table]:
    """Return the routes on digits, and their ratios."""
    size = next((f", {r['parameters']} parameters" for r in rows if r["status"] == "ok"), "")
    routes = Table(
        f"Second derivatives of the loss: {digits} rows{size}, {plan.dtype}",
        ("route", "residual", "first", "time", "spread", "gradients", "temporary MB"),
        [(_name(r), *_cells(r), _mega(r.get("temporary_bytes"))) for r in rows],
        (
            "Residual: largest difference from the closed form in float64, relative to its largest entry. "
            "Gradients: the time in gradients of the same framework. Temporary: what XLA sets aside beside the result; "
            "PyTorch does not say. Class pair products: the closed form's own matrix products, without the "
            "rest of it.",
            *_reasons(rows),
        ),
    )
    ratios = Table(
        "The same as ratios of times measured in turn",
        ("route", "to", "time [95 %]", "temporary memory"),
        [
            (_name(r), _name(ratio), text.interval(ratio["time"]), _part(ratio["memory"]))
            for r in rows
            for ratio in r["ratios"]
        ],
        ("Forward over reverse is jax.hessian and torch.func.hessian.",),
        left=("to",),
    )
    return [routes, ratios] if ratios.rows else [routes]


def cases(rows: Sequence[Row], plan: Plan) -> Table:
    """Return the cases of the cost curves."""
    return Table(
        f"Cost curves: networks by widths, and rows; a process for each case, {plan.dtype}",
        ("problem", "P", "route", "residual", "first", "time", "spread", "gradients", "peak MiB"),
        [
            (
                r["problem"],
                str(r.get("parameters", ABSENT)),
                _name(r),
                *_cells(r),
                f"{r['peak_bytes'] / 2**20:.0f}" if r.get("peak_bytes") else ABSENT,
            )
            for r in rows
        ],
        (
            "Residual: of three products H v from central differences of the gradient in float64. Where there is no "
            "spread, a lone call, compiled before it began.",
            *_reasons(rows),
        ),
    )


def verdict(rows: Sequence[Row], plan: Plan) -> str:
    """Say what the frameworks' best automatic differentiation takes, and what blocks save; of sound rows on digits."""
    words = []
    best = [r for f in plan.frameworks if (r := _best([r for r in rows if r["framework"] == f], lambda r: r["route"]))]
    if best:
        times = " and ".join(f"{text.seconds(r['seconds'])} in {r['framework']} ({short(r['route'])})" for r in best)
        words.append(f"the dense Hessian of digits by the best automatic differentiation takes {times}")
    for r in rows:
        for ratio in r["ratios"]:
            own = {"jax": "jax.hessian", "torch": "torch.func.hessian"}[r["framework"]]
            if (r["route"], ratio["route"]) == ("hessian_blocked", OWN) and r["framework"] == ratio["framework"]:
                memory = f" and {_part(ratio['memory'])} of its temporary memory" if ratio["memory"] else ""
                words.append(f"blocks take {text.interval(ratio['time'])} of {own}'s time{memory}")
            if r["framework"] != ratio["framework"]:
                words.append(f"{_name(r)} takes {text.interval(ratio['time'])} of {_name(ratio)}'s time")
    return "; ".join(words)


def figures(records: Sequence[Record], plan: Plan) -> list[Figure]:
    """Return the routes' times on digits, in seconds and in gradients of the same framework."""
    if not records:
        return []
    slopes = {r.framework: float(np.median(r.step_seconds)) for r in records if r.method == "gradient"}
    found = [
        Figure(
            "hessian_routes",
            "Time of each route on digits: median and interquartile range.",
            partial(_draw, records=records, plan=plan, units={}, words="milliseconds"),
        )
    ]
    if slopes:
        found.append(
            Figure(
                "hessian_in_gradients",
                "The same in gradients of the same framework; the line is one gradient.",
                partial(_draw, records=records, plan=plan, units=slopes, words="gradients of the same framework"),
            )
        )
    return found


def _row(record: Record, sound: Sequence[Record]) -> dict[str, Any]:
    """Return what a record says, with its time in gradients of the same framework on the same problem."""
    found: dict[str, Any] = {
        "problem": record.subject,
        "framework": record.framework,
        "route": record.method,
        "status": record.status if record in sound or not record.ok else "wrong",
        "reason": record.reason,
        "agrees": record in sound if record.ok else None,
        **record.value,
    }
    if record in sound:
        seconds, slope = float(np.median(record.step_seconds)), _gradient(record, sound)
        found |= {
            "first_seconds": record.first_seconds,
            "seconds": seconds,
            "spread": stats.spread(record.step_seconds) if len(record.samples) > 1 else None,
            "in_gradients": seconds / slope if slope else None,
            "peak_bytes": record.peak_bytes,
        }
    return found


def _gradient(record: Record, sound: Sequence[Record]) -> float | None:
    """Return the seconds of a gradient of the same framework on the same problem."""
    same = (r for r in sound if (r.subject, r.framework, r.method) == (record.subject, record.framework, "gradient"))
    return next((float(np.median(r.step_seconds)) for r in same), None)


def _ratios(record: Record, sound: Sequence[Record]) -> list[dict[str, Any]]:
    """Return the ratios of a route to what it should be held against, where both were measured in the same turns."""
    return [
        {
            "framework": other.framework,
            "route": other.method,
            "time": time,
            "memory": _quotient(record.value.get("temporary_bytes"), other.value.get("temporary_bytes")),
        }
        for other in _rivals(record, sound)
        if (time := record.ratio_to(other))
    ]


def _rivals(record: Record, sound: Sequence[Record]) -> Iterator[Record]:
    """Yield the framework's own Hessian; the closed form's matrix products; of JAX's best route, PyTorch's best."""
    mine = {r.method: r for r in sound if r.framework == record.framework}
    if _by_automatic_differentiation(record.method) and record.method != OWN and OWN in mine:
        yield mine[OWN]
    if record.method == "hessian_closed_form" and "class_pair_products" in mine:
        yield mine["class_pair_products"]
    best = {f: _best([r for r in sound if r.framework == f], lambda r: r.method) for f in ("jax", "torch")}
    if record == best["jax"] and best["torch"]:
        yield best["torch"]


def _best(found: Sequence[Any], method: Any) -> Any:
    """Return the fastest dense Hessian by automatic differentiation among records or rows; None if there is none."""
    dense = [r for r in found if _by_automatic_differentiation(method(r))]
    return min(dense, key=_seconds, default=None)


def _seconds(found: Any) -> float:
    return float(np.median(found.step_seconds)) if isinstance(found, Record) else found["seconds"]


def _by_automatic_differentiation(method: str) -> bool:
    return (BY_NAME[method].of, BY_NAME[method].result) == ("loss", "matrix")


def _quotient(one: int | None, other: int | None) -> float | None:
    return one / other if one and other else None


def _reasons(rows: Sequence[Row]) -> list[str]:
    """Return why cases have no time."""
    return [f"{_name(r)}, {r['problem']}: {r['status']}, {r['reason']}" for r in rows if r["reason"]]


def _cells(r: Row) -> tuple[str, ...]:
    if r["status"] == "wrong":
        return (text.number(r.get("residual", r.get("products_residual"))), ABSENT, "WRONG", *[ABSENT] * 2)
    if r["status"] != "ok":
        return (ABSENT, ABSENT, r["status"], *[ABSENT] * 2)
    return (
        text.number(r["residual"] if "residual" in r else r["products_residual"]),
        text.seconds(r["first_seconds"]),
        text.seconds(r["seconds"]),
        ABSENT if r["spread"] is None else text.spread(r["spread"]),
        f"{r['in_gradients']:.0f}" if r["in_gradients"] else ABSENT,
    )


def _name(r: Row) -> str:
    return f"{r['framework']} {short(r['route'])}"


def _mega(count: int | None) -> str:
    return ABSENT if count is None else f"{count / 1e6:.1f}"


def _part(quotient: float | None) -> str:
    """Write a part of one as a fraction of it, since it is small."""
    return ABSENT if quotient is None else f"1/{1 / quotient:.0f}" if quotient < 0.5 else f"{quotient:.2f}"


def _draw(axes: Any, records: Sequence[Record], plan: Plan, units: Mapping[str, float], words: str) -> None:
    names = list(dict.fromkeys(r.method for r in records))
    for framework, colour in zip((*plan.frameworks, "numpy"), COLOURS, strict=False):
        mine = [r for r in records if r.framework == framework and (not units or framework in units)]
        if not mine:
            continue
        unit = units.get(framework, 1e-3)
        quarters = np.array([np.percentile(r.step_seconds, [25, 50, 75]) for r in mine]).reshape(-1, 3).T / unit
        places = [names.index(r.method) for r in mine]
        spread = np.abs(quarters[[0, 2]] - quarters[1])
        axes.errorbar(quarters[1], places, xerr=spread, fmt="o", capsize=3, color=colour, label=framework)
    if units:
        axes.axvline(1, color="0.5", linewidth=1)
    axes.set(xlabel=words, xscale="log", yticks=range(len(names)), yticklabels=[short(name) for name in names])
    axes.tick_params(axis="y", labelsize="small")
    axes.invert_yaxis()
    axes.grid(axis="x", which="major", alpha=0.3)
    axes.legend(frameon=False, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)

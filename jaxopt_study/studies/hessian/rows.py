"""How a case of this study reads: its row, the cells of its line in a table, its point in a chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxopt_study.bench import stats
from jaxopt_study.bench.case import Case
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.results import Results
from jaxopt_study.report import table as text
from jaxopt_study.report.figure import COLOURS
from jaxopt_study.report.table import ABSENT
from jaxopt_study.studies.experiment import Row, facts
from jaxopt_study.studies.hessian.methods import short

COLUMNS = ("residual", "first call", "time", "IQR")
"""What `cells` returns."""
MAIN_COLUMNS = ("time", "residual", "first call")
"""What a narrow terminal shows of them."""

Point = tuple[float, float, float]
"""Low end, value, high end."""


def row_of(record: Record, results: Results) -> dict[str, Any]:
    """Return what a record says of itself; `seconds` is None where its time may not be shown."""
    shown = results.shows(record)
    return {
        "problem": record.subject,
        **facts(record, results),
        "first_seconds": record.first_seconds if shown else None,
        "seconds": record.seconds if shown else None,
        "spread": stats.spread(record.step_seconds) if shown and len(record.samples) > 1 else None,
    }


def label(row: Row) -> str:
    """Return framework and method, for the reader."""
    return f"{row['framework']} {short(row['method'])}"


def cells(row: Row) -> tuple[str, ...]:
    """Write residual, first call, time and IQR."""
    if row["status"] != "ok":
        return (ABSENT, ABSENT, row["status"], ABSENT)
    if row["seconds"] is None:
        return (text.number(row["residual"]), ABSENT, "withheld: values disagree", ABSENT)
    spread = ABSENT if row["spread"] is None else text.spread(row["spread"])
    return (text.number(row["residual"]), text.seconds(row["first_seconds"]), text.seconds(row["seconds"]), spread)


def reasons(rows: Sequence[Row]) -> list[str]:
    """Return why cases have no time: a note for each reason."""
    several = len({row["problem"] for row in rows}) > 1
    found: dict[str, list[str]] = {}
    for row in rows:
        if row["reason"]:
            name = f"{label(row)} ({row['problem']})" if several else label(row)
            found.setdefault(f"{row['status']}: {row['reason']}", []).append(name)
    return [
        f"{'Every case' if len(names) == len(rows) else ', '.join(names)}: {reason}." for reason, names in found.items()
    ]


def quartiles(records: Sequence[Record]) -> dict[Case, Point]:
    """Return the quartiles of each record's times, in milliseconds."""
    return {r.case: tuple(np.percentile(r.step_seconds, [25, 50, 75]) * 1e3) for r in records}


def draw(axes: Any, points: Mapping[Case, Point], words: str, line: float | None = None) -> None:
    """Draw a line for each method, with a point for each framework; ends that are NaN are not drawn."""
    names = list(dict.fromkeys(case.method for case in points))
    for framework, colour in zip(dict.fromkeys(case.framework for case in points), COLOURS, strict=False):
        mine = {case.method: point for case, point in points.items() if case.framework == framework}
        low, value, high = np.array(list(mine.values())).T
        errors = np.nan_to_num(np.maximum([value - low, high - value], 0))
        places = [names.index(name) for name in mine]
        axes.errorbar(value, places, xerr=errors, fmt="o", capsize=3, color=colour, label=framework)
    if line is not None:
        axes.axvline(line, color="0.5", linewidth=1)
    axes.set(xlabel=words, xscale="log", yticks=range(len(names)), yticklabels=[short(name) for name in names])
    axes.tick_params(axis="y", labelsize="small")
    axes.invert_yaxis()
    axes.grid(axis="x", which="major", alpha=0.3)
    axes.legend(frameon=False, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)

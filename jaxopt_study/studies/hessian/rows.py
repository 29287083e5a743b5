"""How a case of this study reads: its row, and the cells of its line in a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxopt_study.bench import stats
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.results import Results
from jaxopt_study.report import table as text
from jaxopt_study.report.table import ABSENT
from jaxopt_study.studies.experiment import Row, facts
from jaxopt_study.studies.hessian.methods import short

COLUMNS = ("residual", "first call", "time", "IQR")
"""What `cells` returns."""
MAIN_COLUMNS = ("time", "residual", "first call")
"""What a narrow terminal shows of them."""


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

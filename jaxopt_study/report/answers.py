"""What a point of a chart is made of, and what it answers to the pointer: the record behind it."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxopt_study.bench.record import Record
from jaxopt_study.report import table as text
from jaxopt_study.report.looks import LABELS


def of(record: Record) -> dict[str, Any]:
    """Return the case, and of its times per step the median, the quartiles and how many there are."""
    low, middle, high = _quartiles(record)
    return {
        "case": record.case.key,
        "median": text.seconds(middle),
        "interval": f"{text.seconds(low)} to {text.seconds(high)} (quartiles)",
        "samples": len(record.samples),
    }


def timed(name: str, record: Record, steps: int = 1) -> dict[str, Any]:
    """Return a row of `charts.points`: the median and the quartiles of the time of so many steps."""
    low, middle, high = (steps * value for value in _quartiles(record))
    return {"name": name, "group": LABELS[record.framework], "value": middle, "low": low, "high": high, **of(record)}


def _quartiles(record: Record) -> tuple[float, float, float]:
    low, middle, high = np.quantile(record.step_seconds, [0.25, 0.5, 0.75])
    return float(low), float(middle), float(high)

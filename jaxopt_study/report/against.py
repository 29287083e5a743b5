"""Two runs, case by case: what became faster or slower, and what changed around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxopt_study.bench import ratio
from jaxopt_study.bench.ratio import Ratio
from jaxopt_study.bench.record import Record
from jaxopt_study.report import table as text
from jaxopt_study.report.table import Table

COLUMNS = ("case", "then, per step", "now", "now / then [95 %]", "verdict", "same value")


def rows(before: Sequence[Record], after: Sequence[Record]) -> list[dict[str, Any]]:
    """Return one row for each case that both runs have a time of."""
    old = {r.case: r for r in before}
    return [_row(old[r.case], r) for r in after if r.case in old]


def slower(compared: Sequence[Mapping[str, Any]], percent: float) -> str:
    """Return in words which cases became slower by surely more than `percent`, or nothing.

    Surely: the whole interval of the ratio lies above, or the ratio itself where there is no interval.
    """
    if not compared:
        return "NOTHING TO COMPARE: no case has a time in both runs"
    found = [(row["case"], row["ratio"]) for row in compared if _low(row["ratio"]) > 1 + percent / 100]
    words = ", ".join(f"{case} ({text.ratio(ratio)} times)" for case, ratio in found)
    return f"SLOWER by more than {percent:g} %: {words}" if found else ""


def tables(compared: Sequence[Mapping[str, Any]], changes: Sequence[str], where: str, only_one: int) -> list[Table]:
    """Return what changed around the runs, and their times side by side; `where` is the older run's folder."""
    around = [("-", "nothing but the time")] if not changes else [(f"{n}", line) for n, line in enumerate(changes, 1)]
    lines = [
        (
            row["case"],
            text.seconds(row["before_seconds"]),
            text.seconds(row["after_seconds"]),
            text.ratio(row["ratio"]),
            row["verdict"],
            "yes" if row["same_value"] else "no",
        )
        for row in compared
    ]
    notes = (
        "Now / then: the ratio of medians, with a bootstrap interval over the samples of each run. The runs were made "
        "at different times; the interval does not include the machine's drift between them.",
        *text.flags(row["ratio"] for row in compared),
        "Same value: to the last bit.",
        f"Cases that only one run has a time of: {only_one}.",
    )
    return [
        Table(f"What changed since {where}", ("", "change"), around, left=("change",)),
        Table("Then and now", COLUMNS, lines, notes),
    ]


def _row(before: Record, after: Record) -> dict[str, Any]:
    found = ratio.between_runs(after, before)
    return {
        "case": after.case.key,
        "before_seconds": before.seconds,
        "after_seconds": after.seconds,
        "ratio": found,
        "verdict": _verdict(found),
        "same_value": before.digest == after.digest,
    }


def _low(found: Ratio) -> float:
    return found.low if np.isfinite(found.low) else found.value


def _verdict(found: Ratio) -> str:
    if not np.isfinite(found.low):
        return "one sample: no interval"
    if found.no_difference:
        return "no difference"
    return "slower" if found.value > 1 else "faster"

"""Two runs, arm by arm: what became faster or slower, and what changed around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxopt_study.bench import stats
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.report import table as text
from jaxopt_study.bench.report.table import Table

COLUMNS = ("case", "then, a step", "now", "now/then [95 %]", "machine", "verdict", "same value")


def rows(before: Sequence[Record], after: Sequence[Record]) -> list[dict[str, Any]]:
    """Return one row for each case that both runs have a time of."""
    old = {r.case: r for r in before}
    return [_row(old[r.case], r) for r in after if r.case in old]


def tables(compared: Sequence[Mapping[str, Any]], changes: Sequence[str], where: str, left_out: int) -> list[Table]:
    """Return what changed around the runs, and their times side by side; `where` is the older run's folder."""
    around = [("-", "nothing but the time")] if not changes else [(f"{n}", line) for n, line in enumerate(changes, 1)]
    lines = [
        (
            row["case"],
            text.seconds(row["before_seconds"]),
            text.seconds(row["after_seconds"]),
            text.interval(row["ratio"]),
            f"{row['pace']:.2f}" if row["pace"] else text.ABSENT,
            row["verdict"],
            "yes" if row["same_value"] else "no",
        )
        for row in compared
    ]
    notes = (
        "Now / then: the ratio of medians, with a bootstrap interval over the blocks of each run. They were made at "
        "different times, and the interval does not hold the machine's drift between. Machine: the same ratio for a "
        "fixed piece of Python; where it is over 10 % from 1, the machine itself has another pace. Same value: to the "
        "last bit. "
        f"Cases that only one run has a time of, left out: {left_out}.",
    )
    return [
        Table(f"What changed since {where}", ("", "change"), around, left=("change",)),
        Table("Then and now", COLUMNS, lines, notes),
    ]


def _row(before: Record, after: Record) -> dict[str, Any]:
    ratio = stats.ratio_of_runs(after.step_seconds, before.step_seconds)
    pace = after.pace / before.pace if before.pace and after.pace else None
    doubts = {
        ", unstable": max(stats.spread(r.step_seconds) for r in (before, after)) > stats.UNSTABLE,
        ", another pace": pace is not None and max(pace, 1 / pace) - 1 > stats.UNSTABLE,
    }
    return {
        "case": after.case.key,
        "before_seconds": float(np.median(before.step_seconds)),
        "after_seconds": float(np.median(after.step_seconds)),
        "ratio": ratio,
        "pace": pace,
        "verdict": _verdict(ratio) + "".join(mark for mark, doubted in doubts.items() if doubted),
        "same_value": before.digest == after.digest,
    }


def _verdict(ratio: stats.Interval) -> str:
    if not np.isfinite(ratio.low):
        return "one block: no interval"
    if ratio.spans_one:
        return "no difference"
    return "slower" if ratio.value > 1 else "faster"

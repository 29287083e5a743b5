"""Runs beside each other, case by case: what became faster or slower. `--against` sets two side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxopt_study.bench import ratio
from jaxopt_study.bench.case import Case, Plan
from jaxopt_study.bench.ratio import NO_DIFFERENCE, OTHER_SPEED, UNSTABLE, Ratio
from jaxopt_study.bench.record import Record
from jaxopt_study.report import differences
from jaxopt_study.report import table as text
from jaxopt_study.report.differences import Run
from jaxopt_study.report.table import Table
from jaxopt_study.terminal import counted

COLUMNS = ("case", "then", "now", "now / then [95 %]", "verdict", "machine speed", "same value")
MAIN_COLUMNS = ("now / then [95 %]", "verdict", "now", "then")
SLOWER, FASTER, ONE_SAMPLE, OTHER_WORK = "slower", "faster", "one sample", "not comparable"
DIFFERENT = (SLOWER, FASTER)
ORDER = (SLOWER, FASTER, UNSTABLE, ONE_SAMPLE, OTHER_WORK, NO_DIFFERENCE)
"""The verdicts, in the order in which cases are listed."""

Row = Mapping[str, Any]


def rows(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return one row for each case of a later run that an earlier one has too; `then` is the first that has it.

    What changed in the last run comes first.
    """
    times = [{r.case: r for r in run.timed} for run in runs]
    found: dict[Case, list[dict[str, Any]]] = {}
    for after, mine in enumerate(times):
        for case, record in mine.items():
            before = next((number for number in range(after) if case in times[number]), None)
            if before is not None:
                other = differences.other_work(runs[before].plan, runs[after].plan, case.study)
                numbers = {"case": case.key, "before": before + 1, "after": after + 1}
                found.setdefault(case, []).append(numbers | _compared(times[before][case], record, bool(other)))
    by_verdict = sorted(found.values(), key=lambda mine: ORDER.index(mine[-1]["verdict"]))
    return [row for mine in by_verdict for row in mine]


def first_and_last(compared: Sequence[Row], runs: Sequence[Run]) -> list[Row]:
    """Return the rows of the last run beside the first."""
    return [row for row in compared if (row["before"], row["after"]) == (1, len(runs))]


def slower(compared: Sequence[Row], percent: float) -> str:
    """Return in words which cases became slower by surely more than `percent`, or nothing.

    Surely: the whole interval of the ratio lies above. A case of one sample has no interval, and is never named.
    """
    ratios = [(row["case"], row["ratio"]) for row in compared if row["ratio"] is not None]
    if not ratios:
        return "NOTHING TO COMPARE: no case has a time of the same work in both runs"
    found = [(case, ratio) for case, ratio in ratios if ratio.low > 1 + percent / 100]  # NaN compares as False
    words = ", ".join(f"{case} ({text.ratio(ratio)} times)" for case, ratio in found)
    return f"SLOWER by more than {percent:g} %: {words}" if found else ""


def sentences(compared: Sequence[Row], runs: Sequence[Run]) -> list[str]:
    """Return how many cases became slower or faster beyond noise, and what cannot be compared."""
    found = []
    with_first = [(1, number) for number in range(2, len(runs) + 1)]
    for before, after in dict.fromkeys([*with_first, *((row["before"], row["after"]) for row in compared)]):
        mine = [row for row in compared if (row["before"], row["after"]) == (before, after)]
        counts = [(verdict, sum(row["verdict"] == verdict for row in mine)) for verdict in ORDER]
        verdicts = ", ".join(f"{count} {verdict}" for verdict, count in counts if count)
        words = f"of {counted(len(mine), 'case')} {verdicts}" if mine else "no case has a time in both"
        found.append(f"Run {after} beside run {before}: {words}.")
        found += _slowed_down(mine)
        if other_speed := sum(_has(row, OTHER_SPEED) for row in mine):
            found.append(f"The machine's own speed was another in {other_speed} of these cases.")
        found += _no_ratio(runs[before - 1].plan, runs[after - 1].plan, before, after)
    alone = _in_one_run(runs)
    return [*found, *([f"Cases that only one run has a time of: {alone}."] if alone else [])]


def tables(compared: Sequence[Row], runs: Sequence[Run]) -> list[Table]:
    """Return what differs around the runs, and their times side by side."""
    lines = [
        (
            row["case"] + (f", run {row['after']} / {row['before']}" if len(runs) > 2 else ""),
            text.seconds(row["before_seconds"]),
            text.seconds(row["after_seconds"]),
            text.ABSENT if row["ratio"] is None else text.interval(row["ratio"]),
            f"{row['verdict']} (unstable)" if _has(row, UNSTABLE) and row["verdict"] in DIFFERENT else row["verdict"],
            "differs" if _has(row, OTHER_SPEED) else "",
            "yes" if row["same_value"] else "no",
        )
        for row in compared
    ]
    notes = (
        "Then and now: per step. Now / then: the ratio of medians, with a bootstrap interval over the samples of each "
        "run. The runs were made at different times; the interval does not include the machine's drift between them.",
        *text.flags(row["ratio"] for row in compared),
        "One sample: there is no interval. Same value: to the last bit.",
    )
    shown = Table("Then and now", COLUMNS, lines, notes, left=("verdict", "machine speed"), main=MAIN_COLUMNS)
    return [differences.table(runs), shown]


def _compared(before: Record, after: Record, other_work: bool) -> dict[str, Any]:
    found = None if other_work else ratio.between_runs(after, before)
    return {
        "before_seconds": before.seconds,
        "after_seconds": after.seconds,
        "ratio": found,
        "verdict": OTHER_WORK if found is None else _verdict(found),
        "same_value": before.digest == after.digest,
    }


def _verdict(found: Ratio) -> str:
    if not np.isfinite(found.low):
        return ONE_SAMPLE
    if found.no_difference:  # what is unstable is not called so: see `table.ratio`
        return UNSTABLE if found.unstable else NO_DIFFERENCE
    return SLOWER if found.value > 1 else FASTER


def _has(row: Row, flag: str) -> bool:
    return row["ratio"] is not None and flag in row["ratio"].flags


def _slowed_down(compared: Sequence[Row]) -> list[str]:
    """Return which cases are slower beyond noise: the interval says so, and an equal run would say the same."""
    found = [row for row in compared if row["verdict"] == SLOWER]
    stable = [f"{row['case']} ({text.plain(row['ratio'].value)} times)" for row in found if not _has(row, UNSTABLE)]
    if not found:
        return []
    doubtful = len(found) - len(stable)
    named = f"Slower beyond noise: {', '.join(stable)}." if stable else "None is slower beyond noise."
    return [named + (f" Slower, but unstable: {doubtful}." if doubtful else "")]


def _no_ratio(first: Plan, second: Plan, before: int, after: int) -> list[str]:
    """Return by which settings the steps of two runs do other work."""
    names = differences.other_work(first, second)
    if not names:
        return []
    values = [[differences.in_words(getattr(plan, name)) for plan in (first, second)] for name in names]
    words = [f"{name.replace('_', ' ')} {old}, {new}" for name, (old, new) in zip(names, values, strict=True)]
    return [f"Not comparable: a step of run {after} does other work than one of run {before}: {'; '.join(words)}."]


def _in_one_run(runs: Sequence[Run]) -> int:
    return sum(runs_with == 1 for runs_with in Counter(r.case for run in runs for r in run.timed).values())

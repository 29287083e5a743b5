"""Which optimizer is best here? The rows of the study of optimizers, one line for each, and the answer in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from jaxopt_study.bench.case import Plan
from jaxopt_study.bench.ratio import Ratio
from jaxopt_study.bench.record import Record
from jaxopt_study.report import table as text
from jaxopt_study.report.table import ABSENT, Table
from jaxopt_study.studies.experiment import Row

SIGNIFICANT = 0.05
TEST = {"test_accuracy": "test accuracy", "test_r2": "test R²"}


def as_good(records: Iterable[Record]) -> dict[str, bool]:
    """Return whether each optimizer's test accuracy does not differ from the highest, by optimizer; of one framework.

    Both predict the same rows. The exact sign test over the rows that one predicts and the other does not (McNemar,
    1947) asks whether they are as many on either side.
    """
    from scipy.stats import binomtest  # takes most of a second to load

    missed = {r.subject: set(r.value["test_missed"]) for r in records if r.ok and "test_missed" in r.value}
    if len(missed) < 2:
        return {}
    best = min(missed.values(), key=len)
    found = {}
    for name, mine in missed.items():
        only_mine, only_best = len(mine - best), len(best - mine)
        differ = only_mine + only_best
        found[name] = differ == 0 or bool(binomtest(only_mine, differ).pvalue > SIGNIFICANT)
    return found


def sentences(rows: Sequence[Row], numbers: bool = True) -> list[str]:
    """Say which optimizer has the lowest loss and which predicts best, and which of the others do not differ."""
    ended = [row for row in _of_one_framework(rows) if np.isfinite(row["final_loss"])]
    if len(ended) < 2:
        return []
    lowest = min(ended, key=lambda row: row["final_loss"])
    found = [f"lowest training loss here: {lowest['optimizer']} ({text.plain(lowest['final_loss'])})"]
    for score, words in TEST.items():
        scored = sorted((row for row in ended if np.isfinite(row.get(score, np.nan))), key=lambda row: -row[score])
        if len(scored) > 1:
            named = [_named(row, score) if numbers else str(row["optimizer"]) for row in scored]
            equal = [name for name, row in zip(named[1:], scored[1:], strict=True) if row.get("as_good")]
            found.append(f"highest {words}: {named[0]}" + (f"; no difference: {', '.join(equal)}" if equal else ""))
    return found


def tables(rows: Sequence[Row], plan: Plan, loops: str) -> list[Table]:
    """Return one line for each optimizer: what both frameworks learned, and what a step takes in each.

    Args:
        rows: Those of the study, one for each optimizer and framework.
        plan: The plan.
        loops: What a reader is told of the loops.
    """
    score = next((score for score in TEST if any(score in row for row in rows)), "")
    lines = []
    for name in dict.fromkeys(row["optimizer"] for row in rows):
        mine = {row["framework"]: row for row in rows if row["optimizer"] == name}
        ended = next((row for row in mine.values() if row["status"] == "ok"), None)
        times = [_time(mine.get(framework)) for framework in ("jax", "torch")]
        lines.append((name, *_learned(ended, score), *times))
    columns = (
        "optimizer",
        "loss",
        "differ by",
        TEST.get(score, "test accuracy").removeprefix("test "),
        "JAX",
        "PyTorch",
    )
    title = f"Loss, accuracy, time per step: {plan.workload}, rate {plan.learning_rate:g}"
    # The numbers stand in the table; which accuracies do not differ, it does not say.
    words = [text.sentence(said) for said in sentences(rows, numbers=False)[-1:]]
    return [Table(title, columns, lines, (*words, loops))] if rows else []


def _of_one_framework(rows: Sequence[Row]) -> list[Row]:
    """Return JAX's row of each optimizer, or PyTorch's where there is no other."""
    ended: dict[str, Row] = {}
    for row in sorted((row for row in rows if row["status"] == "ok"), key=lambda row: row["framework"]):
        ended.setdefault(row["optimizer"], row)
    return list(ended.values())


def _named(row: Row, score: str) -> str:
    return f"{row['optimizer']} ({row[score]:.4f})"


def _learned(row: Row | None, score: str) -> tuple[str, str, str]:
    if row is None:
        return (ABSENT,) * 3
    loss = text.plain(row["final_loss"]) if row["diverged_at_step"] < 0 else "diverged"
    differ = text.number(row["loss_distance"]) if "loss_distance" in row else ABSENT
    differ += {True: "", False: ": DISAGREE", None: ": chaotic"}[row["agrees"]] if differ != ABSENT else ""
    return (loss, differ, f"{row[score]:.4f}" if score in row else ABSENT)


def _time(row: Row | None) -> str:
    if row is None:
        return ABSENT
    return (
        text.seconds(row["step_seconds"])
        if "step_seconds" in row
        else "withheld"
        if row["status"] == "ok"
        else row["status"]
    )


def speed(rows: Sequence[Row], loops: str) -> list[str]:
    """Say how much longer a step takes over all optimizers, with both loops: most of it is the loop."""
    found: list[Ratio] = [row["torch_over_jax"] for row in rows if row["torch_over_jax"]]
    ratios = [ratio for ratio in found if np.isfinite(ratio.low)]
    if not ratios:
        return []
    low, high = text.plain(min(r.low for r in ratios)), text.plain(max(r.high for r in ratios))
    range_of = f"from {low} to {high} over all optimizers"
    return [f"of these two loops, PyTorch / JAX is {range_of} ({loops}); other loops: --studies loops"]

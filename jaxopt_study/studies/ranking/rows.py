"""What the sweep's records say of each workload and optimizer, as plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxopt_study.bench.case import Plan
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.results import Results
from jaxopt_study.data.workload import Array
from jaxopt_study.studies.experiment import Rows
from jaxopt_study.studies.ranking import alone, beforehand, points, statistics
from jaxopt_study.studies.ranking.outcomes import Losses, Point, chosen, read

TRIALS = (1, 3, 13)
REFERENCE = "adam"


def rows_of(results: Results, sweep: Sequence[Record], plan: Plan) -> Rows:
    """Return one row for each workload and optimizer; the records are the sweep's."""
    records, seconds = results.records, alone.step_seconds(results)
    torch = {(losses.optimizer, losses.workload): losses for losses in read(sweep, "torch")}
    rows = []
    for losses in read(sweep):
        target, other = beforehand.target(records, losses.workload), torch.get((losses.optimizer, losses.workload))
        taken = seconds.get(points.subject(losses.optimizer, losses.workload), float("nan"))
        row = _row(losses, target, plan) | {"step_seconds": taken}
        rows.append(row | {"same_steps_in_torch": _same_steps(losses, other, target, plan)})
    for name in dict.fromkeys(row["workload"] for row in rows):
        _standings([row for row in rows if row["workload"] == name])
    missing = [
        r for r in sweep if not r.ok and r.method in (beforehand.faster(records, _workload(r)), beforehand.NATIVE)
    ]
    return rows + [_missing(r) for r in missing]


def _row(losses: Losses, target: float, plan: Plan) -> dict[str, Any]:
    rate = points.default_rate(losses.optimizer, plan)
    default, tuned = chosen(losses, plan).values()
    schedule, best = tuned
    medians = np.median(losses.final, axis=0)
    return {
        "workload": losses.workload,
        "optimizer": losses.optimizer,
        "status": "ok",
        "reason": "",
        "target": target,
        "trials": int(medians.size),
        "widened": len(losses.rates) - points.size(plan).rates,
        "default_rate": rate,
        "tuned_rate": float(losses.rates[best]),
        "tuned_schedule": points.SCHEDULES[schedule],
        "decades_near_best": width(losses.rates, medians[schedule]),
        "diverged": int(np.isinf(losses.final).sum()),
        **{f"default_{name}": value for name, value in _at(losses, default, target).items()},
        **{f"tuned_{name}": value for name, value in _at(losses, tuned, target).items()},
        "test_with_trials": {str(trials): loss for trials, loss in _with_trials(losses, default[1], plan).items()},
    }


def _at(losses: Losses, point: Point, target: float) -> dict[str, list[float]]:
    schedule, rate = point
    return {
        "validation": losses.final[:, schedule, rate].tolist(),
        "test": losses.test_losses(point).tolist(),
        "steps": losses.steps_to(target, point).tolist(),
    }


def _same_steps(losses: Losses, other: Losses | None, target: float, plan: Plan) -> list[bool]:
    """Say of the default and the tuned point, where PyTorch ran it, whether it took as many steps to the target.

    A run that reached it in neither framework says nothing.
    """
    if other is None:
        return []
    pairs = [(point, other.find(losses.rates[point[1]], point[0])) for point in chosen(losses, plan).values()]
    steps = [(losses.steps_to(target, a)[0], other.steps_to(target, b)[0]) for a, b in pairs if b is not None]
    return [bool(here == there) for here, there in steps if np.isfinite([here, there]).any()]


def _with_trials(losses: Losses, middle: int, plan: Plan) -> dict[int, float]:
    """Return the test loss after so many trials of the first grid, which has as many points for each optimizer."""
    half = points.size(plan).rates // 2
    first = slice(max(0, middle - half), middle + half + 1)
    validation = np.median(losses.final[:, :, first], axis=0).ravel()
    test = losses.test[:, :, first].reshape(len(losses.test), -1)
    return {trials: statistics.with_trials(validation, test, trials) for trials in TRIALS}


def _standings(rows: Rows) -> None:
    """Add to the rows of one workload how each optimizer stands against Adam; nothing to Adam's own."""
    reference = next((row for row in rows if row["optimizer"] == REFERENCE), None)
    if reference is None:
        return
    others = [row for row in rows if row is not reference]
    for at in ("default", "tuned"):
        losses = {row["optimizer"]: np.array(row[f"{at}_test"]) for row in others}
        standings = statistics.against(np.array(reference[f"{at}_test"]), losses)
        for row in others:
            row[f"{at}_against_adam"] = standings[row["optimizer"]]
            row[f"{at}_scatter"] = _scatter(losses[row["optimizer"]], np.array(reference[f"{at}_test"]))


def _scatter(losses: Array, others: Array) -> float:
    """Return the standard deviation of the logarithm of the ratio of pairs; NaN where a run diverged."""
    finite = np.isfinite(losses).all() and np.isfinite(others).all()
    return float(np.log(losses / others).std(ddof=1)) if finite and len(losses) > 1 else float("nan")


def width(rates: Array, medians: Array) -> float:
    """Return how many powers of ten around the best learning rate have a loss within 1 % of the best one.

    Args:
        rates: Ascending.
        medians: The loss at each rate. Between two rates the loss is a straight line over log(rate).
    """
    best = int(np.argmin(medians))
    if not np.isfinite(medians[best]):
        return 0.0
    limit, places = (1 + statistics.NEAR) * medians[best], np.log10(rates)
    ends = []
    for step, last in ((-1, 0), (1, len(rates) - 1)):
        place = best
        while place != last and medians[place + step] <= limit:
            place += step
        end = places[place]
        if place != last and np.isfinite(medians[place + step]):
            part = (limit - medians[place]) / (medians[place + step] - medians[place])
            end += part * (places[place + step] - places[place])
        ends.append(float(end))
    return ends[1] - ends[0]


def _workload(record: Record) -> str:
    return points.parts(record.subject)[1]


def _missing(record: Record) -> dict[str, Any]:
    optimizer, workload = points.parts(record.subject)
    return {"workload": workload, "optimizer": optimizer, "status": record.status, "reason": record.reason}

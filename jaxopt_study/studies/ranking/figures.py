"""The ranking as charts: sensitivity to the learning rate, ranks, performance profile, tuning budgets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from jaxopt_study.bench.case import Plan
from jaxopt_study.data.workload import Array
from jaxopt_study.report import charts
from jaxopt_study.report.axes import Axis
from jaxopt_study.report.figures import Figure
from jaxopt_study.studies.experiment import Row
from jaxopt_study.studies.ranking import profiles, statistics, tables
from jaxopt_study.studies.ranking.outcomes import Losses, chosen

BEYOND = 30
"""Losses of more than so many times the least are not shown: a diverged run would take the whole height."""
GROUP = "JAX"
"""The framework that makes the runs which are ranked; PyTorch's repeat some of them."""


def figures(swept: Sequence[Losses], rows: Sequence[Row], plan: Plan) -> list[Figure]:
    """Return a chart of the sensitivity for each workload, and four over all of them."""
    found = []
    for name in dict.fromkeys(losses.workload for losses in swept):
        curves, least = _sensitivity([losses for losses in swept if losses.workload == name], plan)
        rate, loss = Axis("learning rate", log=True), Axis("validation loss", log=True, ends=(None, BEYOND * least))
        found.append(
            Figure(
                f"ranking_sensitivity_{name}",
                f"Sensitivity to the learning rate: {name}",
                "Validation loss with the schedule that was chosen: median and quartiles over initializations. "
                f"Circles: the default learning rate. Grey: the other optimizers. Losses over {BEYOND} times the "
                "least are not shown.",
                partial(charts.lines, curves, rate, loss, dots=False, context=True),
            )
        )
    whole = tables.complete(rows)
    return found if len(whole) < 2 else [*found, *_over_all(whole)]


def _over_all(whole: dict[str, list[Row]]) -> list[Figure]:
    ranks, losses = statistics.ranks(tables.losses(whole, "all")), tables.losses(whole, "all")
    rank = Axis("average rank (1 is best)")
    steps = _profile(whole, tables.steps(whole, "tuned"), 8)
    multiple = Axis("multiple of the fastest one's steps", log=True)
    quality = _profile(whole, losses, 2)
    worse = Axis("multiple of the least test loss", log=True)
    found = [
        Figure(
            "ranking_ranks",
            "Average rank over all workloads, tuned",
            "Two optimizers whose bars overlap cannot be told apart: each bar is as long as the critical difference, "
            f"{ranks.critical_difference:.2f} ranks.",
            partial(charts.points, _ranks(list(whole), ranks), rank),
        ),
        Figure(
            "ranking_profile",
            "Performance profile, tuned",
            "The part of the runs in which an optimizer reached the target within a multiple of the fastest one's "
            "steps. Grey: the other optimizers.",
            partial(
                charts.lines, steps, multiple, Axis("part of the runs"), dots=False, context=True, curve="step-after"
            ),
        ),
        Figure(
            "ranking_quality",
            "Quality profile, tuned",
            "The part of the workloads on which an optimizer's median test loss is at most a multiple of the least "
            "one. Grey: the other optimizers.",
            partial(
                charts.lines,
                quality,
                worse,
                Axis("part of the workloads"),
                dots=False,
                context=True,
                curve="step-after",
            ),
        ),
        Figure(
            "ranking_budgets",
            "Average rank against the trials of tuning",
            "Over all workloads; each optimizer is tuned with so many trials. Grey: the other optimizers.",
            partial(charts.lines, _budgets(whole), Axis("trials", names=tables.BUDGETS), rank, context=True),
        ),
    ]
    return [f for f in found if f.name != "ranking_quality" or profiles.comparable(losses).all()]


def _sensitivity(swept: Sequence[Losses], plan: Plan) -> tuple[list[dict[str, Any]], float]:
    """Return the points of all curves, and the least median loss."""
    found, least = [], np.inf
    for losses in swept:
        schedule, _ = losses.tuned
        quarters = np.quantile(losses.final[:, schedule], [0.25, 0.5, 0.75], axis=0, method="nearest")
        least = min(least, float(quarters[1].min()))
        _, default = chosen(losses, plan)["default"]
        found += [
            {
                "x": float(rate),
                "y": float(middle),
                "low": float(low),
                "high": float(high),
                "group": GROUP,
                "panel": losses.optimizer,
                "marked": place == default,
            }
            for place, (rate, low, middle, high) in enumerate(zip(losses.rates, *quarters, strict=True))
        ]
    return found, least


def _ranks(names: Sequence[str], ranks: statistics.Ranks) -> list[dict[str, Any]]:
    half = ranks.critical_difference / 2
    return [
        {"name": names[place], "group": GROUP, "value": rank, "low": rank - half, "high": rank + half}
        for place in np.argsort(ranks.average, kind="stable")
        for rank in [float(ranks.average[place])]
    ]


def _profile(whole: dict[str, list[Row]], values: Array, most: float) -> list[dict[str, Any]]:
    factors = np.geomspace(1, most, 60)
    parts = statistics.profile(values, factors.tolist())
    return [
        {"x": float(factor), "y": float(part), "panel": name, "group": GROUP}
        for name, mine in zip(whole, parts.T, strict=True)
        for factor, part in zip(factors, mine, strict=True)
    ]


def _budgets(whole: dict[str, list[Row]]) -> list[dict[str, Any]]:
    ranked = np.stack([statistics.ranks(tables.losses(whole, budget)).average for budget in tables.BUDGETS])
    return [
        {"x": place, "y": float(rank), "panel": name, "group": GROUP}
        for name, mine in zip(whole, ranked.T, strict=True)
        for place, rank in enumerate(mine)
    ]

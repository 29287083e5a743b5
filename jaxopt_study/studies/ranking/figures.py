"""The ranking as charts: sensitivity to the learning rate, ranks, performance profile, tuning budgets."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import numpy as np

from jaxopt_study.bench.case import Plan
from jaxopt_study.data.workload import Array
from jaxopt_study.report.figure import COLOURS, Figure
from jaxopt_study.studies.experiment import Row
from jaxopt_study.studies.ranking import profiles, statistics, tables
from jaxopt_study.studies.ranking.outcomes import Losses, chosen

STYLES = [(colour, line) for line in ("-", "--") for colour in COLOURS]


def figures(swept: Sequence[Losses], rows: Sequence[Row], plan: Plan) -> list[Figure]:
    """Return a chart of the sensitivity for each workload, and three over all of them."""
    names = list(dict.fromkeys(losses.workload for losses in swept))
    found = [
        Figure(
            f"ranking_sensitivity_{name}",
            f"{name}: validation loss against the learning rate, with the schedule that was chosen: median and "
            "quartiles over initializations. Circles: the default learning rate.",
            _sensitivity([losses for losses in swept if losses.workload == name], plan),
        )
        for name in names
    ]
    whole = tables.complete(rows)
    if len(whole) < 2:
        return found
    return [
        *found,
        Figure(
            "ranking_ranks",
            "Critical-difference diagram: the average rank over all workloads when tuned (1 is best). A bar on the "
            "right connects optimizers that cannot be told apart: their ranks are less than the critical difference "
            "apart.",
            lambda axes: _ranks(axes, whole),
        ),
        Figure(
            "ranking_profile",
            "Performance profile, tuned: the part of the runs in which an optimizer reached the target within a "
            "multiple of the fastest one's steps.",
            lambda axes: _profile(axes, whole, tables.steps(whole, "tuned"), "steps", "part of the runs", 8),
        ),
        *_quality(whole),
        Figure(
            "ranking_budgets",
            "Average rank over all workloads against the number of trials with which each optimizer is tuned.",
            lambda axes: _budgets(axes, whole),
        ),
    ]


def _sensitivity(swept: Sequence[Losses], plan: Plan) -> Any:
    def draw(axes: Any) -> None:
        best = np.inf
        for losses, (colour, line) in zip(swept, cycle(STYLES), strict=False):
            schedule, _ = losses.tuned
            low, middle, high = np.quantile(losses.final[:, schedule], [0.25, 0.5, 0.75], axis=0, method="nearest")
            best = min(best, middle.min())
            axes.plot(losses.rates, middle, color=colour, linestyle=line, label=losses.optimizer)
            axes.fill_between(losses.rates, low, high, color=colour, alpha=0.15, linewidth=0)
            _, place = chosen(losses, plan)["default"]
            axes.plot(losses.rates[place], middle[place], "o", color=colour, markersize=4)
        axes.set(xlabel="learning rate", ylabel="validation loss", xscale="log", yscale="log")
        axes.set_ylim(0.9 * best, 30 * best)
        axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))

    return draw


def _ranks(axes: Any, whole: dict[str, list[Row]]) -> None:
    found = statistics.ranks(tables.losses(whole, "all"))
    order = np.argsort(found.average, kind="stable")
    names = list(whole)
    axes.plot(found.average[order], range(len(names)), "o", color=COLOURS[0])
    axes.set(yticks=range(len(names)), yticklabels=[names[place] for place in order], xlabel="average rank")
    groups = statistics.alike(found.average[order], found.critical_difference)
    for number, (first, last) in enumerate(groups):
        axes.vlines(len(names) + 0.5 + 0.3 * number, first - 0.15, last + 0.15, color=COLOURS[1], linewidth=3)
    axes.set(xticks=range(1, len(names) + 1), xlim=(0.5, len(names) + 0.5 + 0.3 * len(groups)))
    axes.hlines(-1, 1, 1 + found.critical_difference, color="0.5", linewidth=2)
    axes.text(1, -1.2, f"critical difference: {found.critical_difference:.2f}", fontsize="small", color="0.4")
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)


def _quality(whole: dict[str, list[Row]]) -> list[Figure]:
    losses = tables.losses(whole, "all")
    if not profiles.comparable(losses).all():
        return []
    return [
        Figure(
            "ranking_quality",
            "Quality profile, tuned: the part of the workloads on which an optimizer's median test loss is at most a "
            "multiple of the least one.",
            lambda axes: _profile(axes, whole, losses, "test loss", "part of the workloads", 2),
        )
    ]


def _profile(axes: Any, whole: dict[str, list[Row]], values: Array, what: str, part: str, most: float) -> None:
    factors = np.geomspace(1, most, 200)
    parts = statistics.profile(values, factors.tolist())
    for place, (name, (colour, line)) in enumerate(zip(whole, cycle(STYLES), strict=False)):
        axes.step(factors, parts[:, place], where="post", color=colour, linestyle=line, label=name)
    axes.set(xlabel=f"multiple of the best optimizer's {what}", ylabel=part, ylim=(0, 1.02))
    axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))


def _budgets(axes: Any, whole: dict[str, list[Row]]) -> None:
    ranked = np.stack([statistics.ranks(tables.losses(whole, budget)).average for budget in tables.BUDGETS])
    for place, (name, (colour, line)) in enumerate(zip(whole, cycle(STYLES), strict=False)):
        axes.plot(range(len(ranked)), ranked[:, place], marker="o", color=colour, linestyle=line, label=name)
    axes.set(xticks=range(len(ranked)), xticklabels=tables.BUDGETS, xlabel="trials", ylabel="average rank")
    axes.invert_yaxis()
    axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))

"""The ranking as charts: sensitivity to the learning rate, ranks, performance profile, tuning budgets."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import numpy as np

from jaxopt_study.bench.case import Plan
from jaxopt_study.report.figure import COLOURS, Figure
from jaxopt_study.studies.experiment import Row
from jaxopt_study.studies.ranking import statistics, tables
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
            "Average rank over all workloads when tuned (1 is best). The bar is as long as the critical difference: "
            "optimizers whose ranks are less apart cannot be told apart.",
            lambda axes: _ranks(axes, whole),
        ),
        Figure(
            "ranking_profile",
            "Performance profile, tuned: the part of the runs in which an optimizer reached the target within a "
            "multiple of the fastest one's steps.",
            lambda axes: _profile(axes, whole),
        ),
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
    axes.set_xlim(0.5, len(names) + 0.5)
    start = float(found.average[order[0]])
    axes.hlines(-1, start, start + found.critical_difference, color=COLOURS[1], linewidth=3)
    axes.text(start, -1.3, "critical difference from the best", fontsize="small", verticalalignment="bottom")
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)


def _profile(axes: Any, whole: dict[str, list[Row]]) -> None:
    factors = np.geomspace(1, 8, 100)
    parts = statistics.profile(tables.steps(whole, "tuned"), factors.tolist())
    for place, (name, (colour, line)) in enumerate(zip(whole, cycle(STYLES), strict=False)):
        axes.step(factors, parts[:, place], where="post", color=colour, linestyle=line, label=name)
    axes.set(xlabel="multiple of the fastest optimizer's steps", ylabel="part of the runs", ylim=(0, 1.02))
    axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))


def _budgets(axes: Any, whole: dict[str, list[Row]]) -> None:
    ranked = np.stack([statistics.ranks(tables.losses(whole, budget)).average for budget in tables.BUDGETS])
    for place, (name, (colour, line)) in enumerate(zip(whole, cycle(STYLES), strict=False)):
        axes.plot(range(len(ranked)), ranked[:, place], marker="o", color=colour, linestyle=line, label=name)
    axes.set(xticks=range(len(ranked)), xticklabels=tables.BUDGETS, xlabel="trials", ylabel="average rank")
    axes.invert_yaxis()
    axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))

"""How the ranking compares: paired tests with a correction, ranks, tuning budgets, performance profiles.

Losses may be infinite (misses). Everything here is of ranks or medians, which infinity does not harm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from jaxopt_study.bench.stats import Interval
from jaxopt_study.data.workload import Array

LEVEL = 0.05
NEAR = 0.01
"""Losses whose medians differ by less than this part are as good as each other, however sure the difference is."""
BETTER, TIED, WORSE = "better", "tied", "worse"


def median(values: Array) -> Interval:
    """Return the median with its exact 95 % interval, by the sign test."""
    from scipy.stats import quantile_test  # takes most of a second to load

    middle = float(np.median(values))
    if len(values) < 6:
        return Interval(middle, float("nan"), float("nan"))
    low, high = quantile_test(values, q=middle, p=0.5).confidence_interval(1 - LEVEL)
    return Interval(middle, float(low), float(high))


def against(reference: Array, others: Mapping[str, Array]) -> dict[str, str]:
    """Say of each of `others` whether it is better than the reference, tied with it or worse.

    Two are tied where their medians are within 1 %, however sure the difference is. Otherwise each is compared by
    Wilcoxon's signed-rank test of the pairs of runs from the same initialization. The p-values are corrected by
    Benjamini and Hochberg: where all are equal, the chance that any is called different is 5 %.

    Args:
        reference: The loss from each initialization.
        others: Optimizer -> its losses from the same initializations.
    """
    from scipy.stats import false_discovery_control  # takes most of a second to load

    if not others:
        return {}
    differences = np.stack([_difference(losses, reference) for losses in others.values()])
    corrected = false_discovery_control(_p_values(differences))
    middle, found = np.median(reference), {}
    for (name, losses), p in zip(others.items(), corrected, strict=True):
        other = np.median(losses)
        same = p >= LEVEL or np.isclose(other, middle, rtol=NEAR, atol=0)
        found[name] = TIED if same else (BETTER if other < middle else WORSE)
    return found


def _difference(losses: Array, reference: Array) -> Array:
    both = np.isinf(losses) & np.isinf(reference)
    return np.where(both, 0.0, np.where(both, 0.0, losses) - np.where(both, 0.0, reference))


def _p_values(differences: Array) -> Array:
    """Return the p-value of each row.

    It is exact where no two entries are of the same size, at once for all such rows. Several misses in a row, and pairs
    of misses, are ties: then it is that of the normal distribution, and zeros do not count.
    """
    from scipy.stats import wilcoxon

    sizes = np.sort(np.abs(differences), axis=1)
    exact = (sizes[:, 0] > 0) & np.all(sizes[:, 1:] > sizes[:, :-1], axis=1)
    values = np.ones(len(differences))
    if exact.any():
        values[exact] = wilcoxon(differences[exact], axis=1, method="exact").pvalue
    for place in np.flatnonzero(~exact & differences.any(axis=1)):
        values[place] = wilcoxon(differences[place], method="asymptotic").pvalue
    return values


@dataclass(frozen=True)
class Ranks:
    """Average ranks over workloads, 1 for the least loss.

    Attributes:
        average: The average rank of each optimizer.
        p_value: Friedman's test that all are equal; NaN where it needs more optimizers or workloads.
        critical_difference: Two optimizers differ where their average ranks are further apart (Nemenyi; Demšar, 2006).
    """

    average: Array
    p_value: float
    critical_difference: float


def ranks(losses: Array) -> Ranks:
    """Return the ranks of (workloads, optimizers)."""
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    workloads, optimizers = losses.shape
    ranked = rankdata(losses, axis=1)
    alike = bool(np.all(ranked == ranked[:, :1]))
    p_value = float("nan")
    if optimizers > 2 and workloads > 1:
        p_value = 1.0 if alike else float(friedmanchisquare(*ranked.T).pvalue)
    quantile = studentized_range.ppf(1 - LEVEL, optimizers, np.inf) / np.sqrt(2) if optimizers > 1 else np.nan
    difference = quantile * np.sqrt(optimizers * (optimizers + 1) / (6 * workloads))
    return Ranks(ranked.mean(axis=0), p_value, float(difference))


def alike(average: Array, critical_difference: float) -> list[tuple[int, int]]:
    """Return the largest groups of optimizers that cannot be told apart: the first and the last place in the order.

    Args:
        average: The average ranks, ascending.
        critical_difference: See `Ranks`.
    """
    ends = [int(np.searchsorted(average, rank + critical_difference)) - 1 for rank in average]
    starts = [place for place, end in enumerate(ends) if end > place and (place == 0 or end > ends[place - 1])]
    return [(place, ends[place]) for place in starts]


def with_trials(validation: Array, test: Array, trials: int) -> float:
    """Return the median test loss of a user who tries so many points, drawn at random, and keeps the best one.

    The distribution is exact: of n points sorted by validation loss, number r is the best of the drawn ones with
    probability C(n - 1 - r, k - 1) / C(n, k) where k are drawn.

    Args:
        validation: The median validation loss of each point: (points,).
        test: The test losses of each point: (initializations, points).
        trials: How many points are drawn, without replacement; all of them where there are fewer.
    """
    order, count = np.argsort(validation, kind="stable"), len(validation)
    drawn = min(trials, count)
    chances = [comb(count - 1 - place, drawn - 1) / comb(count, drawn) for place in range(count)]
    losses = test[:, order]
    weights = np.broadcast_to(np.array(chances) / len(losses), losses.shape).ravel()
    by_size = np.argsort(losses, axis=None, kind="stable")
    place = np.searchsorted(np.cumsum(weights[by_size]), 0.5 - 1e-12)
    return float(losses.ravel()[by_size][place])


def profile(steps: Array, factors: Sequence[float]) -> Array:
    """Return the part of the problems that each optimizer solves within `factor` times the steps of the best one.

    Args:
        steps: (problems, optimizers); infinite where the target was not reached (Dolan and Moré, 2002). Or losses, of
            which the best one is positive.
        factors: At least 1.

    Returns:
        (factors, optimizers).
    """
    best = steps.min(axis=1, keepdims=True)
    ratios = np.where(np.isfinite(steps), steps / np.where(np.isfinite(best), best, 1.0), np.inf)
    return np.stack([(ratios <= factor).mean(axis=0) for factor in factors])

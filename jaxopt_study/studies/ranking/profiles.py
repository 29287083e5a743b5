"""Profiles over workloads: how often an optimizer comes within a factor of the best one, in steps and in loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jaxopt_study.data.workload import Array
from jaxopt_study.report.table import Table
from jaxopt_study.studies.ranking import statistics

STEPS = (1.0, 1.5, 2.0, 4.0)
LOSSES = (1.01, 1.05, 1.2, 2.0)
"""The factors of the tables: multiples of the least number of steps, and of the least test loss."""


def performance(names: Sequence[str], steps: Mapping[str, Array], same: Sequence[bool]) -> Table:
    """Return how often each optimizer reached the target within so many times the steps of the fastest one.

    Args:
        names: The optimizers.
        steps: At the default and at the tuned learning rate: (workloads x initializations, optimizers).
        same: Whether PyTorch took as many steps, of each run that it made.
    """
    notes = (
        "The part of all initializations of all workloads in which the optimizer reached the target within so many "
        "times the steps of the fastest one. d: at the default learning rate; t: tuned.",
        *([f"PyTorch took as many steps as JAX in {sum(same)} of {len(same)} runs."] if same else []),
    )
    return _table("Over all workloads: performance profile", names, steps, STEPS, notes)


def quality(names: Sequence[str], losses: Mapping[str, Array]) -> list[Table]:
    """Return on how many workloads each optimizer's test loss is within a factor of the best one's, without a target.

    Args:
        names: The optimizers.
        losses: At the default and at the tuned learning rate, the median test loss: (workloads, optimizers).
    """
    if not all(comparable(found).all() for found in losses.values()):
        return []
    notes = (
        "The part of the workloads on which the optimizer's median test loss is at most so many times the least one. "
        "d: at the default learning rate; t: tuned.",
    )
    return [_table("Over all workloads: quality profile", names, losses, LOSSES, notes)]


def comparable(losses: Array) -> Array:
    """Return for each workload whether ratios of its losses say anything: a registered loss may be negative."""
    return losses.min(axis=1) > 0


def _table(
    title: str, names: Sequence[str], values: Mapping[str, Array], factors: Sequence[float], notes: tuple[str, ...]
) -> Table:
    parts = [statistics.profile(found, factors) for found in values.values()]
    lines = [(name, *(f"{100 * x:.0f} %" for part in parts for x in part[:, n])) for n, name in enumerate(names)]
    columns = [f"{at[0]} {factor:g}" for at in values for factor in factors]
    return Table(title, ("optimizer", *columns), lines, notes)

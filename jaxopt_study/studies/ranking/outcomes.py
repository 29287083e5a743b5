"""The losses of one optimizer on one workload, read from a record; and the point that validation chooses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaxopt_study.bench import record
from jaxopt_study.bench.case import Plan
from jaxopt_study.bench.record import Record
from jaxopt_study.data.workload import Array
from jaxopt_study.studies.ranking import points

Point = tuple[int, int]
"""The number of a schedule, and of a learning rate."""


@dataclass(frozen=True)
class Losses:
    """All runs of one optimizer on one workload. A run that diverged is a miss: its losses are infinite.

    Attributes:
        rates: The learning rates, from the least: (rates,).
        validation: The loss after each epoch: (initializations, schedules, rates, epochs).
        test: The loss after the last epoch: (initializations, schedules, rates).
        moved: The validation loss of the first initialization, moved by one unit in the last place; in JAX alone:
            (1, schedules, rates, epochs).
        steps_per_epoch: Steps of an epoch.
    """

    optimizer: str
    workload: str
    rates: Array
    validation: Array
    test: Array
    moved: Array
    steps_per_epoch: int

    @property
    def final(self) -> Array:
        """The validation loss after the last epoch: (initializations, schedules, rates)."""
        return self.validation[..., -1]

    @property
    def tuned(self) -> Point:
        """The point with the least median validation loss."""
        return best_point(self.final)

    def find(self, rate: float, schedule: int = 0) -> Point | None:
        """Return the point of this learning rate, if it is in the grid."""
        found = np.flatnonzero(np.isclose(self.rates, rate, rtol=1e-9, atol=0))
        return (schedule, int(found[0])) if len(found) else None

    def test_losses(self, point: Point) -> Array:
        """Return the test loss of each initialization."""
        return self.test[:, point[0], point[1]]

    def steps_to(self, target: float, point: Point) -> Array:
        """Return for each initialization the steps until validation reached the target; infinity if it did not."""
        reached = self.validation[:, point[0], point[1]] <= target
        return np.where(reached.any(axis=1), (reached.argmax(axis=1) + 1.0) * self.steps_per_epoch, np.inf)


def chosen(losses: Losses, plan: Plan) -> dict[str, Point]:
    """Return the points that are compared: the default learning rate without a schedule, and what validation chose."""
    default = losses.find(points.default_rate(losses.optimizer, plan))
    assert default is not None
    return {"default": default, "tuned": losses.tuned}


def best_point(final: Array) -> Point:
    """Return the schedule and the rate of the least median validation loss.

    Args:
        final: (initializations, schedules, rates).
    """
    medians = np.median(missed(final), axis=0)
    schedule, rate = np.unravel_index(medians.argmin(), medians.shape)
    return int(schedule), int(rate)


def missed(losses: Array) -> Array:
    """Return the losses in float64, with infinity in place of NaN."""
    losses = np.asarray(losses, float)
    return np.where(np.isfinite(losses), losses, np.inf)


def read(records: Sequence[Record], framework: str = "jax") -> list[Losses]:
    """Return the losses of the sweep's records of one framework."""
    return [
        Losses(
            *points.parts(r.subject),
            rates=np.array(r.value["rates"]),
            validation=missed(record.unpack(r.value["validation"])),
            test=missed(record.unpack(r.value["test"])),
            moved=missed(record.unpack(r.value["moved"])),
            steps_per_epoch=r.value["steps_per_epoch"],
        )
        for r in records
        if r.framework == framework and r.ok
    ]

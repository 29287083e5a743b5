"""The optimizers of the ranking with their default learning rates, and the grids around these."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxopt_study.bench.case import Plan
from jaxopt_study.data.workload import Array
from jaxopt_study.studies.registry import NOTEBOOK

SCHEDULES = ("constant", "cosine")
DECADES = 3
"""A grid reaches so many powers of ten to both sides of the default learning rate."""

DEFAULTS: dict[str, float] = {
    # torch.optim's own.
    "adam": 1e-3,
    "adamw": 1e-3,
    "rmsprop": 1e-2,
    "sgd": 1e-3,
    "momentum": 1e-3,
    "nesterov": 1e-3,
    "adagrad": 1e-2,
    # optax has no default; these are the papers'.
    "lion": 1e-4,
    "adabelief": 1e-3,
    "muon": 2e-2,
    # optax's own.
    "schedule_free": 2.5e-3,
}
"""Optimizer -> the learning rate that a user gets, or is told to take, who tunes nothing."""


@dataclass(frozen=True)
class Size:
    """How much a profile trains.

    Attributes:
        workloads: The built-in workloads.
        optimizers: The optimizers, where the command line names none.
        rates: Learning rates of the grid.
        initializations: Initial parameters, each with an order of rows.
    """

    workloads: tuple[str, ...]
    optimizers: tuple[str, ...]
    rates: int
    initializations: int


FOUR = ("digits-linear", "digits-mlp", "diabetes", "zipf-linear")
MOST = tuple(name for name in DEFAULTS if name not in ("adabelief", "muon"))

SIZES = {
    "smoke": Size(("digits-linear", "diabetes"), ("adam", "sgd", "momentum"), 13, 10),
    # Muon alone would take as long as half of the others: its matrix products are most of a small network's step.
    "default": Size(FOUR, MOST, 13, 10),
    "full": Size((*FOUR, "digits-mlp2-relu", "digits-cnn", "modular-transformer"), tuple(DEFAULTS), 25, 20),
}
"""Profile -> how much is trained. Wine is not among the workloads: its 36 validation rows can be told apart without an
error, so that the largest learning rate has the least validation loss and a large test loss."""


def size(plan: Plan) -> Size:
    """Return how much a plan trains."""
    return SIZES[plan.profile]


def workloads(plan: Plan) -> list[str]:
    """Return the profile's workloads, and the plan's own."""
    own = () if plan.workload == "digits-linear" else (plan.workload,)
    return list(dict.fromkeys((*size(plan).workloads, *own)))


def optimizers(plan: Plan) -> list[str]:
    """Return the optimizers that were named, or else the profile's."""
    return list(size(plan).optimizers if plan.optimizers == NOTEBOOK else plan.optimizers)


def subject(optimizer: str, workload: str) -> str:
    """Return the name of a case's subject."""
    return f"{optimizer} on {workload}"


def parts(subject: str) -> tuple[str, str]:
    """Return the optimizer and the workload of a case's subject."""
    optimizer, _, workload = subject.partition(" on ")
    return optimizer, workload


def default_rate(optimizer: str, plan: Plan) -> float:
    """Return the optimizer's default learning rate; of one that the table lacks, the plan's."""
    return DEFAULTS.get(optimizer, plan.learning_rate)


def grid(default: float, count: int) -> Array:
    """Return `count` learning rates in equal ratios, from 1/1000 of the default to 1000 times as much.

    The one in the middle is the default to the last bit.
    """
    steps = np.arange(count) - count // 2
    return default * 10.0 ** (steps * DECADES / (count // 2))


def by_step(rates: Array, epochs: int, steps: int) -> Array:
    """Return the learning rate of each step: (schedules x rates, epochs, steps).

    The cosine falls from the learning rate at the first step to 0 after the last one.
    """
    made = np.arange(epochs * steps) / (epochs * steps)
    factors = {"constant": np.ones_like(made), "cosine": (1 + np.cos(np.pi * made)) / 2}
    of_runs = np.stack([rates[:, None] * factors[name] for name in SCHEDULES])
    return of_runs.reshape(-1, epochs, steps)

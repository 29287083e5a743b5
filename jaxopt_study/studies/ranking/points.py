"""The optimizers of the ranking with their default learning rates, and the grids around these."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxopt_study import plugin
from jaxopt_study.bench.case import Plan
from jaxopt_study.bench.task import Skipped
from jaxopt_study.data.workload import Array
from jaxopt_study.studies import trained
from jaxopt_study.studies.registry import NOTEBOOK

SCHEDULES = ("constant", "cosine")
DECADES = 3
"""A grid reaches so many powers of ten to both sides of the default learning rate."""


@dataclass(frozen=True)
class Ranked:
    """An optimizer of the ranking: a row of the backends' `more_optimizers`.

    Attributes:
        default: The learning rate of a user who tunes nothing.
        source: Whose default it is.
        matrices: Whether it is for matrices, so that a network without one is skipped.
    """

    default: float
    source: str
    matrices: bool = False


OPTIMIZERS: dict[str, Ranked] = {
    "adam": Ranked(1e-3, "torch.optim"),
    "adamw": Ranked(1e-3, "torch.optim"),
    "rmsprop": Ranked(1e-2, "torch.optim"),
    "sgd": Ranked(1e-3, "torch.optim"),
    "momentum": Ranked(1e-3, "torch.optim"),
    "nesterov": Ranked(1e-3, "torch.optim"),
    "adagrad": Ranked(1e-2, "torch.optim"),
    "lion": Ranked(1e-4, "Chen et al. (2023); optax has none"),
    "adabelief": Ranked(1e-3, "Zhuang et al. (2020); optax has none"),
    "muon": Ranked(2e-2, "Jordan (2024); optax has none", matrices=True),
    "schedule_free": Ranked(2.5e-3, "optax"),
}


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
MOST = tuple(name for name in OPTIMIZERS if name not in ("adabelief", "muon"))

SIZES = {
    "smoke": Size(("diabetes",), ("adam", "sgd", "momentum"), 13, 10),
    # Muon alone would take as long as half of the others: its matrix products are most of a small network's step.
    "default": Size(FOUR, MOST, 13, 10),
    "full": Size((*FOUR, "digits-mlp2-relu"), tuple(OPTIMIZERS), 25, 20),
}
"""Profile -> how much is trained.

Swept only where `--workload` names them: digits-cnn and modular-transformer, whose runs take JAX 10 and 1.2 ms per step
on a core, against 0.2 ms of digits-mlp2-relu; and wine, whose 36 validation rows can be told apart without an error, so
that the largest learning rate has the least validation loss and a large test loss.
"""


OVERVIEW = {"smoke": Size((), (), 3, 6), "default": Size((), (), 7, 10), "full": Size((), (), 13, 10)}
"""The same of the main job, which trains the plan's workload with the plan's optimizers."""


def size(plan: Plan) -> Size:
    """Return how much a plan trains."""
    return (OVERVIEW if plan.overview else SIZES)[plan.profile]


def workloads(plan: Plan) -> list[str]:
    """Return the profile's workloads, and the plan's own; of the main job the plan's alone."""
    if plan.overview:
        return [plan.workload]
    own = () if plan.workload == "digits-linear" else (plan.workload,)
    return list(dict.fromkeys((*size(plan).workloads, *own)))


def optimizers(plan: Plan) -> list[str]:
    """Return the optimizers that were named, or else the profile's."""
    return list(size(plan).optimizers if plan.optimizers == NOTEBOOK and not plan.overview else plan.optimizers)


def subject(optimizer: str, workload: str) -> str:
    """Return the name of a case's subject."""
    return f"{optimizer} on {workload}"


def parts(subject: str) -> tuple[str, str]:
    """Return the optimizer and the workload of a case's subject."""
    optimizer, _, workload = subject.partition(" on ")
    return optimizer, workload


def ranked(optimizer: str, plan: Plan) -> Ranked | None:
    """Return the optimizer's row; nothing of one that is the user's, as a `lion` of the plugin."""
    mine = plugin.find(plan.plugin, plan.plugin_digest, "optimizer", optimizer)
    return None if mine else OPTIMIZERS.get(optimizer)


def default_rate(optimizer: str, plan: Plan) -> float:
    """Return the optimizer's default learning rate.

    Raises:
        Skipped: It is 0, as a call of torch may say.
    """
    row = ranked(optimizer, plan)
    rate = row.default if row else trained.default_rate(optimizer, plan)
    if rate <= 0:
        raise Skipped(f"a learning rate of {rate:g} has no others around it")
    return rate


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

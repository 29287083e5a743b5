"""What is raced on: penalized linear models, of which scikit-learn knows the optimum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from jaxopt_study.backends.numpy import newton as baseline
from jaxopt_study.data.workload import (
    Array,
    ParameterTree,
    Workload,
    breast_cancer_raw,
    breast_cancer_standardized,
    digits_linear,
    draw_params,
    zero_params,
)

__all__ = ["PENALTY", "PROBLEMS", "Problem", "accuracy", "data", "loss", "moved_params", "objective", "start"]

PENALTY = 1e-3


@dataclass(frozen=True)
class Problem:
    """A linear model with penalty / 2 |kernel|^2.

    Attributes:
        draw: draw(seed, epochs) is the workload.
        loss: The name of its loss, before the penalty, in a backend's `models`.
        value: value(x, rows, penalty) is the objective in float64, by formula; the bias stands first in x.
        closed_form: closed_form(backend, dtype) is its Hessian for the backend's `minimize`.
    """

    draw: Callable[[int, int], Workload]
    loss: str
    value: Callable[[Array, tuple[Array, Array], float], float]
    closed_form: Callable[[Any, str | None], Any]


def _softmax_system(backend: Any, dtype: str | None) -> Any:
    return backend.newton.softmax_system(dtype)


def _logistic_hessian(backend: Any, dtype: str | None) -> Any:
    del dtype
    return backend.newton.logistic_hessian


PROBLEMS = {
    "digits-linear": Problem(digits_linear, "loss", baseline.softmax_objective, _softmax_system),
    "breast-cancer-raw": Problem(breast_cancer_raw, "logistic_loss", baseline.logistic_objective, _logistic_hessian),
    "breast-cancer-standardized": Problem(
        breast_cancer_standardized, "logistic_loss", baseline.logistic_objective, _logistic_hessian
    ),
}
"""The first is raced by all arms, the others by a few."""


def data(subject: str, workload: Workload) -> Workload:
    """Return the rows of a problem, which are the run's own workload or another."""
    return workload if subject == workload.name else PROBLEMS[subject].draw(0, 1)


@cache  # what is compiled for a loss is found again by it
def loss(backend: Any, name: str, widths: tuple[int, ...]) -> Callable[..., Any]:
    """Return the backend's penalized loss (params, batch, penalty)."""
    return backend.models.penalized(getattr(backend.models, name)(backend.models.network(widths)))


def start(backend: Any, workload: Workload) -> tuple[Any, Any, Any]:
    """Return parameters that are all 0, the training rows and the penalty, as the backend's own arrays."""
    params = backend.runtime.params_from_numpy(zero_params(workload.widths))
    batch = tuple(backend.runtime.from_numpy(array) for array in workload.train)
    return params, batch, backend.runtime.from_numpy(np.array(PENALTY))


def moved_params(widths: tuple[int, ...], dtype: str) -> ParameterTree:
    """Return a start that is off 0 by a unit in the last place of 1 or less, each parameter in a direction of its own.

    The same for all classes would change no probability.
    """
    eps = float(np.finfo(dtype).eps)
    return {
        layer: {name: eps * leaf for name, leaf in leaves.items()} for layer, leaves in draw_params(widths, 0).items()
    }


def objective(subject: str, x: Array, workload: Workload) -> float:
    """Return the penalized training loss, in float64 and by formula, whoever found x."""
    return PROBLEMS[subject].value(x, workload.train, PENALTY)


def accuracy(x: Array, rows: tuple[Array, Array], outputs: int) -> float:
    """Return how much of the rows a linear layer gets right; one output says yes where it is positive."""
    inputs, targets = rows
    logits = inputs @ x[outputs:].reshape(-1, outputs) + x[:outputs]
    said = logits.argmax(axis=1) if outputs > 1 else logits[:, 0] > 0
    return float(np.mean(said == targets))

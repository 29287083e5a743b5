"""The problems of the race: linear models with a penalty, whose optimum scikit-learn finds too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from jaxopt_study.backends import Backend
from jaxopt_study.backends.numpy import newton as references
from jaxopt_study.bench.task import Skipped
from jaxopt_study.data.workload import Array, ParameterTree, Workload, draw_params, zero_params
from jaxopt_study.data.workloads import whole_breast_cancer

__all__ = ["PENALTY", "SMALL", "Form", "accuracy", "form", "moved_params", "objective", "problem", "start", "subjects"]

PENALTY = 1e-3

SMALL = ("breast-cancer-raw", "breast-cancer-standardized")
"""Problems of 31 parameters and all 569 rows, on which a few methods race beside the run's own workload."""


@dataclass(frozen=True)
class Form:
    """The closed forms of a loss of `Workload.loss` with penalty / 2 |kernel|^2.

    Attributes:
        value: value(x, rows, penalty) is the objective in float64; the bias stands first in x.
        hessian: hessian(backend, dtype) is the Hessian for the backend's `minimize`.
    """

    value: Callable[[Array, tuple[Array, Array], float], float]
    hessian: Callable[[Backend, str | None], Any]


FORMS = {
    "cross_entropy": Form(references.softmax_objective, lambda backend, dtype: backend.newton.softmax_system(dtype)),
    "binary_cross_entropy": Form(references.logistic_objective, lambda backend, _: backend.newton.logistic_hessian),
}


def subjects(workload: str) -> tuple[str, ...]:
    """Return the names of the problems: the run's workload, which all methods race on, and the small ones."""
    return (workload, *(name for name in SMALL if name != workload))


def problem(subject: str, workload: Workload) -> Workload:
    """Return the data of a problem: the run's own workload, or a small problem.

    Raises:
        Skipped: The model is not linear, or there is no closed form of its loss.
    """
    found = whole_breast_cancer(subject) if subject in SMALL else workload
    if not found.linear or found.loss not in FORMS:
        raise Skipped(f"the race needs the closed form of a linear model's loss, which {subject} does not have")
    return found


def form(workload: Workload) -> Form:
    """Return the closed forms of the workload's loss."""
    return FORMS[workload.loss]


def start(backend: Backend, workload: Workload) -> tuple[Callable[..., Any], Any, Any, Any]:
    """Return the penalized loss, parameters that are all 0, the training rows and the penalty, for the backend."""
    params = backend.runtime.params_from_numpy(zero_params(workload.widths))
    batch = tuple(backend.runtime.from_numpy(array) for array in workload.train)
    penalty = backend.runtime.from_numpy(np.array(PENALTY))
    loss = _penalized(backend, workload.loss, workload.widths)  # type: ignore[arg-type] # a module can be hashed
    return loss, params, batch, penalty


@cache  # JAX compiles once for each loss function
def _penalized(backend: Backend, loss: str, widths: tuple[int, ...]) -> Callable[..., Any]:
    return backend.models.penalized(
        backend.models.batch_loss(backend.models.network(widths), getattr(backend.models, loss))
    )


def moved_params(widths: tuple[int, ...], dtype: str) -> ParameterTree:
    """Return a start whose parameters differ from 0 by up to one unit in the last place of 1, each by its own amount.

    The same change for all classes would not change any probability.
    """
    eps = float(np.finfo(dtype).eps)
    return {
        layer: {name: eps * leaf for name, leaf in leaves.items()} for layer, leaves in draw_params(widths, 0).items()
    }


def objective(x: Array, workload: Workload) -> float:
    """Return the penalized training loss by formula, in float64."""
    return form(workload).value(x, workload.train, PENALTY)


def accuracy(x: Array, rows: tuple[Array, Array], outputs: int) -> float:
    """Return the part of the rows that a linear layer classifies correctly; one output means 1 where it is positive."""
    inputs, targets = rows
    logits = inputs @ x[outputs:].reshape(-1, outputs) + x[:outputs]
    predicted = logits.argmax(axis=1) if outputs > 1 else logits[:, 0] > 0
    return float(np.mean(predicted == targets))

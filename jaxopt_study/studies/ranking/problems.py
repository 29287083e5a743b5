"""What the ranking trains: workloads with three parts, several initializations, and a target fixed beforehand."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from jaxopt_study.bench.case import Plan
from jaxopt_study.bench.task import Skipped
from jaxopt_study.data.workload import (
    LOSSES,
    Array,
    ParameterTree,
    Rows,
    Workload,
    draw_order,
    next_up,
    stack_params,
)
from jaxopt_study.data.workloads import WORKLOADS

PER_STEP = 32
"""The rows of a training step where the command line names none, or one: all of the training part if it has fewer. The
main job, which trains row by row, ranks so too."""
CLOSED = 0.98
"""The target closes this part of the distance from the best constant prediction to scikit-learn's linear model. Nine
tenths are reached within two of 15 epochs by nearly every optimizer, so that they do not tell them apart."""


@dataclass(frozen=True)
class Problem:
    """A workload that every optimizer trains from the same starts, on the same rows in the same order.

    The last start is the first one again, moved by one unit in the last place: its distance from the first is the
    sensitivity of a training to rounding.

    Attributes:
        workload: With a validation part.
        params: Initial parameters with a first axis that counts starts.
        orders: The rows of each step: (starts, epochs, steps, batch).
    """

    workload: Workload
    params: ParameterTree
    orders: Array

    def start(self, number: int) -> ParameterTree:
        """Return the initial parameters of a start."""
        return {layer: {name: leaf[number] for name, leaf in leaves.items()} for layer, leaves in self.params.items()}

    @property
    def matrices(self) -> bool:
        """Whether a leaf of the parameters is a matrix of at least two rows and columns."""
        leaves = [leaf for layer in self.params.values() for leaf in layer.values()]
        return any(leaf.ndim == 3 and min(leaf.shape[1:]) > 1 for leaf in leaves)

    @property
    def parts(self) -> tuple[Rows, Rows, Rows]:
        """The rows for training, validation and testing."""
        assert self.workload.validation is not None
        return self.workload.train, self.workload.validation, self.workload.test


Draw = Callable[[Workload, int], ParameterTree]


def drawn_in_numpy(workload: Workload, seed: int) -> ParameterTree:
    """Return the initial parameters of a built-in network."""
    return workload.network.draw(seed)


def make(
    name: str, given: Workload, plan: Plan, initializations: int, epochs: int, draw: Draw = drawn_in_numpy
) -> Problem:
    """Return the problem of that name.

    Args:
        name: A built-in workload, or the plan's.
        given: The plan's workload, which may be a user's own.
        plan: What the run was asked for: its seed is that of the first initialization.
        initializations: How many starts there are, without the one that is moved.
        epochs: Epochs of each training.
        draw: draw(workload, seed) are initial parameters of a workload; those of the first start are the workload's.

    Raises:
        Skipped: The workload holds no rows out.
    """
    workload = three_parts(given if name == plan.workload else WORKLOADS[name](plan.seed, 1, 1))
    rows = len(workload.train[1])
    batch = min(plan.batch_size if plan.batch_size > 1 or plan.overview else PER_STEP, rows)
    seeds = range(plan.seed, plan.seed + initializations)
    orders = [draw_order(rows, epochs, batch, np.random.default_rng(seed)) for seed in seeds]
    params = [workload.params, *(draw(workload, seed) for seed in seeds[1:])]
    moved = next_up(params[0], plan.dtype)
    return Problem(workload, stack_params([*params, moved]), np.stack([*orders, orders[0]]))


def three_parts(workload: Workload) -> Workload:
    """Return the workload with a validation part: a fifth of the training rows, drawn at random, where it has none."""
    inputs, targets = workload.train
    if workload.test[1] is targets:
        raise Skipped("this workload holds no rows out for testing")
    if workload.validation is not None:
        return workload
    order = np.random.default_rng(0).permutation(len(targets))
    held_out, rest = np.split(order, [len(order) // 5])
    return replace(workload, train=(inputs[rest], targets[rest]), validation=(inputs[held_out], targets[held_out]))


def target(problem: Problem) -> float:
    """Return the validation loss that a training should reach; no training decides it.

    It lies 98 % of the way from the best constant prediction to scikit-learn's regularized linear model, with its
    default options. Where that model predicts no better than a constant, it is half of the constant's loss. Of a
    registered loss nobody knows either of them: NaN.
    """
    if problem.workload.loss not in LOSSES:
        return float("nan")
    (inputs, targets), validation, _ = problem.parts
    if problem.workload.regression:
        constant, linear = _squared_errors(inputs, targets, validation)
    else:
        constant, linear = _log_losses(inputs, targets, validation)
    return constant - CLOSED * (constant - linear) if linear < constant else constant / 2


def _squared_errors(inputs: Array, targets: Array, validation: Rows) -> tuple[float, float]:
    from sklearn.linear_model import Ridge  # takes a second to load

    predicted = Ridge().fit(inputs, targets).predict(validation[0])
    constant, linear = (float(np.mean((guess - validation[1]) ** 2)) for guess in (targets.mean(), predicted))
    return constant, linear


def _log_losses(inputs: Array, targets: Array, validation: Rows) -> tuple[float, float]:
    from sklearn.linear_model import LogisticRegression  # takes a second to load
    from sklearn.metrics import log_loss

    classes, counts = np.unique(targets, return_counts=True)
    if inputs.dtype.kind != "f":  # tokens are names and not numbers
        inputs, validation = inputs.astype(float), (validation[0].astype(float), validation[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it did not converge: its loss is one of a linear model all the same
        predicted = LogisticRegression(max_iter=1000).fit(inputs, targets).predict_proba(validation[0])
    frequencies = np.tile(counts / len(targets), (len(validation[1]), 1))
    constant, linear = (float(log_loss(validation[1], guess, labels=classes)) for guess in (frequencies, predicted))
    return constant, linear

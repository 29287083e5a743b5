"""Penalized linear models by scikit-learn and by SciPy, and their objectives by formula."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxopt_study.backends.numpy.runtime import Array

__all__ = [
    "Answer",
    "logistic_gradient",
    "logistic_hessian",
    "logistic_objective",
    "scikit_learn",
    "softmax_objective",
    "trust_exact",
]

Batch = tuple[Array, Array]


class Answer(NamedTuple):
    """The end of a run: the parameters as one vector, the bias first, then the kernel; and the iterations reported."""

    x: Array
    iterations: int


def softmax_objective(x: Array, batch: Batch, penalty: float) -> float:
    """Return the mean cross-entropy of a linear layer plus penalty / 2 |kernel|^2; the bias stands first in x."""
    inputs, targets = batch
    classes = x.size // (inputs.shape[1] + 1)
    bias, kernel = x[:classes], x[classes:].reshape(-1, classes)
    logits = inputs @ kernel + bias
    logits = logits - logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(targets)), targets]
    return float(losses.mean() + penalty / 2 * (kernel**2).sum())


def logistic_objective(x: Array, batch: Batch, penalty: float) -> float:
    """Return the mean binary cross-entropy of one output plus penalty / 2 |kernel|^2; the bias stands first in x."""
    inputs, targets = batch
    logits = inputs @ x[1:] + x[0]
    return float(np.logaddexp(0, (1 - 2 * targets) * logits).mean() + penalty / 2 * (x[1:] ** 2).sum())


def logistic_gradient(x: Array, batch: Batch, penalty: float) -> Array:
    """Return the gradient of `logistic_objective`: the mean of (p - y) (1, x), and the penalty's."""
    rows, probability = _rows_and_probability(x, batch)
    return rows.T @ (probability - batch[1]) / len(rows) + penalty * _penalized(x)


def logistic_hessian(x: Array, batch: Batch, penalty: float) -> Array:
    """Return the Hessian of `logistic_objective`: the mean of p (1 - p) (1, x) (1, x)', and the penalty's."""
    rows, p = _rows_and_probability(x, batch)
    return rows.T @ ((p * (1 - p) / len(rows))[:, None] * rows) + penalty * np.diag(_penalized(np.ones_like(x)))


def _rows_and_probability(x: Array, batch: Batch) -> Batch:
    rows = np.concatenate([np.ones((len(batch[0]), 1)), batch[0]], axis=1)
    return rows, np.exp(-np.logaddexp(0, -rows @ x))


def _penalized(x: Array) -> Array:
    """Return x without the bias, which stands first."""
    return np.concatenate([[0.0], x[1:]])


def scikit_learn(batch: Batch, penalty: float, solver: str, tolerance: float, max_iterations: int) -> Answer:
    """Minimize by `sklearn.linear_model.LogisticRegression`; its C is 1 / (rows x penalty)."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    inputs, targets = batch
    model = LogisticRegression(C=1 / (len(inputs) * penalty), tol=tolerance, solver=solver, max_iter=max_iterations)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of iterations says it
        model.fit(inputs, targets)
    return Answer(np.concatenate([model.intercept_, model.coef_.T.ravel()]), int(np.max(model.n_iter_)))


def trust_exact(batch: Batch, penalty: float, tolerance: float, max_iterations: int) -> Answer:
    """Minimize the logistic objective by `scipy.optimize.minimize(method="trust-exact")`, from 0."""
    from scipy.optimize import minimize

    options = {"gtol": tolerance, "maxiter": max_iterations}
    found = minimize(
        logistic_objective,
        np.zeros(batch[0].shape[1] + 1),
        (batch, penalty),
        method="trust-exact",
        jac=logistic_gradient,
        hess=logistic_hessian,
        options=options,
    )
    return Answer(found.x, int(found.nit))

"""What scikit-learn and SciPy make of penalized linear models, and their objective by formula."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Answer", "logistic_objective", "scikit_learn", "softmax_objective", "trust_exact"]

Array = npt.NDArray[Any]
Batch = tuple[Array, Array]


class Answer(NamedTuple):
    """Where a baseline ended: in flax's layout as one vector, the bias first, and how many iterations it reports."""

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


def scikit_learn(batch: Batch, penalty: float, solver: str, tolerance: float, max_iterations: int) -> Answer:
    """Minimize by `sklearn.linear_model.LogisticRegression`; its C is 1 / (rows x penalty)."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    inputs, targets = batch
    model = LogisticRegression(C=1 / (len(inputs) * penalty), tol=tolerance, solver=solver, max_iter=max_iterations)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the iterations say it
        model.fit(inputs, targets)
    return Answer(np.concatenate([model.intercept_, model.coef_.T.ravel()]), int(np.max(model.n_iter_)))


def trust_exact(
    objective: Callable[[Array], tuple[float, Array]], hessian: Callable[[Array], Array], x0: Array, tolerance: float
) -> Answer:
    """Minimize by `scipy.optimize.minimize(method="trust-exact")`; objective(x) is (value, gradient)."""
    from scipy.optimize import minimize

    found = minimize(objective, x0, jac=True, hess=hessian, method="trust-exact", options={"gtol": tolerance})
    return Answer(found.x, int(found.nit))

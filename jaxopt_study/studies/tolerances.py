"""How far two values may differ: each bound stands beside the worst distance measured, and is about ten times that.

They were measured on `PINNED_WORKLOAD` at `PINNED_LEARNING_RATE`. An optimizer's bounds are in its row of `registry`.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxopt_study.bench.case import Plan

PINNED_WORKLOAD = "digits-linear"
PINNED_LEARNING_RATE = 1e-3


def notebooks(plan: Plan) -> bool:
    """Return whether a plan trains on the notebook's data, one row per step as there."""
    return (plan.workload, plan.batch_size) == (PINNED_WORKLOAD, 1)


def pinned(plan: Plan) -> bool:
    """Return whether the bounds were measured on what a plan trains."""
    return notebooks(plan) and plan.learning_rate == PINNED_LEARNING_RATE


@dataclass(frozen=True)
class Bound:
    """A bound and the measurement that it was set by."""

    bound: float
    measured: float


@dataclass(frozen=True)
class TrainingBounds:
    """Bounds on two runs of 15 epochs: relative for each epoch's mean loss, absolute for parameters."""

    loss: Bound
    params: Bound


@dataclass(frozen=True)
class NewtonStepBounds:
    """Matrices relative to the closed form's largest entry; solutions by their backward error."""

    matrix: Bound
    solution: Bound


# The losses of the first ten steps, relative to the largest of them: a row that is classified well has a loss near 0,
# whose own digits say nothing.
BEGINNING: dict[str, Bound] = {"float64": Bound(4e-15, 4.0e-16), "float32": Bound(8e-6, 7.9e-7)}

# All losses of the growth curves' networks from training by formula in float64, relative to the largest; Adam, at most
# 256 steps.
GROWTH: dict[str, Bound] = {"float64": Bound(5e-15, 5.8e-16), "float32": Bound(4e-5, 4.1e-6)}

# The distance of H v from central differences of the gradient in float64, whose own error is most of it in float64.
PRODUCTS: dict[str, Bound] = {"float64": Bound(8e-8, 8.5e-9), "float32": Bound(1e-5, 1.4e-6)}

# The worst method's distance from the closed form in float64, relative to its largest entry, over the same seeds.
HESSIAN: dict[str, Bound] = {"float64": Bound(2e-14, 2.7e-15), "float32": Bound(1e-5, 1.1e-6)}

# Optimal values of the methods that converged, with penalty 1e-3, absolute. The bound in float64 is what the study
# promises, not ten times what was measured: runs stop at a gradient of 1e-10. In float32 they stop at 1e-5, and the
# worst is Newton with a Hessian by automatic differentiation, which is singular.
NEWTON: dict[str, Bound] = {"float64": Bound(1e-10, 2.8e-17), "float32": Bound(5e-4, 5.3e-5)}

# Each entry of each iterate of exact Newton, absolute; in float64 again what is promised.
NEWTON_PATH: dict[tuple[str, str], Bound] = {
    ("float64", "digits-linear"): Bound(1e-9, 6.0e-12),
    ("float64", "breast-cancer-raw"): Bound(1e-9, 4.1e-11),
    ("float64", "breast-cancer-standardized"): Bound(1e-9, 3.9e-13),
    ("float32", "digits-linear"): Bound(1e-2, 1.3e-3),
    ("float32", "breast-cancer-raw"): Bound(9e-2, 8.7e-3),
    ("float32", "breast-cancer-standardized"): Bound(1.5e-3, 1.5e-4),
}

# The objective at the first marks of first-order methods in the race, relative: the worst are RMSprop and Adam row by
# row, on one processor.
DESCENT: dict[str, Bound] = {"float64": Bound(3e-10, 3.0e-11), "float32": Bound(4e-4, 3.5e-5)}

# Values of a hundred logistic regressions; that in float64 is promised, and in float32 runs stop at 1e-5.
REGRESSIONS: dict[str, Bound] = {"float64": Bound(1e-10, 4.6e-16), "float32": Bound(1e-6, 9.1e-8)}

# Parts of a damped Newton step on digits, over seeds 0 to 2.
NEWTON_STEP: dict[str, NewtonStepBounds] = {
    "float64": NewtonStepBounds(matrix=Bound(2e-14, 2.0e-15), solution=Bound(1e-16, 1.0e-17)),
    "float32": NewtonStepBounds(matrix=Bound(7e-6, 7.0e-7), solution=Bound(5e-8, 4.6e-9)),
}

# One epoch of Adam at learning rate 1e-3, from an epoch in NumPy in float64 and from each other, over seeds 0 to 4.
ADAM_EPOCH: dict[str, TrainingBounds] = {
    "float64": TrainingBounds(loss=Bound(2e-15, 2.0e-16), params=Bound(2e-15, 1.9e-16)),
    "float32": TrainingBounds(loss=Bound(4.5e-5, 4.5e-6), params=Bound(1.4e-5, 1.4e-6)),
}

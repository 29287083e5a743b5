"""The steps around the first difference: the updates of both trainings there, and how they relate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from jaxopt_study.parity.trees import Leaves

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Window:
    """The steps around the first difference of two trainings.

    Attributes:
        step: The step of the first difference; 0 is the initial parameters.
        leaves: The leaves that differ there.
        before: Pairs of trees up to that step; the last is the step itself.
        after: Pairs of trees of the steps that follow.
        distances: The largest difference at each step up to this one.
    """

    step: int
    leaves: Sequence[str]
    before: Sequence[tuple[Leaves, Leaves]]
    after: Sequence[tuple[Leaves, Leaves]]
    distances: Vector

    @cached_property
    def updates(self) -> list[tuple[Vector, Vector]]:
        """The updates of both trainings in the leaves that differ, step by step; see `now`."""
        pairs = [*self.before, *self.after]
        vectors = [(self._vector(first), self._vector(second)) for first, second in pairs]
        return [(a1 - a0, b1 - b0) for (a0, b0), (a1, b1) in pairwise(vectors)]

    @property
    def now(self) -> int:
        """The place in `updates` of the first that differ."""
        return len(self.before) - 2

    @property
    def params(self) -> Vector:
        """The parameters that both trainings had before the step."""
        return self._vector(self.before[-2][0])

    def _vector(self, tree: Leaves) -> Vector:
        return np.concatenate([tree[name].astype(float).ravel() for name in self.leaves])


def factor(a: Vector, b: Vector) -> tuple[float, float]:
    """Return the number c for which c * a is nearest to b, and the distance that remains, relative to b."""
    size = float(a @ a)
    c = float(a @ b) / size if size else 0.0
    return c, float(np.linalg.norm(b - c * a) / max(np.linalg.norm(b), np.finfo(float).tiny))


def shrinkage(window: Window) -> tuple[float, float]:
    """Return the fraction of the differences that is one multiple of the parameters, and that multiple."""
    a, b = window.updates[window.now]
    params = window.params
    nonzero = np.abs(params) > 1e-3 * np.abs(params).max(initial=0)
    if nonzero.sum() < 3:
        return 0.0, 0.0
    rates = ((b - a)[nonzero]) / params[nonzero]
    rate = float(np.median(rates))
    near = np.abs(rates - rate) <= 0.02 * abs(rate)
    return (float(near.mean()), rate) if rate else (0.0, 0.0)


def rank_correlation(x: Vector, y: Vector) -> float:
    """Return how nearly `y` rises or falls with `x`: 1, -1, or 0 where they have nothing to do with each other."""
    ranks = np.array([np.argsort(np.argsort(v)) for v in (x, y)], dtype=float)
    return float(np.corrcoef(ranks)[0, 1])


def cosine(a: Vector, b: Vector) -> float:
    """Return the cosine of the angle between two updates."""
    return float(a @ b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), np.finfo(float).tiny)

"""The steps around the first difference: the updates of both trainings there, and how they relate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from jaxopt_study.parity.trees import Leaves

Vector = npt.NDArray[np.float64]

CLOSE = 0.02
"""A rule explains a difference if it leaves at most this fraction of it."""

LOOSE = 0.3
"""The same, a step later, when the parameters differ and with them the gradients; and what a rival must leave."""

ENOUGH = 5
"""With fewer elements, many a rule explains a difference by chance."""


@dataclass(frozen=True)
class Window:
    """The steps around the first difference of two trainings.

    Attributes:
        step: The step of the first difference; 0 is the initial parameters.
        leaves: The leaves that differ there, and tell something.
        before: Pairs of trees up to that step; the last is the step itself.
        after: Pairs of trees of the steps that follow.
        allowed: The distance that rounding explains in each leaf.
        others: The same, of the leaves that agree; whole numbers are not among them.
    """

    step: int
    leaves: Sequence[str]
    before: Sequence[tuple[Leaves, Leaves]]
    after: Sequence[tuple[Leaves, Leaves]]
    allowed: Mapping[str, float] = field(default_factory=dict)
    others: Mapping[str, float] = field(default_factory=dict)

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
    def later(self) -> list[tuple[Vector, Vector]]:
        """The updates of the first step that differs and of those after it."""
        return self.updates[self.now :]

    @property
    def params(self) -> Vector:
        """The parameters that both trainings had before the step."""
        return self._vector(self.before[-2][0])

    @property
    def partial(self) -> bool:
        """Whether other leaves agree."""
        return bool(self.others)

    @property
    def reached(self) -> tuple[Vector, Vector]:
        """The parameters of both trainings after the step."""
        first, second = self.before[-1]
        return self._vector(first), self._vector(second)

    @cached_property
    def noise(self) -> float:
        """The usual size of rounding in the difference of two updates: a sixteenth of what is allowed at most."""
        sizes = [self.allowed.get(name, 0.0) / 16 * self.before[-1][0][name].size ** 0.5 for name in self.leaves]
        return float(np.linalg.norm(sizes))

    @property
    def clear(self) -> bool:
        """Whether the difference is so far above rounding, in so many elements, that its form can be told."""
        a, b = self.updates[self.now]
        return int(np.count_nonzero(a - b)) >= ENOUGH and float(np.linalg.norm(b - a)) >= 4 * self.noise

    def rest(self, left: Vector, late: int = 0) -> float:
        """Return what a rule leaves of the difference, as a fraction of it; 0 where that is rounding."""
        a, b = self.later[late]
        size = float(np.linalg.norm(left))
        return 0.0 if size <= self.noise else size / max(float(np.linalg.norm(b - a)), np.finfo(float).tiny)

    def fit(self, term: Vector, late: int = 0) -> tuple[float, float]:
        """Return the multiple of `term` by which the updates differ, and what that leaves of the difference."""
        a, b = self.later[late]
        c, _ = factor(term, b - a)
        return c, self.rest(b - a - c * term, late)

    def contradicting(self, expected: Callable[[Vector], Vector]) -> list[str]:
        """Return the other leaves in which a rule for all leaves would show, and which agree.

        Args:
            expected: What the rule makes the two updates of a leaf differ by, from the first's.
        """
        (old, _), (new, _) = self.before[-2:]
        updates = {name: (new[name].astype(float) - old[name]).ravel() for name in self.others}
        shown = {name: float(np.abs(expected(update)).max(initial=0)) for name, update in updates.items()}
        return [name for name, size in shown.items() if size > 4 * self.others[name]]

    def _vector(self, tree: Leaves) -> Vector:
        return np.concatenate([tree[name].astype(float).ravel() for name in self.leaves])


def factor(a: Vector, b: Vector) -> tuple[float, float]:
    """Return the number c for which c * a is nearest to b, and the distance that remains, relative to b."""
    size = float(a @ a)
    c = float(a @ b) / size if size else 0.0
    return c, float(np.linalg.norm(b - c * a) / max(np.linalg.norm(b), np.finfo(float).tiny))


def rank_correlation(x: Vector, y: Vector) -> float:
    """Return how nearly `y` rises or falls with `x`: 1, -1, or 0 where they have nothing to do with each other."""
    ranks = np.array([np.argsort(np.argsort(v)) for v in (x, y)], dtype=float)
    return float(np.corrcoef(ranks)[0, 1])


def cosine(a: Vector, b: Vector) -> float:
    """Return the cosine of the angle between two updates."""
    return float(a @ b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), np.finfo(float).tiny)


def sources(leaves: Sequence[str], pairs: Sequence[tuple[Leaves, Leaves]]) -> list[str]:
    """Return the leaves without those that are running means of others among them, as an EMA of the weights is.

    Args:
        leaves: The leaves that differ.
        pairs: The trees before and after some steps.
    """
    return [name for name in leaves if not any(mean_of(name, other, pairs) for other in leaves if other != name)]


def mean_of(name: str, other: str, pairs: Sequence[tuple[Leaves, Leaves]]) -> tuple[float, float] | None:
    """Return by which fraction of the way to another leaf's new value a leaf moves, in both trainings, or None."""
    if len(pairs) < 3 or pairs[0][0][name].shape != pairs[0][0][other].shape or pairs[0][0][name].size < 2:
        return None
    found, rests = [], []
    for i in (0, 1):
        steps = [(x[i][name].astype(float), y[i][name].astype(float), y[i][other]) for x, y in pairwise(pairs)]
        moved = np.concatenate([(new - old).ravel() for old, new, _ in steps])
        way = np.concatenate([(target - old).ravel() for old, _, target in steps])
        c, rest = factor(way, moved)
        found.append(c)
        rests.append(rest)
    # A mean that moves by a thousandth of the way is mostly rounding, in float32; the other training's is clear then.
    if min(rests) > 1e-2 or max(rests) > 0.2 or not all(0 < c < 0.9 for c in found):
        return None
    return found[0], found[1]

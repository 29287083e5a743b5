"""How a leaf of a recorded quantity differs in two trainings."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxopt_study.parity.quantities import BATCH
from jaxopt_study.parity.trees import ACTIVATIONS, Leaf, Leaves, distance


class Agreement(NamedTuple):
    """How a leaf of a quantity differs in two trainings.

    Attributes:
        distance: The largest distance of its elements.
        largest: Its largest element.
        factor: The multiple of the first that is nearest to the second.
        rest: What that leaves, relative to the second.
        norms: The norms in both trainings.
        peaks: The largest elements in both trainings.
        place: The element with the largest distance.
        values: Its values in both trainings.
    """

    distance: float
    largest: float
    factor: float
    rest: float
    norms: tuple[float, float]
    peaks: tuple[float, float]
    place: tuple[int, ...] = ()
    values: tuple[float, float] = (0.0, 0.0)


def agreements(quantity: str, first: Leaves, second: Leaves) -> dict[str, Agreement]:
    """Return how the leaves of a quantity differ that both trainings recorded, and that can be compared."""
    # JAX sorts the names in a dictionary; what is not sorted has an order of its own, that of the forward pass.
    order = second if list(first) == sorted(first) else first
    names = [name for name in order if name in first and name in second]
    if quantity != BATCH:  # a batch of another size is other data
        names = [name for name in names if first[name].shape == second[name].shape]
    found = {name: _agreement(first[name], second[name], quantity) for name in names}
    return {name: each for name, each in found.items() if each is not None}


def _agreement(first: Leaf, second: Leaf, quantity: str) -> Agreement | None:
    a, b = first.astype(float).ravel(), second.astype(float).ravel()
    if a.shape != b.shape:
        return Agreement(np.inf, np.inf, 0.0, 1.0, (_norm(a), _norm(b)), (_peak(a), _peak(b)))
    if quantity in (BATCH, ACTIVATIONS):
        # Rows that a batch has not are NaN there: see `also`.
        missing = np.isnan(a) | np.isnan(b)
        a, b = np.where(missing, 0, a), np.where(missing, 0, b)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return None
    square, size = float(a @ a), _norm(b)
    factor = float(a @ b) / square if square else 0.0
    rest = _norm(b - factor * a) / size if size else 1.0
    apart, peaks = distance(a, b), (_peak(a), _peak(b))
    if not apart.size:
        return None
    most = int(apart.argmax())
    place = tuple(int(i) for i in np.unravel_index(most, first.shape))
    values = float(a[most]), float(b[most])
    return Agreement(float(apart[most]), max(peaks), factor, rest, (_norm(a), size), peaks, place, values)


def _norm(x: Leaf) -> float:
    return float(np.linalg.norm(x))


def _peak(x: Leaf) -> float:
    return float(np.abs(x).max(initial=0))

"""How a leaf of a recorded quantity differs in two trainings."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxopt_study.parity.quantities import BATCH
from jaxopt_study.parity.rounding import peak
from jaxopt_study.parity.trees import ACTIVATIONS, Leaf, Leaves, distance
from jaxopt_study.parity.window import factor


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
        return Agreement(np.inf, np.inf, 0.0, 1.0, (_norm(a), _norm(b)), (peak(a), peak(b)))
    if quantity in (BATCH, ACTIVATIONS):
        # Rows that a batch has not are NaN there: see `also`.
        missing = np.isnan(a) | np.isnan(b)
        a, b = np.where(missing, 0, a), np.where(missing, 0, b)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return None
    c, rest = factor(a, b)
    apart, norms, peaks = distance(a, b), (_norm(a), _norm(b)), (peak(a), peak(b))
    if not apart.size:
        return None
    most = int(apart.argmax())
    place = tuple(int(i) for i in np.unravel_index(most, first.shape))
    values = float(a[most]), float(b[most])
    # No multiple of the first is 0, but for 0 times it.
    return Agreement(float(apart[most]), max(peaks), c, rest if norms[1] else 1.0, norms, peaks, place, values)


def _norm(x: Leaf) -> float:
    return float(np.linalg.norm(x))

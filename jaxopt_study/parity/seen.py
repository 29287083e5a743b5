"""What two trainings recorded beside their parameters, step by step: how the quantities differ, and samples of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxopt_study.parity.difference import Difference
from jaxopt_study.parity.fitting import Leaf as Recorded
from jaxopt_study.parity.quantities import BATCH, CLIPPED, GRADIENTS, LOSS, QUANTITIES, RATE
from jaxopt_study.parity.rounding import FLOAT32, held_precision, precision
from jaxopt_study.parity.trees import Leaf, Leaves, distance

Extras = dict[str, Leaves]

SAMPLES = 24
"""So many elements of a leaf are kept, of each step."""

MOST_STEPS = 4096
"""So many steps are kept."""

UNITS = 64
"""Units in the last place, of the largest number, to which two right trainings compute a quantity from equal
parameters. 5 were measured of gradients, 3 of losses."""

SENSITIVITY = 8
"""By so many times the relative distance of the parameters a quantity may differ; 1.0 was measured."""


FAINT = 2048
"""A gradient that rounding changes by so many units in its last place is rounding to rules such as Adam's."""

NO_EFFECT = 1e-5
"""A leaf whose gradient is less than this fraction of the largest one has no effect on the other leaves."""


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


class Seen:
    """The quantities that both trainings recorded, of the steps so far.

    Attributes:
        steps: One for each step from 1 on: how each leaf of each quantity differs.
        rates: The learning rates of each step.
        batches: The digests of the batches of each step, by leaf.
        losses: The losses of each step.
        faint: The elements of the parameters of which a gradient was rounding in one of the steps.
    """

    def __init__(self) -> None:
        self.steps: list[dict[str, dict[str, Agreement]]] = []
        self.rates: list[tuple[float, float]] = []
        self.batches: list[tuple[Leaves, Leaves]] = []
        self.losses: list[tuple[float, float]] = []
        self.faint: dict[str, Leaf] = {}
        self._params: list[tuple[Leaves, Leaves]] = []
        self._gradients: list[tuple[Leaves, Leaves]] = []
        self._unit = 0.0
        self._allowed: list[dict[str, float]] = []
        self._largest: dict[str, float] = {}
        self._apart: list[float] = []

    def add(self, params: tuple[Leaves, Leaves], extras: tuple[Extras, Extras]) -> None:
        """Take the next step; the first one is the initial parameters."""
        if len(self._params) > MOST_STEPS:
            return
        both = {
            name: (extras[0][name], extras[1][name]) for name in QUANTITIES if name in extras[0] and name in extras[1]
        }
        if self._params:
            agreements = {name: _agreements(*pair) for name, pair in both.items()}
            self._unit = max(self._unit, *(held_precision(leaves) for leaves in both.get(GRADIENTS, ({}, {}))))
            self.steps.append(agreements)
            self._allowed.append({name: self._allowance(name, leaves) for name, leaves in agreements.items()})
            self._keep(both)
            self._mark_faint(both)
        else:
            self._unit = max(precision(*(leaf.dtype for tree in params for leaf in tree.values())), 0.0)
        self._apart.append(_apart(*params, _without_effect(both)))
        self._params.append((_samples(params[0]), _samples(params[1])))

    def _keep(self, both: dict[str, tuple[Leaves, Leaves]]) -> None:
        given = both.get(CLIPPED, both.get(GRADIENTS))
        if given:
            self._gradients.append((_samples(given[0]), _samples(given[1])))
        if RATE in both:
            first, second = (float(next(iter(leaves.values())).ravel()[0]) for leaves in both[RATE])
            self.rates.append((first, second))
        if LOSS in both:
            first, second = (float(next(iter(leaves.values())).ravel()[0]) for leaves in both[LOSS])
            self.losses.append((first, second))
        if BATCH in both:
            self.batches.append(both[BATCH])

    def _mark_faint(self, both: dict[str, tuple[Leaves, Leaves]]) -> None:
        for name, leaf in both.get(GRADIENTS, ({}, {}))[0].items():
            other = both[GRADIENTS][1].get(name)
            if other is not None and other.shape == leaf.shape:
                apart = distance(leaf, other)
                faint = (apart <= self._allowed[-1][GRADIENTS]) & (apart > FAINT * self._unit * np.abs(leaf))
                self.faint[name] = self.faint[name] | faint if name in self.faint else faint

    def differing(self, step: int) -> tuple[str, list[str]] | None:
        """Return the first quantity that differs at a step by more than rounding, and its leaves; or None."""
        if not 1 <= step <= len(self.steps):
            return None
        for quantity, leaves in self.steps[step - 1].items():
            names = [name for name, each in leaves.items() if each.distance > self._allowed[step - 1][quantity]]
            if names:
                return quantity, names
        return None

    def other_gradients(self, step: int) -> tuple[Difference, tuple[str, ...], float] | None:
        """Return the largest difference of the gradients, where it is more than rounding; its leaves; what is allowed.

        The other quantities may differ in what has no effect: the order of the rows, a loss that is only logged.
        """
        if not 1 <= step <= len(self.steps):
            return None
        for quantity in (GRADIENTS, CLIPPED):
            leaves, allowed = self.steps[step - 1].get(quantity, {}), self._allowed[step - 1].get(quantity, 0.0)
            names = [name for name, each in leaves.items() if each.distance > allowed]
            if names:
                most = max(names, key=lambda name: leaves[name].distance)
                place = Difference(step, f"{quantity}/{most}", leaves[most].place, *leaves[most].values)
                return place, tuple(f"{quantity}/{name}" for name in names), allowed
        return None

    def told(self, step: int) -> set[str]:
        """Return the leaves of which the gradients of a step were recorded."""
        return set(self.steps[step - 1].get(GRADIENTS, {})) if 1 <= step <= len(self.steps) else set()

    def _allowance(self, quantity: str, leaves: dict[str, Agreement]) -> float:
        """Return the distance of the next step's quantity that rounding explains."""
        largest = max((each.largest for each in leaves.values() if np.isfinite(each.largest)), default=0.0)
        if quantity == RATE:  # computed in float32 by optax
            return 4 * FLOAT32 * largest
        if quantity == BATCH:
            return UNITS * self._unit * largest
        # Near a minimum gradients are small, and differ by what the curvature makes of the parameters' distance.
        self._largest[quantity] = largest = max(largest, self._largest.get(quantity, 0.0))
        return (UNITS * self._unit + SENSITIVITY * self._apart[-1]) * largest

    def recorded(self, which: int) -> dict[str, Recorded] | None:
        """Return the parameters and gradients of one training, or None where it has no gradients of each step."""
        steps = len(self._gradients)
        if not steps or steps < len(self.steps):
            return None
        found = {}
        for name in self._gradients[0][which]:
            if name not in self._params[0][which]:
                return None
            params = np.array([pair[which][name] for pair in self._params[: steps + 1]])
            gradients = np.array([pair[which][name] for pair in self._gradients])
            found[name] = Recorded(params, gradients, self._unit)
        return found


def _agreements(first: Leaves, second: Leaves) -> dict[str, Agreement]:
    # JAX sorts the names in a dictionary; what is not sorted has an order of its own, that of the forward pass.
    order = second if list(first) == sorted(first) else first
    return {name: _agreement(first[name], second[name]) for name in order if name in first and name in second}


def _agreement(first: Leaf, second: Leaf) -> Agreement:
    a, b = first.astype(float).ravel(), second.astype(float).ravel()
    if first.shape != second.shape:
        return Agreement(np.inf, np.inf, 0.0, 1.0, (_norm(a), _norm(b)), (_peak(a), _peak(b)))
    square = float(a @ a)
    factor = float(a @ b) / square if square else 0.0
    size = _norm(b)
    rest = _norm(b - factor * a) / size if size else 1.0
    peaks = _peak(a), _peak(b)
    apart = distance(a, b)
    most = int(apart.argmax()) if apart.size else 0
    index = tuple(int(i) for i in np.unravel_index(most, first.shape)) if apart.size else ()
    values = (float(a[most]), float(b[most])) if apart.size else (0.0, 0.0)
    return Agreement(float(apart.max(initial=0)), max(peaks), factor, rest, (_norm(a), size), peaks, index, values)


def _norm(x: Leaf) -> float:
    return float(np.linalg.norm(x))


def _peak(x: Leaf) -> float:
    return float(np.abs(x).max(initial=0))


def _samples(leaves: Leaves) -> Leaves:
    found = {}
    for name, leaf in leaves.items():
        flat = leaf.ravel()
        at = np.linspace(0, flat.size - 1, SAMPLES).astype(int) if flat.size > SAMPLES else slice(None)
        found[name] = flat[at].astype(float)
    return found


def _without_effect(both: dict[str, tuple[Leaves, Leaves]]) -> set[str]:
    """Return the leaves whose gradient is rounding, as that of a bias before a normalization: they may be anywhere."""
    peaks = {name: _peak(leaf) for name, leaf in both.get(GRADIENTS, ({}, {}))[0].items()}
    largest = max(peaks.values(), default=0.0)
    return {name for name, peak in peaks.items() if peak < NO_EFFECT * largest}


def _apart(first: Leaves, second: Leaves, without: set[str]) -> float:
    """Return the largest distance of the parameters, relative to the size of their leaf."""
    found = [0.0]
    for name, leaf in first.items():
        if leaf.dtype.kind not in "iub" and name not in without:
            largest = max(_peak(leaf.astype(float)), _peak(second[name].astype(float)))
            found.append(float(distance(leaf, second[name]).max(initial=0)) / largest if largest else 0.0)
    return max(found)

"""What two trainings recorded beside their parameters, step by step: how the quantities differ, and samples of them."""

from __future__ import annotations

import numpy as np

from jaxopt_study.parity.agreement import Agreement, agreements
from jaxopt_study.parity.difference import Difference
from jaxopt_study.parity.fitting import Leaf as Recorded
from jaxopt_study.parity.quantities import BATCH, CLIPPED, GRADIENTS, LOSS, QUANTITIES, RATE
from jaxopt_study.parity.rounding import FLOAT32, held_precision, peak, precision
from jaxopt_study.parity.trees import Leaf, Leaves, copied, distance

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


class Seen:
    """The quantities that both trainings recorded, of the steps so far.

    Attributes:
        steps: One for each step from 1 on: how each leaf of each quantity differs.
        losses: The losses of the steps that have them.
        rates: The learning rates of the steps that have them.
        batches: The digests of the batches of the steps that have them.
        faint: The elements of the parameters of which a gradient was rounding in one of the steps.
    """

    def __init__(self) -> None:
        self.steps: list[dict[str, dict[str, Agreement]]] = []
        self.losses: dict[int, tuple[float, float]] = {}
        self.rates: dict[int, tuple[float, float]] = {}
        self.batches: dict[int, tuple[Leaves, Leaves]] = {}
        self.faint: dict[str, Leaf] = {}
        self._params: list[tuple[Leaves, Leaves]] = []
        self._gradients: list[tuple[Leaves, Leaves]] = []
        self._start: tuple[Leaves, Leaves] | None = None
        self._sampled: dict[str, Leaf] = {}
        self._unit = 0.0
        self._allowed: list[dict[str, float]] = []
        self._largest: dict[str, float] = {}
        self._apart: list[float] = []

    def add(self, params: tuple[Leaves, Leaves], extras: tuple[Extras, Extras]) -> None:
        """Take the next step; the first one is the initial parameters."""
        if len(self.steps) >= MOST_STEPS:
            return
        both = {name: (extras[0][name], extras[1][name]) for name in QUANTITIES if all(name in e for e in extras)}
        if self._start is None:
            self._unit = precision(*(leaf.dtype for tree in params for leaf in tree.values()))
            self._start = copied(params[0]), copied(params[1])
        else:
            self._add_step(both)
            self._sample(params, both)
        # Without other quantities this is never asked for, and it takes as long as the comparison itself.
        needed = both or not self.steps
        self._apart.append(_apart(*params, _without_effect(both)) if needed else 0.0)

    def _add_step(self, both: dict[str, tuple[Leaves, Leaves]]) -> None:
        self._unit = max(self._unit, *(held_precision(leaves) for leaves in both.get(GRADIENTS, ({}, {}))))
        found = {name: agreements(name, *pair) for name, pair in both.items()}
        found = {name: leaves for name, leaves in found.items() if leaves}
        self.steps.append(found)
        self._allowed.append({name: self._allowance(name, leaves) for name, leaves in found.items()})
        step = len(self.steps)
        for quantity, kept in ((LOSS, self.losses), (RATE, self.rates)):
            if quantity in found:
                kept[step] = _mean(both[quantity][0]), _mean(both[quantity][1])
        if BATCH in found:
            self.batches[step] = both[BATCH]
        if GRADIENTS in found:
            self._mark_faint(*both[GRADIENTS])

    def _sample(self, params: tuple[Leaves, Leaves], both: dict[str, tuple[Leaves, Leaves]]) -> None:
        """Keep some elements of the parameters and of the gradients that the optimizers were given."""
        given = both.get(CLIPPED, both.get(GRADIENTS))
        if not given or len(self._gradients) < len(self.steps) - 1:
            self._start = {}, {}
            return  # a step without gradients tells nothing, nor do those after it
        if not self._gradients and self._start is not None:
            self._sampled = {name: _elements(leaf) for name, leaf in given[0].items() if name in self._start[0]}
            self._params.append((self._some(self._start[0]), self._some(self._start[1])))
            self._start = {}, {}
        self._params.append((self._some(params[0]), self._some(params[1])))
        self._gradients.append((self._some(given[0]), self._some(given[1])))

    def _some(self, leaves: Leaves) -> Leaves:
        return {name: leaves[name].ravel()[at].astype(float) for name, at in self._sampled.items() if name in leaves}

    def _mark_faint(self, first: Leaves, second: Leaves) -> None:
        """Mark the elements of which two right trainings have another gradient, if only by rounding."""
        largest = max((peak(leaf) for leaf in first.values()), default=0.0)
        for name, leaf in first.items():
            if name in second and second[name].shape == leaf.shape:
                apart = distance(leaf, second[name])
                # Not more than what rounding makes of equal parameters: later, all elements differ by more.
                faint = (apart <= UNITS * self._unit * largest) & (apart > FAINT * self._unit * np.abs(leaf))
                self.faint[name] = self.faint[name] | faint if name in self.faint else faint

    def differing(self, step: int) -> tuple[str, list[str]] | None:
        """Return the first quantity that differs at a step by more than rounding, and its leaves; or None.

        Where the gradients agree, what comes before them has no effect: rows in another order, padding, a loss that is
        only logged.
        """
        found = {quantity: names for quantity in QUANTITIES if (names := self._beyond(quantity, step))}
        if GRADIENTS not in found and self.told(step):
            found = {quantity: names for quantity, names in found.items() if quantity in (CLIPPED, RATE)}
        return next(iter(found.items()), None)

    def _beyond(self, quantity: str, step: int) -> list[str]:
        if not 1 <= step <= len(self.steps) or quantity not in self.steps[step - 1]:
            return []
        allowed = self._allowed[step - 1][quantity]
        return [name for name, each in self.steps[step - 1][quantity].items() if each.distance > allowed]

    def other_gradients(self, step: int) -> tuple[Difference, tuple[str, ...], float] | None:
        """Return the largest difference of the gradients beyond rounding, its leaves, and what is allowed; or None."""
        for quantity in (GRADIENTS, CLIPPED):
            if names := self._beyond(quantity, step):
                leaves = self.steps[step - 1][quantity]
                most = max(names, key=lambda name: leaves[name].distance)
                place = Difference(step, f"{quantity}/{most}", leaves[most].place, *leaves[most].values)
                return place, tuple(f"{quantity}/{name}" for name in names), self._allowed[step - 1][quantity]
        return None

    def told(self, step: int) -> set[str]:
        """Return the leaves of which the gradients of a step were recorded."""
        return set(self.steps[step - 1].get(GRADIENTS, {})) if 1 <= step <= len(self.steps) else set()

    def other_rates(self) -> str:
        """Return a sentence on the recorded learning rates where they differ, although the parameters agree."""
        for step, (a, b) in self.rates.items():
            if self._beyond(RATE, step):
                return f"The recorded learning rates differ from step {step} on: {a:.4g} against {b:.4g}."
        return ""

    def _allowance(self, quantity: str, leaves: dict[str, Agreement]) -> float:
        """Return the distance of the next step's quantity that rounding explains."""
        largest = max((each.largest for each in leaves.values() if np.isfinite(each.largest)), default=0.0)
        if quantity == BATCH:
            return UNITS * self._unit * largest
        # Near a minimum gradients are small, and differ by what the curvature makes of the parameters' distance.
        self._largest[quantity] = largest = max(largest, self._largest.get(quantity, 0.0))
        if quantity == RATE:  # computed in float32 by optax
            return 8 * FLOAT32 * largest
        return (UNITS * self._unit + SENSITIVITY * self._apart[-1]) * largest

    def recorded(self, which: int) -> dict[str, Recorded] | None:
        """Return the parameters and gradients of one training, or None where it has no gradients of each step."""
        if not self._gradients or len(self._gradients) < len(self.steps):
            return None
        found = {}
        for name in self._sampled:
            if not all(name in pair[which] for pair in (*self._params, *self._gradients)):
                return None
            params, gradients = (
                np.array([pair[which][name] for pair in pairs]) for pairs in (self._params, self._gradients)
            )
            if not (np.isfinite(params).all() and np.isfinite(gradients).all()):
                return None
            found[name] = Recorded(params, gradients, self._unit)
        return found or None


def _elements(gradient: Leaf) -> Leaf:
    """Return which elements of a leaf are kept: half of them spread evenly, half those with the largest gradients."""
    flat = np.abs(gradient.ravel().astype(float))
    if flat.size <= SAMPLES:
        return np.arange(flat.size)
    even = np.linspace(0, flat.size - 1, SAMPLES // 2).astype(int)
    rest = np.setdiff1d(np.argsort(-flat, kind="stable")[:SAMPLES], even)[: SAMPLES - len(even)]
    return np.sort(np.concatenate([even, rest]))


def _without_effect(both: dict[str, tuple[Leaves, Leaves]]) -> set[str]:
    """Return the leaves whose gradient is rounding, as that of a bias before a normalization: they may be anywhere."""
    peaks = {name: peak(leaf) for name, leaf in both.get(GRADIENTS, ({}, {}))[0].items()}
    largest = max(peaks.values(), default=0.0)
    return {name for name, size in peaks.items() if size < NO_EFFECT * largest}


def _apart(first: Leaves, second: Leaves, without: set[str]) -> float:
    """Return the largest distance of the parameters, relative to the size of their leaf."""
    found = [0.0]
    for name, leaf in first.items():
        if leaf.dtype.kind not in "iub" and name not in without:
            largest = max(peak(leaf), peak(second[name]))
            found.append(float(distance(leaf, second[name]).max(initial=0)) / largest if largest else 0.0)
    return max(found)


def _mean(leaves: Leaves) -> float:
    return float(np.mean([np.mean(leaf.astype(float)) for leaf in leaves.values()]))

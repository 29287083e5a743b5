"""How well a rule explains the updates that were recorded: learning rates and decays by least squares.

The learning rates, one for each step and leaf, and the decays, one for each leaf, come from least squares. So only the
constants of the direction must be searched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from jaxopt_study.parity.rules import KINDS, TINY, Steps

ROUNDING = 16
"""An update was computed to so many units in its last place; 5 were measured."""

EXPLAINED = 4.0
"""A rule explains updates if it leaves at most so many times their rounding; 1.4 were measured of right rules."""

CLEAR = 16.0
"""A decay is other than another, or none, from so many times its standard error on."""

STEP_OF_DECAY = 1e-6
"""Derivatives by the decay are taken by differences of this size."""


@dataclass(frozen=True)
class Leaf:
    """What one training recorded of a leaf.

    Attributes:
        params: Before the first step and after each; one row more than `gradients`.
        gradients: As the optimizer was given them.
        unit: The relative precision of the numbers.
    """

    params: Steps
    gradients: Steps
    unit: float

    @cached_property
    def updates(self) -> Steps:
        """How each step moved the leaf."""
        return np.diff(self.params, axis=0)

    @cached_property
    def noise(self) -> Steps:
        """The rounding of each update: of the sum of parameter and update, and of the update."""
        return self.unit * (np.abs(self.params[1:]) + ROUNDING * np.abs(self.updates)) + TINY


Leaves = Mapping[str, Leaf]


Decays = Mapping[str, tuple[float, float]]
"""The weight decay of each leaf, and its standard error."""


@dataclass(frozen=True)
class Rule:
    """An optimizer's rule without its learning rates and decays.

    Attributes:
        kind: A name in `KINDS`.
        constants: The values of its constants, by their usual names.
        coupled: Whether the weight decay is added to the gradients, and not to the updates.
        restart: The number of steps after which the state was lost; 0 if it was not.
    """

    kind: str
    constants: Mapping[str, float]
    coupled: bool = False
    restart: int = 0

    def terms(self, leaf: Leaf, decay: float) -> Steps:
        """Return what each update is minus the learning rate times of."""
        decayed = decay * leaf.params[:-1]
        gradients = leaf.gradients + decayed if self.coupled else leaf.gradients
        parts = [part for part in (gradients[: self.restart], gradients[self.restart :]) if len(part)]
        found = np.concatenate([KINDS[self.kind](part, **self.constants) for part in parts])
        return found if self.coupled else found + decayed

    def but(self, **constants: float) -> Rule:
        """Return the same rule with other constants."""
        return replace(self, constants={**self.constants, **constants})


@dataclass(frozen=True)
class Fit:
    """A rule, and what it leaves of the updates of some leaves.

    Attributes:
        rule: The rule.
        rates: The learning rate of each step, by leaf; NaN where the step tells nothing of it.
        decays: The weight decay of each leaf.
        left: What the rule leaves of each step, divided by rounding, in the leaf where that is most.
    """

    rule: Rule
    rates: dict[str, Steps]
    decays: Decays
    left: Steps

    @property
    def excess(self) -> float:
        """The most that the rule leaves of a step, in units of rounding: at most about 1 if it is the rule."""
        return float(self.left.max(initial=0.0))

    @property
    def explains(self) -> bool:
        """Whether the rule leaves rounding alone."""
        return self.excess <= EXPLAINED


def fit(rule: Rule, leaves: Leaves, near: Decays | None = None, given: Decays | None = None) -> Fit:
    """Fit the learning rates and decays of a rule.

    Args:
        rule: The rule.
        leaves: What was recorded.
        near: Where the search for the decays begins.
        given: The decays, where they are not to be fitted.
    """
    rates, decays, left = {}, {}, []
    for name, leaf in leaves.items():
        decays[name] = given[name] if given else _decay(rule, leaf, near[name][0] if near else 0.0)
        rates[name], rest = multiples(leaf, rule.terms(leaf, decays[name][0]))
        freedom = max(rest.shape[1] - 2, 1)
        left.append(np.sqrt(np.sum((rest / leaf.noise) ** 2, axis=1) / freedom))
    return Fit(rule, rates, decays, np.max(left, axis=0))


def multiples(leaf: Leaf, terms: Steps) -> tuple[Steps, Steps]:
    """Return minus the multiple of each step's term that is nearest to the update, and what it leaves."""
    weights = 1 / leaf.noise**2
    size = np.sum(weights * terms**2, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        rates = np.where(size > 0, -np.sum(weights * terms * leaf.updates, axis=1) / size, np.nan)
    return rates, leaf.updates + np.nan_to_num(rates)[:, None] * terms


def _decay(rule: Rule, leaf: Leaf, decay: float) -> tuple[float, float]:
    """Return the one decay that, with a learning rate for each step, leaves the least, and its standard error.

    Method: Gauss-Newton from `decay` on, where the learning rates follow the decay.
    """
    bottom, before = 0.0, np.inf
    for _ in range(12):
        terms = rule.terms(leaf, decay)
        rates, left = multiples(leaf, terms)
        slopes = (rule.terms(leaf, decay + STEP_OF_DECAY) - terms) * (np.nan_to_num(rates) / STEP_OF_DECAY)[:, None]
        weights = 1 / leaf.noise**2
        size = np.sum(weights * terms**2, axis=1) + TINY
        slopes -= terms * (np.sum(weights * slopes * terms, axis=1) / size)[:, None]
        bottom = float(np.sum(weights * slopes**2))
        if bottom <= TINY:
            return decay, np.inf
        change = float(np.sum(weights * slopes * left)) / bottom
        decay -= change
        now = float(np.sum(weights * left**2))
        # The change is less than a tenth of the rounding, or this rule has no such decay.
        if abs(change) * np.sqrt(bottom) < 0.1 or now > 0.9 * before:
            break
        before = now
    error = 1 / np.sqrt(bottom)
    return (decay if abs(decay) > CLEAR * error else 0.0), error

"""In what two optimizers differ, found from the gradients that each was given and the updates that it made."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from jaxopt_study.parity.constants import CANDIDATES, TEST, other_constant
from jaxopt_study.parity.fitting import EXPLAINED, Fit, Leaves, Rule, fit, multiples
from jaxopt_study.parity.patterns import UNKNOWN, Pattern
from jaxopt_study.parity.rates import RATES, Sides, other_decay, other_rate
from jaxopt_study.parity.searching import search

SAME_RULE = "the same rule"
"""One rule, with the same constants, explains the updates of both."""

OTHER_RULE = "another rule"
"""Each training has its own rule, and they differ in more than one constant."""


def change(first: Leaves, second: Leaves) -> Pattern:
    """Return in what two optimizers differ: `UNKNOWN` where no rule tells, `SAME_RULE` where one explains both."""
    still = [name for name in first if bool(np.any(first[name].updates)) != bool(np.any(second[name].updates))]
    if still:
        which = "second" if np.any(first[still[0]].updates) else "first"
        words = f"the {which} training does not move {', '.join(still)}, of which there are gradients"
        return Pattern("a frozen leaf", words)
    # With fewer elements, two numbers explain everything.
    large = [name for name, leaf in first.items() if leaf.updates.shape[1] >= 3 and np.any(leaf.updates)]
    leaves = [{name: side[name] for name in large} for side in (first, second)]
    if not large:
        return Pattern(UNKNOWN, "the gradients agree and the updates do not", CANDIDATES, TEST)
    found = []
    small = [{name: side[name] for name in side if name not in large} for side in (first, second)]
    for known, sides in ((0, ("first", "second")), (1, ("second", "first"))):
        right = search(leaves[known])
        if right is not None:
            found.append(_compared(right, leaves[known], leaves[1 - known], sides))
            if found[-1].name == SAME_RULE and (other := _other_sizes(right.rule, *small)):
                return Pattern(UNKNOWN, other, ("another learning rate or weight decay there",), "compare the groups")
            if found[-1].name not in (UNKNOWN, OTHER_RULE):
                return found[-1]
    words = "the gradients agree and the updates do not; no known rule explains them"
    return found[0] if found else Pattern(UNKNOWN, words, CANDIDATES, TEST)


def _other_sizes(rule: Rule, first: Leaves, second: Leaves) -> str:
    """Return a sentence on leaves of few elements whose updates are not those of the rule in both trainings alike."""
    words = []
    for name, leaf in first.items():
        rates = [multiples(each, rule.terms(each, 0.0))[0] for each in (leaf, second[name])]
        factors = rates[1] / np.where(rates[0], rates[0], np.nan)
        if np.nanmedian(np.abs(factors - 1)) > 10 * RATES:
            words.append(f"{np.nanmedian(factors):.4g} times the first's in {name}")
    return f"the gradients agree, and the second's updates are {'; '.join(words)}" if words else ""


def _compared(right: Fit, leaves: Leaves, others: Leaves, sides: Sides) -> Pattern:
    """Return in what the other optimizer differs from one whose rule is known."""
    wrong = fit(right.rule, others)
    if wrong.explains:
        unit = next(iter(leaves.values())).unit
        decay, rate = other_decay(right, wrong, unit, sides), other_rate(right, wrong, sides)
        if decay and rate:
            return replace(decay, words=f"{decay.words}; besides, {rate.words}")
        return decay or rate or Pattern(SAME_RULE, f"{_shown(right.rule)} explains the updates of both")
    found = other_constant(right, others, sides) or _from_a_step_on(right, others, sides)
    if found is None and (other := search(others)):
        words = f"the {sides[0]} is {_shown(right.rule)}, the {sides[1]} {_shown(other.rule)}"
        return Pattern(OTHER_RULE, f"the gradients agree; {words}")
    words = f"{_shown(right.rule)} explains the {sides[0]}'s updates, and no known rule the {sides[1]}'s"
    return found or Pattern(UNKNOWN, f"the gradients agree; {words}", CANDIDATES, TEST)


def _from_a_step_on(right: Fit, leaves: Leaves, sides: Sides) -> Pattern | None:
    """Return what happened at the first step that the known rule does not explain, where it does those before."""
    wrong = fit(right.rule, leaves, given=right.decays)
    at = int(np.argmax(wrong.left > EXPLAINED))
    if at == 0:
        return None
    if not any(np.any(leaf.updates[at]) for leaf in leaves.values()):
        return Pattern(
            "a missing step", f"the {sides[1]} training does not move at step {at + 1}, and it has gradients"
        )
    if fit(replace(right.rule, restart=at), leaves, given=right.decays).explains:
        return Pattern("lost optimizer state", f"the {sides[1]}'s optimizer begins anew at step {at + 1}")
    if fit(right.rule, leaves, given=dict.fromkeys(leaves, (0.0, 0.0))).left[at:].max() <= EXPLAINED:
        words = f"the {sides[1]} has no weight decay from step {at + 1} on"
        return Pattern("missing or different weight decay", words)
    return None


def _shown(rule: Rule) -> str:
    constants = ", ".join(f"{name} {value:.4g}" for name, value in rule.constants.items())
    return f"{rule.kind} ({constants}{', coupled decay' if rule.coupled else ''})"

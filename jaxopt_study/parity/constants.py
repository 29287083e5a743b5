"""The one constant, switch or place of the decay in which a rule differs from one that is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from jaxopt_study.parity.fitting import Decays, Fit, Leaves, Rule, fit
from jaxopt_study.parity.patterns import UNKNOWN, Pattern
from jaxopt_study.parity.rates import Sides, median, off, other_decay, other_rate
from jaxopt_study.parity.searching import FREE, SWITCHES, USUAL, clearest, constant, refine

CANDIDATES = ("another rule of the optimizer", "clipping inside of the optimizer", "another change of the parameters")
TEST = "record the gradients that the optimizer is given, after clipping"
"""What else it may be where no rule explains the updates, and what would tell."""

NAMES = {
    "nesterov": "missing nesterov",
    "momentum": "another momentum",
    "dampening": "another dampening",
    "b1": "another b1",
    "b2": "another b2",
    "eps": "another eps",
    "initial": "another initial accumulator",
    "amsgrad": "amsgrad in one",
    "first_corrected": "missing bias correction",
    "second_corrected": "missing bias correction",
    "eps_in_root": "eps in another place",
    "count": "missing bias correction",
    "centered": "centering in one",
}
"""What a rule that differs in one constant is called."""


def other_constant(right: Fit, leaves: Leaves, sides: Sides) -> Pattern | None:
    """Return the one constant that explains the other's updates, where the known rule does not."""
    few, changes = clearest(leaves), _single_changes(right.rule)
    tried = [rule.but(**{name: value}) for rule, name in changes if name for value in USUAL[name]]
    tried += [rule for rule, name in changes if not name]
    found = _explaining(tried, few, leaves, right.decays)
    if not found:
        refined = [refine(rule, (name,), few).rule for rule, name in changes if name]
        found = _explaining(refined, few, leaves, right.decays)
    if not found:
        return None
    # Bias correction changes the learning rates as well; of two rules that explain all, the one with equal rates is it.
    best = min(found, key=lambda each: (off(median(each) / median(right)), each.excess))
    pattern, unit = _named(right, best, sides), next(iter(leaves.values())).unit
    besides = [other_decay(right, best, unit, sides), other_rate(right, best, sides)]
    words = [pattern.words, *(each.words for each in besides if each and each.name != pattern.name)]
    return replace(pattern, words="; besides, ".join(words))


def _explaining(rules: Sequence[Rule], few: Leaves, leaves: Leaves, near: Decays) -> list[Fit]:
    return [whole for rule in rules if fit(rule, few, near).explains and (whole := fit(rule, leaves, near)).explains]


def _single_changes(rule: Rule) -> list[tuple[Rule, str]]:
    """Return rules that differ from one in one thing, or may: in the constant of the name beside it."""
    changes = [
        (rule.but(**{name: value}), "")
        for name, values in SWITCHES[rule.kind].items()
        for value in values
        if value != constant(rule, name)
    ]
    if rule.kind == "Adam":
        corrected = constant(rule, "first_corrected")
        changes.append((rule.but(first_corrected=1 - corrected, second_corrected=1 - corrected), ""))
    changes.append((replace(rule, coupled=not rule.coupled), ""))
    singles = dict.fromkeys(name for names in FREE[rule.kind] for name in names)
    return changes + [(rule, name) for name in singles]


def _named(right: Fit, wrong: Fit, sides: Sides) -> Pattern:
    """Return the pattern of a rule that differs in one thing."""
    known, other = sides
    if right.rule.coupled != wrong.rule.coupled:
        return _other_place(right, wrong, sides)
    changed = [name for name in NAMES if constant(right.rule, name) != constant(wrong.rule, name)]
    if not changed:
        return Pattern(UNKNOWN, "the gradients agree; the rules differ by little", CANDIDATES, "run both in float64")
    name = changed[0]
    a, b = (constant(each.rule, name) for each in (right, wrong))
    if name == "second_corrected" and off(median(wrong) / median(right)):
        words = "eps is added before the bias correction in one of them"
        return Pattern("eps in another place", f"the gradients agree; {words}")
    if name in USUAL:
        words = f"{name} {a:.6g} explains the {known}'s updates, and {b:.6g} the {other}'s"
    elif name == "count":
        words = f"the bias correction is a step ahead in the {other if b else known}"
    elif name == "amsgrad" and a and b:
        words = "the largest second moment is taken before its correction in one, and after it in the other"
    else:
        words = f"{' and '.join(changed)}: {_on(a)} in the {known}, {_on(b)} in the {other}"
    return Pattern(NAMES[name], f"the gradients agree; {words}")


def _other_place(right: Fit, wrong: Fit, sides: Sides) -> Pattern:
    """Return the pattern of a weight decay that is added in another place, or only in one training."""
    kinds = ["decoupled", "coupled (L2)"]
    places = {side: kinds[each.rule.coupled] for side, each in zip(sides, (right, wrong), strict=True)}
    for side, each in zip(sides, (right, wrong), strict=True):
        if not any(decay for decay, _ in each.decays.values()):
            places[side] = "none"
    words = (
        f"the gradients agree, and the weight decay is {places['first']} in the first, {places['second']} in the second"
    )
    if "none" in places.values():
        return Pattern("missing or different weight decay", words)
    return Pattern("L2 instead of decoupled weight decay", words)


def _on(switch: float) -> str:
    return "on" if switch else "off"

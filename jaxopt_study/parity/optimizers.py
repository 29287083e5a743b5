"""In what two optimizers differ, found from the gradients that each was given and the updates that it made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from jaxopt_study.parity.fitting import CLEAR, EXPLAINED, Decays, Fit, Leaves, Rule, fit, multiples
from jaxopt_study.parity.patterns import UNKNOWN, Pattern
from jaxopt_study.parity.rules import Steps
from jaxopt_study.parity.searching import FREE, SWITCHES, USUAL, clearest, constant, refine, search

RATES = 1e-3
"""Learning rates that differ by less than this fraction are not told from each other."""

SAME_RULE = "the same rule"
"""One rule, with the same constants, explains the updates of both."""

OTHER_RULE = "another rule"
"""Each training has its own rule, and they differ in more than one constant."""

CANDIDATES = ("another rule of the optimizer", "clipping inside of the optimizer", "another change of the parameters")
TEST = "record the gradients that the optimizer is given, after clipping"

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

Sides = tuple[str, str]
"""The names of the training whose rule is known, and of the other."""


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


def schedules(first: Steps, second: Steps, sides: Sides = ("first", "second")) -> Pattern:
    """Say how two sequences of learning rates that differ are related."""
    known, other = sides
    with np.errstate(invalid="ignore", divide="ignore"):
        factors = second / first
    if np.all(np.isfinite(factors)) and np.ptp(factors) <= RATES * abs(factors[0]):
        words = f"the {other}'s learning rate is {factors[0]:.5g} times the {known}'s, at every step"
        return Pattern("a constant factor", words)
    for late in (1, 2):
        for a, b, who in ((first, second, other), (second, first, known)):
            if len(a) > late + 3 and np.allclose(a[:-late], b[late:], rtol=RATES, atol=0, equal_nan=True):
                return Pattern(
                    "a shifted schedule",
                    f"the {who}'s learning rates are the other's, {late} step{'s' * (late > 1)} late",
                )
    at = int(np.argmax(np.abs(second - first) > RATES * np.abs(first)))
    pairs = list(zip(first, second, strict=True))[at : at + 3]
    words = ", ".join(f"{a:.4g} against {b:.4g}" for a, b in (pairs if known == "first" else [p[::-1] for p in pairs]))
    return Pattern("a shifted schedule", f"the learning rates differ from step {at + 1} on: {words}")


def _compared(right: Fit, leaves: Leaves, others: Leaves, sides: Sides) -> Pattern:
    """Return in what the other optimizer differs from one whose rule is known."""
    wrong = fit(right.rule, others)
    if wrong.explains:
        unit = next(iter(leaves.values())).unit
        found = _other_decay(right, wrong, unit, sides) or _other_rate(right, wrong, sides)
        return found or Pattern(SAME_RULE, f"{_shown(right.rule)} explains the updates of both")
    found = _other_constant(right, others, sides) or _from_a_step_on(right, others, sides)
    if found is None and (other := search(others)):
        words = f"the {sides[0]} is {_shown(right.rule)}, the {sides[1]} {_shown(other.rule)}"
        return Pattern(OTHER_RULE, f"the gradients agree; {words}")
    words = f"{_shown(right.rule)} explains the {sides[0]}'s updates, and no known rule the {sides[1]}'s"
    return found or Pattern(UNKNOWN, f"the gradients agree; {words}", CANDIDATES, TEST)


def _other_decay(right: Fit, wrong: Fit, unit: float, sides: Sides) -> Pattern | None:
    words = []
    for name, (a, error) in right.decays.items():
        b, other_error = wrong.decays[name]
        # 1 less learning rate times decay is rounded to a unit.
        rate = float(np.nanmedian(np.abs(right.rates[name])))
        if abs(a - b) > max(CLEAR * float(np.hypot(error, other_error)), 2 * unit / max(rate, unit), 1e-6 * abs(a)):
            a, b = (a, b) if sides[0] == "first" else (b, a)
            words.append(f"{a:.3g} against {b:.3g} in {name}")
    if not words:
        return None
    return Pattern(
        "missing or different weight decay", f"the gradients agree, and the weight decay is {'; '.join(words)}"
    )


def _other_rate(right: Fit, wrong: Fit, sides: Sides) -> Pattern | None:
    """Compare the learning rates."""
    for mine, other, who in ((right, wrong, sides[1]), (wrong, right, sides[0])):
        stops = [name for name, rates in other.rates.items() if rates[-1] == 0 and np.any(mine.rates[name][-1])]
        if stops and len(stops) < len(other.rates):
            at = int(np.argmax((other.rates[stops[0]] == 0) & (mine.rates[stops[0]] != 0))) + 1
            return Pattern("a frozen leaf", f"the {who} training moves {', '.join(stops)} no more from step {at} on")
    with np.errstate(invalid="ignore", divide="ignore"):
        factors = {name: wrong.rates[name] / right.rates[name] for name in wrong.rates}
    off = {name: c for name, c in factors.items() if _off(c)}
    if not off:
        return None
    if len(off) < len(factors):
        words = "; ".join(f"{np.nanmedian(c):.5g} times the {sides[0]}'s in {name}" for name, c in off.items())
        return Pattern("a constant factor", f"the {sides[1]}'s learning rate is {words}")
    every = np.nanmedian(np.array(list(factors.values())), axis=0)
    known = every[np.isfinite(every)]
    if np.all(known < 0):
        return Pattern(
            "a wrong sign", f"the {sides[1]}'s updates are {known[0]:.5g} times those of its rule: one ascends"
        )
    if right.rule.kind == "Adam" and (words := _correction(right.rule, every)):
        return Pattern("missing bias correction", f"the {sides[1]}'s updates are those {words}")
    return schedules(_median(right), _median(wrong), sides)


def _median(found: Fit) -> Steps:
    """Return the learning rates of most leaves."""
    return np.asarray(np.nanmedian(np.array(list(found.rates.values())), axis=0))


def _correction(rule: Rule, factors: Steps) -> str:
    """Return what is wrong with the bias correction, where the factors of the updates say that it is that."""
    steps = np.arange(1.0, len(factors) + 1)
    first, second = 1 - constant(rule, "b1") ** steps, np.sqrt(1 - constant(rule, "b2") ** steps)
    size = second / first
    expected = {
        "without the correction of both moments": 1 / size,
        "without the correction of the first moment": first,
        "without the correction of the second moment": 1 / second,
    }
    anew = int(np.argmax(np.abs(factors - 1) > RATES))
    again = np.concatenate([size[:anew], size[: len(size) - anew]]) / size
    expected[f"of a count of the steps that begins anew at step {anew + 1}"] = again
    for words, missing in expected.items():
        if np.ptp(missing) > 10 * RATES and np.allclose(factors, missing, rtol=RATES):
            return words
    return ""


def _other_constant(right: Fit, leaves: Leaves, sides: Sides) -> Pattern | None:
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
    best = min(found, key=lambda each: (_off(_median(each) / _median(right)), each.excess))
    pattern, unit = _named(right, best, sides), next(iter(leaves.values())).unit
    besides = [_other_decay(right, best, unit, sides), _other_rate(right, best, sides)]
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
    if name == "second_corrected" and _off(_median(wrong) / _median(right)):
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


def _off(factors: Steps) -> bool:
    known = factors[np.isfinite(factors)]
    return bool(len(known)) and float(np.abs(known - 1).max()) > RATES

"""The learning rates and decays of two optimizers that follow one rule, and in what they differ."""

from __future__ import annotations

import numpy as np

from jaxopt_study.parity.fitting import CLEAR, Fit, Rule
from jaxopt_study.parity.patterns import Pattern
from jaxopt_study.parity.rules import Steps
from jaxopt_study.parity.searching import constant

RATES = 1e-3
"""Learning rates that differ by less than this fraction are not told from each other."""

Sides = tuple[str, str]
"""The names of the training whose rule is known, and of the other."""


def other_decay(right: Fit, wrong: Fit, unit: float, sides: Sides) -> Pattern | None:
    """Return the pattern of decays that differ, or None."""
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


def other_rate(right: Fit, wrong: Fit, sides: Sides) -> Pattern | None:
    """Compare the learning rates."""
    for mine, other, who in ((right, wrong, sides[1]), (wrong, right, sides[0])):
        stops = [name for name, rates in other.rates.items() if rates[-1] == 0 and np.any(mine.rates[name][-1])]
        if stops and len(stops) < len(other.rates):
            at = int(np.argmax((other.rates[stops[0]] == 0) & (mine.rates[stops[0]] != 0))) + 1
            return Pattern("a frozen leaf", f"the {who} training moves {', '.join(stops)} no more from step {at} on")
    with np.errstate(invalid="ignore", divide="ignore"):
        factors = {name: wrong.rates[name] / right.rates[name] for name in wrong.rates}
    changed = {name: c for name, c in factors.items() if off(c)}
    if not changed:
        return None
    if len(changed) < len(factors):
        words = "; ".join(f"{np.nanmedian(c):.5g} times the {sides[0]}'s in {name}" for name, c in changed.items())
        return Pattern("a constant factor", f"the {sides[1]}'s learning rate is {words}")
    every = np.nanmedian(np.array(list(factors.values())), axis=0)
    known = every[np.isfinite(every)]
    if np.all(known < 0):
        return Pattern(
            "a wrong sign", f"the {sides[1]}'s updates are {known[0]:.5g} times those of its rule: one ascends"
        )
    if right.rule.kind == "Adam" and (words := _correction(right.rule, every)):
        return Pattern("missing bias correction", f"the {sides[1]}'s updates are those {words}")
    return schedules(median(right), median(wrong), sides)


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


def median(found: Fit) -> Steps:
    """Return the learning rates of most leaves."""
    return np.asarray(np.nanmedian(np.array(list(found.rates.values())), axis=0))


def off(factors: Steps) -> bool:
    """Say whether factors, of learning rates, are other than 1."""
    known = factors[np.isfinite(factors)]
    return bool(len(known)) and float(np.abs(known - 1).max()) > RATES


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

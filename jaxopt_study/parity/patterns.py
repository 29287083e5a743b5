"""What a difference looks like: known mistakes, each recognized by what it does to the first steps.

Up to the step before the first difference both trainings have the same parameters, so their updates at that step, `a`
and `b`, are two answers to nearly the same gradient. What relates the answers suggests the mistake. It is a suggestion:
trajectories hold no gradients, and two mistakes can look alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from jaxopt_study.parity.window import Window, cosine, factor, rank_correlation, shrinkage

CLOSE = 1e-3
"""Two updates follow one rule if they differ from it by at most this fraction of their size."""

LOOSE = 0.1
"""The same, a step after the first difference: the parameters differ by then, and with them the gradients."""


@dataclass(frozen=True)
class Pattern:
    """A name for the mistake, and a sentence that says what was seen."""

    name: str
    words: str


def recognize(window: Window) -> Pattern:
    """Return the first pattern that fits."""
    if window.step == 0:
        return _initial(window)
    for name, look in PATTERNS.items():
        words = look(window)
        if words:
            return Pattern(name, words)
    return Pattern("an unknown difference", f"the updates of step {window.step} follow no known pattern")


def _initial(window: Window) -> Pattern:
    first, second = window.before[-1]
    for name in window.leaves:
        a, b = first[name], second[name]
        if a.ndim == 2 and a.shape[0] == a.shape[1] and np.allclose(a, b.T, rtol=1e-6, atol=0):
            return Pattern("a transposed leaf", f"{name} is the transpose of the other training's from the start")
    which = ", ".join(window.leaves)
    rest = "; the other leaves are equal" if len(first) > len(window.leaves) else ""
    return Pattern("different initialization", f"{which} differs before the first step{rest}")


def _lag(window: Window) -> str:
    """One stands still, and a step later makes the update that the other made."""
    if window.now + 1 >= len(window.updates):
        return ""
    now, late = window.updates[window.now : window.now + 2]
    for who, mine, other in (("second", 1, 0), ("first", 0, 1)):
        c, rest = factor(now[other], late[mine])
        still = np.linalg.norm(now[mine]) <= CLOSE * np.linalg.norm(now[other])
        if still and rest <= LOOSE and abs(c - 1) <= LOOSE:
            return f"the {who} training stands still at step {window.step} and makes the other's update one step later"
    return ""


def _transposed(window: Window) -> str:
    """The update of a square leaf is the transpose of the other's."""
    (a0, b0), (a1, b1) = window.before[-2], window.before[-1]
    for name in window.leaves:
        a, b = a1[name] - a0[name], b1[name] - b0[name]
        if a.ndim == 2 and a.shape == a.T.shape and np.any(a) and factor(a.T.ravel(), b.ravel())[1] <= CLOSE:
            return f"the update of {name} is the transpose of the other's"
    return ""


def _scaled(window: Window) -> str:
    """Whether the updates of the step differ by one factor alone: the factor in words, else nothing."""
    c, rest = factor(*window.updates[window.now])
    return "" if c == 0 or rest > CLOSE * min(1, 50 * abs(c - 1)) else f"{c:.4g}"


def _sign(window: Window) -> str:
    c, rest = factor(*window.updates[window.now])
    if rest > CLOSE or c >= 0:
        return ""
    return f"the second's update is {c:.4g} times the first's: one ascends"


def _factors(window: Window) -> list[float]:
    """Return the factors between the updates of the first steps that differ; later ones see other gradients."""
    return [factor(*pair)[0] for pair in window.updates[window.now : window.now + 6]]


def _bias_correction(window: Window) -> str:
    """The factors are those of Adam's missing corrections, for usual b1 and b2."""
    if window.step != 1 or not _scaled(window):
        return ""
    found = np.array(_factors(window)[:4])
    steps = np.arange(1, len(found) + 1)
    for b1 in (0.9, 0.95, 0.8, 0.5):
        for b2 in (0.999, 0.99, 0.98, 0.95):
            first, second = 1 - b1**steps, np.sqrt(1 - b2**steps)
            for which, missing in (("both", first / second), ("the first", first), ("the second", 1 / second)):
                for late, expected in (("second", missing), ("first", 1 / missing)):
                    # From the second step on the parameters differ, and with them the gradients.
                    if abs(found[0] / expected[0] - 1) < 2e-3 and np.all(np.abs(found / expected - 1) < 0.08):
                        return (
                            f"the first updates differ by {found[0]:.4g}: the {late} lacks the bias correction of "
                            f"{which} moment(s), b1 {b1}, b2 {b2}"
                        )
    return ""


def _nesterov(window: Window) -> str:
    """At the first step, Nesterov's momentum moves by 1 + momentum times the plain one; later it is no factor."""
    c = _scaled(window)
    if window.step != 1 or not c or len(window.updates) <= window.now + 1:
        return ""
    ratio = max(float(c), 1 / float(c))
    later = factor(*window.updates[window.now + 1])
    steady = abs(later[0] / float(c) - 1) < 0.02 and later[1] < 0.02
    if not 1.5 <= ratio < 2 or steady:
        return ""
    who = "second" if float(c) < 1 else "first"
    return f"the first updates differ by 1 + {ratio - 1:.4g} and the later ones by no factor: the {who} lacks nesterov"


def _schedule(window: Window) -> str:
    """One factor for all elements, another at each step."""
    if not _scaled(window):
        return ""
    found = np.array(_factors(window)[:5])
    later = [factor(*pair)[1] for pair in window.updates[window.now : window.now + 2]]
    if len(found) < 3 or max(later) > 0.3 or np.ptp(found) < 0.05 * np.abs(found).max():
        return ""
    words = ", ".join(f"{c:.3g}" for c in found)
    return (
        f"all elements differ by one factor that changes with the step ({words}): off by one step, or another schedule"
    )


def _constant(window: Window) -> str:
    c = _scaled(window)
    return c and f"the second's update of step {window.step} is {c} times the first's: another learning rate or scale"


def _momentum(window: Window) -> str:
    """The answers differ by a multiple of the update before: the buffer holds another learning rate."""
    if window.step < 2 or window.now < 1:
        return ""
    a, b = window.updates[window.now]
    c, rest = factor(window.updates[window.now - 1][0], b - a)
    if rest > CLOSE:
        return ""
    return (
        f"the updates of step {window.step} differ by {c:.4g} times the update before: when the learning rate "
        "changes, one multiplies momentum by the old one and the other by the new one"
    )


def _decay(window: Window) -> str:
    """The answers differ by a multiple of the parameters, everywhere."""
    fraction, rate = shrinkage(window)
    if fraction < 0.98:
        return ""
    who = "second" if rate > 0 else "first"
    return f"the updates differ by {abs(rate):.4g} times the parameters: the {who} decays less, or not at all"


def _decoupled(window: Window) -> str:
    """The answers differ by a multiple of most parameters, and by whole steps where gradients are small."""
    fraction, rate = shrinkage(window)
    if fraction < 0.3:
        return ""
    return (
        f"in {100 * fraction:.0f} % of the elements the updates differ by {abs(rate):.4g} times the parameters, in the "
        "others by more: weight decay is decoupled in one, and part of the gradient (L2) in the other"
    )


def _epsilon(window: Window) -> str:
    """The ratio of the answers depends on their size: small updates are damped more by one of them."""
    a, b = window.updates[window.now]
    moved = (np.abs(a) > 0) & (np.abs(b) > 0)
    if moved.sum() < 5 or np.any(a[moved] * b[moved] < 0):
        return ""
    a, b = np.abs(a[moved]), np.abs(b[moved])
    smaller, ratio = np.minimum(a, b), b / a
    if np.ptp(ratio) < 1e-9 or abs(rank_correlation(smaller, ratio)) < 0.8:
        return ""
    ends = ratio[np.argsort(smaller)]
    return (
        f"the second's update is {ends[0]:.4g} times the first's where updates are smallest and {ends[-1]:.4g} times "
        "where they are largest: another eps, or eps in another place (inside or outside the root)"
    )


def _batches(window: Window) -> str:
    """The answers differ without a pattern, from the first step on or after steps that agree."""
    alike = cosine(*window.updates[window.now])
    if window.step > 1:
        return (
            f"the steps before {window.step} agree, so the rule and its constants do; then the updates differ "
            f"without a pattern (cosine {alike:.2f}): other rows in that batch, or a rule that sets in at that step"
        )
    return (
        f"the first updates have little in common (cosine {alike:.2f}): other rows in the batch" if alike < 0.6 else ""
    )


PATTERNS: dict[str, Callable[[Window], str]] = {
    "a one-step lag": _lag,
    "a transposed leaf": _transposed,
    "a wrong sign": _sign,
    "missing bias correction": _bias_correction,
    "missing nesterov": _nesterov,
    "a shifted schedule": _schedule,
    "a constant factor": _constant,
    "momentum before or after the learning rate": _momentum,
    "missing or different weight decay": _decay,
    "L2 instead of decoupled weight decay": _decoupled,
    "a different eps": _epsilon,
    "another batch order": _batches,
}
"""In the order in which they are tried: the more special first."""

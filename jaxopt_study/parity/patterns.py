"""What a difference looks like: known mistakes, each recognized by what it does to the first steps.

Up to the step before the first difference both trainings have the same parameters, so their updates at that step are
two answers to nearly the same gradient. What relates the answers, there and at the next steps, suggests the mistake. A
name is given where one rule explains the difference and its rivals do not. Otherwise the cause is unknown, and the
report lists candidates: trajectories hold no gradients, and two mistakes can look alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from jaxopt_study.parity import factors, starts, terms
from jaxopt_study.parity.window import Window, cosine

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Pattern:
    """A name for the mistake, and a sentence that says what was seen.

    Attributes:
        name: The mistake, or `unknown`.
        words: What was seen.
        candidates: Where the mistake is unknown, up to three that would look so.
        test: What would tell them apart.
    """

    name: str
    words: str
    candidates: tuple[str, ...] = ()
    test: str = ""


def recognize(window: Window, names: Sequence[str] | None = None) -> Pattern:
    """Return the first pattern that fits, of those of the given names, or what would look so."""
    if window.step and not window.clear:
        return _unknown(window)
    for name, look in (PATTERNS if window.step else STARTS).items():
        words = look(window) if names is None or name in names else ""
        if words:
            return Pattern(name, words)
    return _unknown(window) if names is None else _unknown_mean(window)


def _unknown_mean(window: Window) -> Pattern:
    words = f"{', '.join(window.leaves)} have no gradients, and the other leaves agree"
    candidates = ("another decay of a running mean", "a running mean that starts or ends at another step", "statistics")
    return Pattern(UNKNOWN, words, candidates, "compare how these leaves are computed from the others")


def _unknown(window: Window) -> Pattern:
    """Describe the difference, and name what could make it."""
    a, b = window.later[0]
    c = factors.one_factor(window) if window.clear else 0.0
    words = f"the updates of step {window.step} have the cosine {cosine(a, b):.4f}"
    if not window.clear:
        words += " and differ by little more than rounding, or in few elements"
    elif c:
        words = f"the second's update of step {window.step} is {c:.5g} times the first's"
    elif not np.any(a) or not np.any(b):
        words = f"the {'second' if np.any(a) else 'first'} training stands still at step {window.step}"
    return Pattern(UNKNOWN, words, *_candidates(window, c))


def _candidates(window: Window, c: float) -> tuple[tuple[str, ...], str]:
    """Return up to three candidates, and what would tell them apart."""
    a, b = window.later[0]
    record = f"compare the gradients of step {window.step}: where they agree, it is the optimizer"
    if not np.any(a) or not np.any(b):
        return ("gradient accumulation", "a learning rate of 0 at first", "leaves left out"), "run more steps"
    if c:
        return (
            ("another learning rate or scale of the loss", "another schedule", "clipping, or another momentum"),
            f"compare the learning rates and the norms of the gradients of steps {window.step} and {window.step + 1}",
        )
    if window.partial:
        return (
            (
                "another learning rate or weight decay of these leaves",
                "another gradient there",
                "another eps, or rounding alone",
            ),
            record,
        )
    if window.step == 1:
        return ("other rows in the batch", "another forward pass or loss", "another rule of the optimizer"), record
    if window.step == 2:
        return ("another b1, b2, momentum or amsgrad", "clipping", "other rows in the second batch"), record
    return (
        (f"other rows in the batch of step {window.step}", "a rule that sets in there", "dropout or other chance"),
        record,
    )


MEANS = ("a one-step lag", "a frozen leaf", "another decay of a running mean")
"""What may be said of leaves that no optimizer moves."""

STARTS: dict[str, Callable[[Window], str]] = {
    "arrays that were not copied": starts.not_copied,
    "a transposed leaf": starts.transposed,
    "another layout": starts.reordered,
    "different initialization": starts.different,
}
"""What differs before the first step, in the order in which it is tried."""

PATTERNS: dict[str, Callable[[Window], str]] = {
    "a one-step lag": terms.lag,
    "a frozen leaf": terms.frozen,
    "a transposed leaf": terms.transposed,
    "another decay of a running mean": terms.running_mean,
    "a wrong sign": factors.wrong_sign,
    "clamped parameters": terms.clamped,
    "clipping by value": terms.value_clipping,
    "missing bias correction": factors.bias_correction,
    "missing nesterov": factors.nesterov,
    "clipping by norm": factors.norm_clipping,
    "a shifted schedule": factors.schedule,
    "a constant factor": factors.constant,
    "momentum before or after the learning rate": terms.momentum_order,
    "another momentum": terms.momentum,
    "missing or different weight decay": terms.decay,
    "L2 instead of decoupled weight decay": terms.decoupled,
    "a different eps or scale of the gradients": terms.epsilon,
    "another batch order": terms.batches,
}
"""In the order in which they are tried: the more special first."""

"""What became of the gradients of a step between the backward pass and the optimizer."""

from __future__ import annotations

import numpy as np

from jaxopt_study.parity.patterns import Pattern
from jaxopt_study.parity.quantities import CLIPPED, GRADIENTS
from jaxopt_study.parity.seen import Seen
from jaxopt_study.parity.trees import some

EQUAL = 1e-4
"""Norms that differ by less than this fraction are equal."""


def cause(seen: Seen, step: int, names: list[str]) -> Pattern:
    """Return how the clipping of two trainings differs, whose gradients agree before it."""
    raw, clipped = seen.steps[step - 1].get(GRADIENTS, {}), seen.steps[step - 1][CLIPPED]
    for which, who in enumerate(("first", "second")):
        lost = [n for n in names if n in raw and clipped[n].norms[which] == 0 < raw[n].norms[which]]
        if lost and len(lost) == sum(each.norms[which] > 0 for each in raw.values()):
            words = f"the {who}'s optimizer is given gradients of 0 at step {step}"
            return Pattern("gradients changed before the step", words)
        if lost:
            return Pattern("a frozen leaf", f"the {who}'s optimizer is not given the gradient of {some(lost)}")
    (kind, first), (other, second) = (_one(seen, step, which) for which in (0, 1))
    words = f"the gradients of step {step} agree before clipping; the first's are then {first}, the second's {second}"
    kinds = {kind, other} - {"none"}
    if "changed" in kinds:
        return Pattern("gradients changed before the step", words)
    return Pattern(
        f"clipping by {kinds.pop()}" if len(kinds) == 1 and kinds != {"other"} else "another clipping", words
    )


def _one(seen: Seen, step: int, which: int) -> tuple[str, str]:
    """Return how one training clips at a step, and in words."""
    raw, clipped = seen.steps[step - 1].get(GRADIENTS, {}), seen.steps[step - 1][CLIPPED]
    names = [name for name in clipped if name in raw and raw[name].norms[which] > 0]
    ratios = np.array([clipped[name].norms[which] / raw[name].norms[which] for name in names])
    if not len(ratios) or np.all(np.abs(ratios - 1) <= EQUAL):
        return "none", "not clipped"
    if np.any(ratios > 1 + EQUAL):
        return "changed", f"up to {ratios.max():.4g} times as large"
    norm = float(np.linalg.norm([clipped[name].norms[which] for name in names]))
    if np.ptp(ratios) <= EQUAL * ratios.max():
        return "norm", f"scaled to the norm {norm:.4g}"
    peak = max(clipped[name].peaks[which] for name in names)
    cut = [name for name, ratio in zip(names, ratios, strict=True) if ratio < 1 - EQUAL]
    # What is cut ends at the threshold in each leaf.
    if all(abs(clipped[name].peaks[which] - peak) <= EQUAL * peak for name in cut):
        return "value", f"cut at the largest element {peak:.4g}"
    return "other", "smaller in some leaves alone"

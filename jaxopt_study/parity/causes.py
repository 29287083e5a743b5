"""Which part of a step is at fault: what two trainings recorded beside their parameters says so.

The quantities of a step are compared in the order in which it computes them. The first that differs names the part:
the data, the forward pass, the loss, the backward pass, the clipping, the schedule, or the optimizer itself.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from jaxopt_study.parity import clipping, constants, optimizers, rates
from jaxopt_study.parity.agreement import Agreement
from jaxopt_study.parity.patterns import UNKNOWN, Pattern
from jaxopt_study.parity.quantities import BATCH, CLIPPED, GRADIENTS, LOSS, RATE
from jaxopt_study.parity.seen import Seen
from jaxopt_study.parity.trees import ACTIVATIONS, Leaf, some

ONE_FACTOR = 1e-3
"""What one factor may leave of a quantity, relative to it."""


def cause(seen: Seen, step: int) -> Pattern:
    """Return the part at fault at a step of which the gradients were recorded.

    Args:
        seen: What was recorded, also of some steps after `step`.
        step: The first step that differs.
    """
    return _differing(seen, step) or _optimizer(seen)


def part(seen: Seen, step: int) -> Pattern:
    """Return the part at fault at a step that both trainings made from the same parameters."""
    words = f"the gradients of step {step} agree, and the updates do not"
    return _differing(seen, step) or Pattern("another update of the optimizer", words)


def _differing(seen: Seen, step: int) -> Pattern | None:
    """Return the part whose quantity is the first that differs."""
    found = seen.differing(step)
    return CAUSES[found[0]](seen, step, found[1]) if found else None


def _data(seen: Seen, step: int, names: list[str]) -> Pattern:
    where, pair = " and ".join(names), seen.batches[step]
    sizes = [{len(np.atleast_1d(tree[name])) for name in names} for tree in pair]
    if sizes[0] != sizes[1]:
        return Pattern("other data", f"the batch of step {step} has {_rows(sizes[0])} rows against {_rows(sizes[1])}")
    counts = [{int(np.isfinite(np.atleast_2d(tree[name])).all(axis=-1).sum()) for name in names} for tree in pair]
    if counts[0] != counts[1]:
        words = f"the batch of step {step} has {_rows(counts[0])} rows against {_rows(counts[1])}"
        candidates = ("other rows in the batch", "a padded batch whose padding counts")
        return Pattern(UNKNOWN, words, candidates, "compare the batches, and the mask of the padding")
    for mine, whose, other_one in ((1, "second", "first"), (0, "first", "second")):
        for other, batch in seen.batches.items():
            if other != step and all(_alike(pair[mine][name], batch[1 - mine].get(name)) for name in names):
                words = f"the {whose}'s batch of step {step} is the {other_one}'s of step {other}"
                return Pattern("another batch order", words)
    agree = [name for name in pair[0] if name in pair[1] and name not in names]
    words = f"the batches of step {step} differ in {where}"
    return Pattern("other data", words + (f", and agree in {', '.join(agree)}" if agree else ""))


def _forward(seen: Seen, step: int, names: list[str]) -> Pattern:
    now = seen.steps[step - 1]
    words = f"at step {step} the output of {names[0] or 'the model'} is the first that differs"
    others = ("other data", "another forward pass")
    if BATCH not in now:
        return Pattern(UNKNOWN, words, others, "record the batches")
    first = next(iter(now[ACTIVATIONS])) == names[0]
    if first and not all(np.any(np.nan_to_num(leaf)[:, 2]) for leaf in seen.batches[step][0].values()):
        words += ", and the digests of the batch do not know the order of its elements"
        return Pattern(UNKNOWN, words, others, "compare the inputs of the model")
    return Pattern("another forward pass", f"{words}; the batch agrees")


def _loss(seen: Seen, step: int, _names: list[str]) -> Pattern:
    now = seen.steps[step - 1]
    losses = [seen.losses[n] for n in range(step, step + 4) if n in seen.losses]
    factors = np.array([b / a if a else np.nan for a, b in losses])
    steady = len(factors) > 1 and bool(np.ptp(factors) <= 0.02 * abs(factors[0]))
    gradients = _one_factor(now.get(GRADIENTS, {}))
    if steady and gradients and abs(gradients - factors[0]) <= 0.02 * abs(gradients):
        words = f"the second's loss and gradients are {_near_whole(gradients)} times the first's"
        return Pattern("another scale of the loss", f"{words}: a sum instead of a mean, or a factor")
    a, b = seen.losses[step]
    words = f"the losses of step {step} are {a:.6g} and {b:.6g}"
    if ACTIVATIONS in now:
        return Pattern("another loss", f"{words}, and the outputs of all recorded modules agree")
    candidates = ("another forward pass", "another loss", *(() if BATCH in now else ("other rows in the batch",)))
    return Pattern(UNKNOWN, words, candidates, "record the activations" + ("" if BATCH in now else " and the batches"))


def _backward(seen: Seen, step: int, names: list[str]) -> Pattern:
    now = seen.steps[step - 1]
    gradients = now[GRADIENTS]
    still = [name for name in names if min(gradients[name].norms) == 0]
    if still:
        which = "first" if gradients[still[0]].norms[0] == 0 else "second"
        words = f"the {which} training's gradient of {', '.join(still)} is 0 at step {step}"
        return Pattern("cut off from the loss", f"{words}: detached, frozen, or not used in the forward pass")
    c = _one_factor(gradients)
    if c:
        words = f"the second's gradients are {_near_whole(c)} times the first's"
        return Pattern("another scale of the gradients", f"the loss agrees, and {words}" if LOSS in now else words)
    share = max(gradients[name].distance for name in names) / max(each.largest for each in gradients.values())
    if LOSS in now and share > FORWARD:
        words = f"the loss of step {step} agrees, and the gradients of {some(names)} do not"
        return Pattern("another backward pass", words)
    candidates = ("another forward pass or loss", "another backward pass", "another precision in a part of the model")
    if LOSS not in now:
        candidates = ("other rows in the batch", *candidates[:2])
    missing = [name[1:] for name in (BATCH, ACTIVATIONS, LOSS) if name not in now]
    test = f"record {', '.join(missing)}" if missing else "compare the modules one by one, in float64"
    return Pattern(UNKNOWN, f"the gradients of step {step} differ in {some(names)}", candidates, test)


FORWARD = 0.02
"""A backward pass is at fault where gradients differ by more than this fraction and losses by rounding."""


def _rate(seen: Seen, step: int, _names: list[str]) -> Pattern:
    found = _optimizer(seen)
    if found.name != UNKNOWN:
        return found
    steps = sorted(seen.rates)
    first, second = np.array([seen.rates[n] for n in steps]).T
    if len(steps) < len(seen.steps):
        a, b = seen.rates[step]
        return Pattern("a shifted schedule", f"the learning rates of step {step} are {a:.4g} and {b:.4g}")
    return rates.schedules(first, second)


def _optimizer(seen: Seen) -> Pattern:
    first, second = seen.recorded(0), seen.recorded(1)
    if not first or not second:
        words = "the gradients agree and the updates do not"
        return Pattern(UNKNOWN, words, constants.CANDIDATES, "record the gradients of each step")
    found = optimizers.change(first, second)
    recorded = np.array(list(seen.rates.values()))
    agree = len(recorded) == len(seen.steps) and np.allclose(recorded[:, 0], recorded[:, 1], rtol=1e-6)
    if found.name == "a shifted schedule" and agree:
        words = f"the recorded learning rates agree, and the sizes of the steps do not: {found.words}"
        return Pattern(UNKNOWN, words, constants.CANDIDATES, constants.TEST)
    if found.name != optimizers.SAME_RULE:
        return found
    words = f"the gradients agree; {found.words}, in the elements that were looked at"
    candidates = ("another precision", "a small difference of the forward pass or the loss", "another rule elsewhere")
    return Pattern(UNKNOWN, words, candidates, "run both in float64")


CAUSES: dict[str, Callable[[Seen, int, list[str]], Pattern]] = {
    BATCH: _data,
    ACTIVATIONS: _forward,
    LOSS: _loss,
    GRADIENTS: _backward,
    CLIPPED: clipping.cause,
    RATE: _rate,
}


def _one_factor(leaves: dict[str, Agreement]) -> float:
    """Return the factor by which all leaves differ, or 0."""
    clear = [
        each for each in leaves.values() if max(each.norms) > 1e-4 * max(max(other.norms) for other in leaves.values())
    ]
    if not clear or any(each.rest > ONE_FACTOR for each in clear):
        return 0.0
    factors = [each.factor for each in clear]
    c = float(np.median(factors))
    return c if np.ptp(factors) <= 2 * ONE_FACTOR * abs(c) and abs(c - 1) > ONE_FACTOR else 0.0


def _near_whole(c: float) -> str:
    """Write a factor, as a fraction where it is one of a whole number."""
    whole = round(1 / c) if abs(c) < 1 else round(c)
    if whole and abs((1 / c if abs(c) < 1 else c) - whole) < 5e-3:
        return f"1/{whole}" if abs(c) < 1 else str(whole)
    return f"{c:.5g}"


def _rows(sizes: set[int]) -> str:
    return " and ".join(map(str, sorted(sizes)))


def _alike(first: Leaf, second: Leaf | None) -> bool:
    return (
        second is not None
        and first.shape == second.shape
        and np.allclose(first, second, rtol=1e-4, atol=1e-6, equal_nan=True)
    )

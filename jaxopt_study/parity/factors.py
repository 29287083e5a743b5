"""Mistakes by which the updates of a step differ by one factor in all elements: which one, the next steps tell."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from jaxopt_study.parity.trees import some
from jaxopt_study.parity.window import CLOSE, LOOSE, Vector, Window, cosine, factor

ALIKE = 0.1
"""Beyond the first difference, an update is a multiple of another if it differs from it by at most this fraction."""


def one_factor(window: Window) -> float:
    """Return the factor by which the updates of the step differ, in all elements alike, or 0."""
    a, b = window.later[0]
    c, _ = factor(a, b)
    return c if window.rest(b - c * a) <= CLOSE else 0.0


def factors(window: Window, count: int) -> tuple[Vector, Vector]:
    """Return the factors of the first steps that differ, and the distances that remain, relative to the updates."""
    found = [factor(*pair) for pair in window.later[:count]]
    return np.array([c for c, _ in found]), np.array([rest for _, rest in found])


def parallel(window: Window) -> bool:
    """Whether the updates of successive steps are parallel, as with one batch for all: then a factor tells nothing."""
    steps = window.later[:3]
    return len(steps) > 1 and all(abs(cosine(x[0], y[0])) > 0.98 for x, y in pairwise(steps))


def wrong_sign(window: Window) -> str:
    """The updates are opposite, and stay so."""
    c = one_factor(window)
    if not -10 < c < -0.1 or (len(window.later) > 1 and cosine(*window.later[1]) > 0):
        return ""
    return f"the second's update is {c:.4g} times the first's: one ascends"


def bias_correction(window: Window) -> str:
    """The factors are those of Adam's missing corrections, for usual b1 and b2, and not those of a warm-up."""
    if window.step != 1 or not one_factor(window) or len(window.later) < 3:
        return ""
    found, rests = factors(window, 3)
    steps = np.arange(1.0, 4.0)
    if rests[1:].max() > 0.4 or min(_off(found, steps / n) for n in range(2, 2001)) < 0.02:
        return ""
    for b1 in (0.9, 0.95, 0.8, 0.5):
        for b2 in (0.999, 0.99, 0.98, 0.95):
            first, second = 1 - b1**steps, np.sqrt(1 - b2**steps)
            for which, missing in (("both", first / second), ("the first", first), ("the second", 1 / second)):
                if _off(found[:1], missing[:1]) < 2e-3 and _off(found, missing) < 0.03:
                    return (
                        f"the first updates differ by {max(found[0], 1 / found[0]):.4g} and the next as they must: one "
                        f"lacks the bias correction of {which} moment(s), b1 {b1}, b2 {b2}"
                    )
    return ""


def nesterov(window: Window) -> str:
    """One moves by 1 + momentum times the other's update, less momentum times the other's update before."""
    c = one_factor(window)
    if window.step != 1 or c <= 0 or len(window.later) < 3 or parallel(window):
        return ""
    momentum = max(c, 1 / c) - 1
    plain, who = (0, "first") if c > 1 else (1, "second")
    if not 0.3 <= momentum < 0.999:
        return ""
    left, scaled = np.array([_two_rules(window, late, momentum, plain) for late in (1, 2)]).T
    strict = np.all(left <= ALIKE) and np.all(left <= LOOSE * scaled)
    # Where the two trainings differ so much at the next steps that neither rule fits, 1.9 is still no chance.
    round_one = round_number(momentum) and np.linalg.norm(left) <= 0.75 * np.linalg.norm(scaled) >= ALIKE
    if not strict and not round_one:
        return ""
    return f"the {who} lacks nesterov: the other moves by 1 + {momentum:.4g} times its update, less the update before"


def _two_rules(window: Window, late: int, momentum: float, plain: int) -> tuple[float, float]:
    """Return what Nesterov's rule leaves of an update, and what one factor leaves, relative to the update."""
    last, now = window.later[late - 1 : late + 1]
    size = max(float(np.linalg.norm(now[1 - plain])), np.finfo(float).tiny)
    expected = (1 + momentum) * now[plain] - momentum * last[plain]
    return float(np.linalg.norm(now[1 - plain] - expected)) / size, factor(now[plain], now[1 - plain])[1]


def round_number(c: float) -> bool:
    """Say whether c or 1 / c is a number of two digits, as chosen constants are and measured ones are not."""
    return any(abs(float(f"{x:.1e}") / x - 1) <= 1e-5 for x in (abs(c), 1 / abs(c)))


def norm_clipping(window: Window) -> str:
    """One's updates all have one norm, the other's do not, and they are parallel."""
    if not one_factor(window) or len(window.later) < 4:
        return ""
    _, rests = factors(window, 4)
    norms = np.array([[np.linalg.norm(a), np.linalg.norm(b)] for a, b in window.later[:4]])
    even = [bool(np.ptp(n) <= 2e-3 * n.max()) for n in norms.T]
    if rests[1:].max() > LOOSE or even[0] == even[1] or window.partial:
        return ""
    which = "first" if even[0] else "second"
    return f"the {which}'s updates all have the norm {norms[0, even.index(True)]:.4g}: only there gradients are clipped"


def schedule(window: Window) -> str:
    """One factor for all elements, and another at a later step; the first may be 0."""
    late = int(not np.any(window.later[0][0]) or not np.any(window.later[0][1]))
    if len(window.later) < 4 + late or parallel(window) or _same_norms(window) or not (late or one_factor(window)):
        return ""
    found, left = _while_one_factor(window, late)
    if len(found) < 3:
        return ""
    change = np.diff(found)
    # The factor may stay as it is for some steps first.
    clear = np.abs(change) >= 4 * np.maximum(left[1:], left[:-1]) + 0.1 * abs(found[0] - 1)
    first = int(clear.argmax())
    # One step alone may have a factor for many reasons.
    if (
        not clear.any()
        or (first == 0 and clear.sum() < 2)
        or np.abs(change[:first]).max(initial=0) > 0.1 * abs(found[0] - 1)
    ):
        return ""
    words = ", ".join(f"{c:.5g}" for c in (*[0.0] * late, *found[: max(4, first + 2)]))
    return (
        f"all elements differ by one factor that changes with the step ({words}): another schedule, or one that is off "
        "by a step"
    )


def _while_one_factor(window: Window, late: int) -> tuple[Vector, Vector]:
    """Return the factors and what they leave, for the steps from `late` on at which one factor explains most."""
    found, rests = factors(window, len(window.later))
    left = [window.fit(window.later[n][0], n)[1] for n in range(len(found))]
    # Where the updates agree again, what they still differ by has no form.
    agree = np.abs(found - 1) <= rests
    moving = [bool(np.any(a)) and bool(np.any(b)) for a, b in window.later]
    good = [
        m and rest <= ALIKE and (fraction <= LOOSE or a)
        for m, rest, fraction, a in zip(moving, rests, left, agree, strict=True)
    ]
    end = next((n for n in range(late, len(good)) if not good[n]), len(good))
    return found[late:end], rests[late:end]


def constant(window: Window) -> str:
    """One factor for all elements of the leaves that differ, at the next steps too, or a number that was chosen."""
    c = one_factor(window)
    if not c or len(window.later) < 3 or _same_norms(window):
        return ""
    found, rests = factors(window, 3)
    off = np.abs(found - c)
    steady = rests.max() <= ALIKE and off.max() <= min(0.1 * abs(c - 1), 2 * rests.max() + 1e-2)
    # Where the gradients differ by much, a constant that somebody has chosen is recognized by itself.
    chosen = round_number(c) and bool(np.all(off <= 2 * rests * abs(c) + 1e-6))
    if not steady and not chosen:
        return ""
    where = f" of {some(window.leaves)}" if window.partial else ""
    words = f"all elements of the second's update{where} at step {window.step} are {c:.5g} times the first's"
    if steady:
        words += f", and those of the next two steps about {found[1]:.4g} and {found[2]:.4g} times"
    else:
        words += " (the next steps do not tell whether more differs)"
    agree = window.contradicting(lambda update: (c - 1) * update)
    if agree:  # parameters, or statistics of the batches, that no learning rate moves
        return (
            f"{words}; {some(agree)} agree: if these are trained, a learning rate of its own group, or its gradient; "
            "if not, another learning rate or scale of the loss"
        )
    others = "or clipping" if steady else "clipping, or nesterov in one"
    return f"{words}: another learning rate, another scale of the loss, {others}"


def _same_norms(window: Window) -> bool:
    """Whether one's updates all have one norm: its gradients are clipped, or normalized."""
    norms = np.array([[np.linalg.norm(a), np.linalg.norm(b)] for a, b in window.later[:4]])
    return bool(np.any(np.ptp(norms, axis=0) <= 2e-3 * norms.max(axis=0)))


def _off(found: Vector, expected: Vector) -> float:
    """Return the largest relative difference of two rows of factors; either training may be the wrong one."""
    if np.any(found <= 0):
        return np.inf
    return float(min(np.abs(f / expected - 1).max() for f in (found, 1 / found)))

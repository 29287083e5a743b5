"""Mistakes by which the updates of a step differ by a term: of the parameters, of the update before, of their size."""

from __future__ import annotations

import numpy as np

from jaxopt_study.parity.trees import some
from jaxopt_study.parity.window import CLOSE, ENOUGH, LOOSE, Vector, Window, cosine, factor, mean_of, rank_correlation


def lag(window: Window) -> str:
    """One stands still, and from then on makes each update that the other made a step before."""
    if len(window.later) < 3:
        return ""
    now, then, after = window.later[:3]
    for who, mine, other in (("second", 1, 0), ("first", 0, 1)):
        if np.any(now[mine]) or not np.any(now[other]):
            continue
        c, rest = factor(now[other], then[mine])
        again, later = factor(then[other], after[mine])
        if abs(c - 1) <= 1e-3 and rest <= 1e-3 and later <= LOOSE and abs(again - 1) <= LOOSE:
            return f"the {who} training stands still at step {window.step} and makes the other's updates a step later"
    return ""


def frozen(window: Window) -> str:
    """Some leaves of one training do not move at all, from the step on."""
    if not window.partial or len(window.later) < 3:
        return ""
    for who, mine, other in (("second", 1, 0), ("first", 0, 1)):
        still = all(np.linalg.norm(pair[mine]) <= window.noise for pair in window.later)
        if still and all(np.any(pair[other]) for pair in window.later[:3]):
            return (
                f"the {who} training does not move {', '.join(window.leaves)} from step {window.step} on: frozen, left "
                "out of the optimizer, or cut off from the loss"
            )
    return ""


def transposed(window: Window) -> str:
    """The update of a square leaf is the transpose of the other's, and no symmetric matrix."""
    (a0, b0), (a1, b1) = window.before[-2], window.before[-1]
    for name in window.leaves:
        a, b = a1[name].astype(float) - a0[name], b1[name].astype(float) - b0[name]
        if a.ndim == 2 and a.shape == a.T.shape and a.size >= ENOUGH and np.any(a) and np.any(b):
            c, rest = factor(a.T.ravel(), b.ravel())
            if rest <= 1e-3 and abs(c - 1) <= 0.1 and factor(a.ravel(), a.T.ravel())[1] > LOOSE:
                return f"the update of {name} is the transpose of the other's"
    return ""


def momentum(window: Window) -> str:
    """The updates differ by a multiple of the update before, as a momentum of another size makes them at step 2."""
    c, following = _of_the_update_before(window)
    if not c or window.step != 2 or following or not -1 < c < 1:
        return ""
    return f"the first updates that have a momentum differ by {c:.4g} times the update before: another momentum"


def momentum_order(window: Window) -> str:
    """The updates differ by a multiple of the update before, and the next by a fraction of this difference."""
    c, following = _of_the_update_before(window)
    if not c or not following:
        return ""
    return (
        f"the updates of step {window.step} differ by {c:.4g} times the update before, and the next by {following:.4g} "
        "times that: when the learning rate changes, one multiplies momentum by the old one, the other by the new one"
    )


def _of_the_update_before(window: Window) -> tuple[float, float]:
    """Return the multiple, or 0; and the fraction of this difference by which the next updates differ, or 0."""
    if window.now < 1 or len(window.later) < 2:
        return 0.0, 0.0
    before = window.updates[window.now - 1][0]
    c, rest = window.fit(before)
    rivals = min(window.fit(window.later[0][0])[1], window.fit(window.params)[1])
    if rest > CLOSE or rivals < max(0.01, 10 * rest):
        return 0.0, 0.0
    (a, b), _ = window.later[:2]
    fraction, left = window.fit(b - a, 1)
    return c, fraction if left <= LOOSE and 0.05 < fraction < 1 else 0.0


def decay(window: Window) -> str:
    """The updates differ by a multiple of the parameters, at two steps."""
    if len(window.later) < 2:
        return ""
    found = [_of_the_parameters(window, late) for late in (0, 1)]
    rates, rests = zip(*found, strict=True)
    rivals = window.fit(window.later[0][0])[1]
    if rests[0] > CLOSE or rests[1] > LOOSE or rivals < LOOSE or rates[0] * rates[1] <= 0:
        return ""
    who = "second" if rates[0] > 0 else "first"
    return f"the updates differ by {abs(rates[0]):.4g} times the parameters: the {who} decays less, or not at all"


def _of_the_parameters(window: Window, late: int) -> tuple[float, float]:
    pairs = [*window.before[-2:], *window.after]
    tree = pairs[late][0]
    return window.fit(np.concatenate([tree[name].astype(float).ravel() for name in window.leaves]), late)


def decoupled(window: Window) -> str:
    """At Adam's first step the updates differ by one multiple of most parameters; elsewhere the sign has changed."""
    a, b = window.later[0]
    if window.step != 1 or len(a) < 2 * ENOUGH:
        return ""
    params = window.params
    used = np.abs(params) > 1e-3 * np.abs(params).max(initial=0)
    if not used.any() or not np.any(a) or not np.any(b):
        return ""
    rates = (b - a)[used] / params[used]
    rate = float(np.median(rates))
    near = np.abs(rates - rate) <= 0.02 * abs(rate)
    # Nearly all updates of one of them are the learning rate; the other's are that and a multiple of the parameters.
    signs = min(float(np.median(np.abs(np.abs(x[used]) - _middle(x)))) / _middle(x) for x in (a, b))
    far = np.abs((b - a)[used] - rate * params[used])[~near]
    step = float(np.median(np.abs(a)))
    whole_steps = far.size > 0 and bool(np.all(far > 0.2 * step))
    if rate == 0 or not 0.5 <= near.mean() < 1 or signs > 1e-3 or not whole_steps:
        return ""
    return (
        f"in {100 * near.mean():.0f} % of the elements the updates differ by {abs(rate):.4g} times the parameters, in "
        "the others by a whole step: weight decay is decoupled in one, and part of the gradient (L2) in the other"
    )


def _middle(x: Vector) -> float:
    return max(float(np.median(np.abs(x))), np.finfo(float).tiny)


def epsilon(window: Window) -> str:
    """At Adam's first step large updates agree, and small ones are damped more in one of them."""
    if window.step != 1:
        return ""
    a, b = window.later[0]
    moved = (a != 0) & (b != 0)
    if moved.sum() < 2 * ENOUGH or np.any(a[moved] * b[moved] < 0):
        return ""
    a, b = np.abs(a[moved]), np.abs(b[moved])
    order = np.argsort(np.minimum(a, b))
    a, b = a[order], b[order]
    off = np.abs(b / a - 1)
    fifth, half = max(2, len(a) // 5), len(a) // 2
    saturated = all(np.ptp(x[-fifth:]) <= 0.1 * x[-1] for x in (a, b))
    ordered = abs(rank_correlation(np.minimum(a, b)[:half], (b / a)[:half])) >= 0.95
    if not saturated or not ordered or off[-fifth:].mean() > LOOSE * off[:fifth].mean():
        return ""
    words = (
        f"the second's first update is {b[0] / a[0]:.4g} times the first's where updates are smallest and "
        f"{b[-1] / a[-1]:.4g} times where they are largest"
    )
    agree = window.contradicting(lambda update: _damped(update, a, b))
    if agree:  # parameters, or statistics of the batches, that no eps damps
        return (
            f"in {some(window.leaves)} {words}; {some(agree)} agree: if these are trained, another eps of its own "
            "group, or its gradient of another scale; if not, another eps or scale of all gradients"
        )
    return (
        f"{words}: another eps, eps in another place (inside or outside the root), or gradients of another scale, as "
        "of a summed loss"
    )


def _damped(update: Vector, a: Vector, b: Vector) -> Vector:
    """Return what the two updates of another leaf would differ by, if they were damped as `a` and `b` are."""
    # Only the smaller ones tell how far they are damped; the others may all be the learning rate.
    small, large = (a, b) if a.sum() < b.sum() else (b, a)
    sizes, order = np.abs(update), np.argsort(small)
    # A leaf may have a learning rate of its own: what counts is how far below its largest update one is.
    relative = sizes / max(float(sizes.max(initial=0)), np.finfo(float).tiny)
    ratios = (large / small)[order]
    return sizes * (np.interp(relative, small[order] / small.max(), ratios) - ratios[-1])


def running_mean(window: Window) -> str:
    """Leaves that are running means of others, in both trainings, move by another fraction of the way."""
    pairs = [*window.before[-2:], *window.after][:5]
    for name in window.leaves:
        found = [
            means
            for other in pairs[0][0]
            if other != name and other not in window.leaves and (means := mean_of(name, other, pairs))
        ]
        if not found:
            return ""
        first, second = found[0]
    if abs(first / second - 1) < 1e-3:
        return ""
    return (
        f"{', '.join(window.leaves)} are running means of other leaves, which agree; they move by {first:.4g} of "
        f"the way in the first training and by {second:.4g} in the second"
    )


def clamped(window: Window) -> str:
    """One's parameters are the other's, cut at one or two values, where several of them lie exactly."""
    for who, mine, other in (("second", 1, 0), ("first", 0, 1)):
        cut, whole = window.reached[mine], window.reached[other]
        inner = np.clip(whole, cut.min(), cut.max())
        at = np.abs(whole - inner) > max(window.allowed.values())
        ends = np.unique(cut[at])
        moved = int(np.count_nonzero((cut != window.params) & ~at))
        # The largest element of all is at the largest by itself; those beside it are not.
        if at.sum() - len(ends) < 2 or not np.isin(ends, (cut.min(), cut.max())).all() or moved < ENOUGH:
            continue
        if window.rest(inner - cut) <= CLOSE:
            values = " and ".join(f"{end:.4g}" for end in ends)
            return f"the {who}'s parameters are the other's, cut at {values} ({int(at.sum())} elements)"
    return ""


def _at_a_bound(window: Window) -> bool:
    """Whether elements that differ came from several values to the largest or the smallest one of a leaf."""
    (old, _), now = window.before[-2:]
    for name in window.leaves:
        apart = np.abs(now[1][name].astype(float) - now[0][name]) > window.allowed[name]
        for leaf in (tree[name] for tree in now):
            if any(
                np.unique(old[name][apart & (leaf == end)].astype(float)).size >= 3 for end in (leaf.min(), leaf.max())
            ):
                return True
    return False


def value_clipping(window: Window) -> str:
    """One's update is the other's, cut at one value."""
    if _at_a_bound(window):
        return ""
    for who, mine, other in (("second", 1, 0), ("first", 0, 1)):
        cut, whole = window.later[0][mine], window.later[0][other]
        bound = float(np.abs(cut).max(initial=0))
        at = np.abs(whole) > bound * (1 + 1e-6)
        left = window.rest(np.clip(whole, -bound, bound) - cut)
        inside = ~at & (whole != 0)
        usual = inside.sum() >= ENOUGH and np.linalg.norm(cut[inside]) >= 0.05 * np.linalg.norm(cut)
        if at.sum() >= 3 and usual and left <= CLOSE and np.ptp(np.abs(whole[at])) > 0:
            return f"the {who}'s update is the other's, cut at {bound:.4g} ({int(at.sum())} elements): clipped by value"
    return ""


def batches(window: Window) -> str:
    """One's update is that of a later step in the other training, and of no third.

    One that is like an earlier step's tells nothing: momentum repeats the steps before.
    """
    if len(window.later) < 2 or len(window.params) < 20:
        return ""
    sizes = sorted(float(np.linalg.norm(update)) for update in window.later[0])
    # A training that stands still is late, whatever its batches.
    if sizes[0] < 0.2 * sizes[1] or cosine(*window.later[0]) > 0.97:
        return ""
    best = max((_matched(window, share, mine) for share in (0.0, 0.9) for mine in (0, 1)), key=lambda m: m[0] - m[1])
    first, second, by, own = best
    if first < 0.75 or second > first - 0.25 or own > 0.6:
        return ""
    return (
        f"the update of step {window.step} is that of step {window.step + by} in the other (cosine {first:.2f}, "
        f"and {own:.2f} with the same step): the batches come in another order"
    )


def _matched(window: Window, share: float, mine: int) -> tuple[float, float, int, float]:
    """Return the best cosine with later steps of the other training, that with a rival, how late, and its own."""
    fresh = _fresh(window, mine, share)[window.now]
    alike = np.array([cosine(fresh, other) for other in _fresh(window, 1 - mine, share)])
    own, at = float(alike[window.now]), window.now + 1 + int(alike[window.now + 1 :].argmax())
    rivals = np.delete(alike, [window.now, at])
    return float(alike[at]), float(rivals.max(initial=-1)), at - window.now, own


def _fresh(window: Window, which: int, share: float) -> list[Vector]:
    """Return what the batch of each step has added to the updates, if they keep `share` of the one before."""
    updates = [pair[which] for pair in window.updates]
    return [now - share * last for last, now in zip([0 * updates[0], *updates], updates, strict=False)]

"""The divergence locator: the first step, leaf and element at which two trainings differ, and what that looks like."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from jaxopt_study.parity.causes import cause
from jaxopt_study.parity.compared import AROUND, Compared, Pair
from jaxopt_study.parity.difference import Difference, at
from jaxopt_study.parity.files import marked
from jaxopt_study.parity.pairs import Pairs, Trajectory
from jaxopt_study.parity.patterns import MEANS, Pattern, recognize
from jaxopt_study.parity.report import Report, rounding
from jaxopt_study.parity.seen import Seen
from jaxopt_study.parity.trees import Leaf
from jaxopt_study.parity.window import Window


def locate(
    first: Trajectory, second: Trajectory, *, steps: int | None = None, tolerance: float | None = None
) -> Report:
    """Find where two trainings first differ.

    By default each leaf has a tolerance of its own at each step: 8 units in the last place of its largest element (in
    the coarser of the two types), one unit more for each step, and 512 units in the last place of all that it has
    moved. Right ports were measured at up to a half of that. Whole numbers, such as counters, must be equal. A leaf
    whose updates are rounding alone, such as a bias before a normalization, is left out, and the report says so.

    Args:
        first: A trajectory: trees, or a `.npz` file.
        second: The other one, with the same names and shapes.
        steps: How many steps to compare, after the initial parameters; by default, all.
        tolerance: The largest absolute difference allowed in any leaf, instead of the default.

    Raises:
        ValueError: The trees' names or shapes differ, one trajectory is shorter, a file is no trajectory, there is
            nothing to compare, or `steps` or `tolerance` is below 0 or not finite.

    Example:
        >>> import numpy as np
        >>> first = [{"w": np.array([1.0, 2.0])}, {"w": np.array([0.5, 1.0])}]
        >>> second = [{"w": np.array([1.0, 2.0])}, {"w": np.array([0.5, 1.1])}]
        >>> report = locate(first, second)
        >>> report.same, report.difference.step, report.difference.leaf, report.difference.index
        (False, 1, 'w', (1,))
    """
    for name, value in (("steps", steps), ("tolerance", tolerance)):
        if value is not None and not 0 <= value < np.inf:
            raise ValueError(f"{name} must be a finite number of at least 0, not {value!r}")
    found = _located(Compared(tolerance), Pairs(first, second, steps))
    notes = [note for trajectory in (first, second) if (note := _unmarked(trajectory))]
    return replace(found, notes=(*found.notes, *dict.fromkeys(notes))) if notes else found


def _located(compared: Compared, pairs: Pairs) -> Report:
    for step, pair in enumerate(pairs):
        broken = _not_finite(step, pair)
        if broken is not None:
            place, words = broken
            return compared.report(place, (place.leaf,), Pattern("not finite", words))
        names = compared.differing(pair, pairs.ahead, pairs.seen.faint)
        if names:
            window = compared.window(names, pairs.ahead(AROUND))
            found = compared.pattern() or _recognized(pairs.seen, window)
            return compared.report(at(step, compared.most(list(window.leaves)), *pair), tuple(names), found)
        found_in = pairs.seen.other_gradients(step) if compared.sensitive else None
        if found_in:
            place, leaves, allowed = found_in
            pairs.ahead(AROUND)
            return compared.report(place, leaves, cause(pairs.seen, step), allowed)
    if not compared.distances:
        raise ValueError("there is nothing to compare: both trajectories are empty")
    same = compared.report(None, (), rounding(np.array(compared.distances), compared.grown))
    rates = pairs.seen.other_rates()
    return replace(same, notes=(*same.notes, rates)) if rates else same


def _recognized(seen: Seen, window: Window) -> Pattern:
    """Return what the recorded quantities say, or the updates alone."""
    told = seen.told(window.step)
    if not told:
        return recognize(window)
    if set(window.leaves) & told:
        return cause(seen, window.step)
    # No optimizer moves what has no gradients: running means, statistics, counters.
    return recognize(window, MEANS)


def assert_same_training(
    first: Trajectory, second: Trajectory, *, steps: int | None = None, tolerance: float | None = None
) -> None:
    """Assert that two trainings are the same; see `locate` for the arguments.

    Raises:
        AssertionError: They differ; the message says at which step, leaf and element, by how much, and what it looks
            like.
        ValueError: They cannot be compared.

    Example:
        >>> import numpy as np
        >>> training = [{"w": np.array([1.0, 2.0])}, {"w": np.array([0.5, 1.0])}]
        >>> assert_same_training(training, training)
    """
    report = locate(first, second, steps=steps, tolerance=tolerance)
    if not report.same:
        raise AssertionError(str(report))


def _unmarked(trajectory: Trajectory) -> str:
    if not isinstance(trajectory, str | Path) or marked(trajectory):
        return ""
    return f"save_trajectory did not write {trajectory}: the first axis of its arrays is taken for the steps."


def _not_finite(step: int, pair: Pair) -> tuple[Difference, str] | None:
    """Return the first element that is NaN or infinite, and where: nothing after it can be compared."""
    for name in pair[0]:
        broken = [~np.isfinite(_numbers(tree[name])) for tree in pair]
        if not np.any(broken):
            continue
        place = tuple(int(i) for i in np.unravel_index(int(np.argmax(broken[0] | broken[1])), broken[0].shape))
        which = [word for word, mine in zip(("first", "second"), broken, strict=True) if mine[place]]
        who = "both trainings" if len(which) == 2 else f"the {which[0]} training alone"
        values = [float(tree[name][place]) for tree in pair]
        words = f"NaN or infinity began at step {step} in {name}{list(place)}, in {who}"
        return Difference(step, name, place, *values), words
    return None


def _numbers(leaf: Leaf) -> Leaf:
    # NumPy's own types need no copy.
    return leaf if leaf.dtype.kind in "fiub" else leaf.astype(float)

"""The divergence locator: the first step, leaf and element at which two trainings differ, and what that looks like."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice, zip_longest
from pathlib import Path

import numpy as np

from jaxopt_study.parity.causes import cause
from jaxopt_study.parity.compared import AROUND, Compared, Pair
from jaxopt_study.parity.difference import Difference, at
from jaxopt_study.parity.files import load_trajectory, marked
from jaxopt_study.parity.patterns import MEANS, Pattern, recognize
from jaxopt_study.parity.quantities import split
from jaxopt_study.parity.report import Report, rounding
from jaxopt_study.parity.seen import Extras, Seen
from jaxopt_study.parity.trees import Leaf, Tree, check_alike, flatten
from jaxopt_study.parity.window import Window

Trajectory = Iterable[Tree] | str | Path


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
    found = _located(Compared(tolerance), _Pairs(first, second, steps))
    notes = [note for trajectory in (first, second) if (note := _unmarked(trajectory))]
    return replace(found, notes=(*found.notes, *dict.fromkeys(notes))) if notes else found


def _located(compared: Compared, pairs: _Pairs) -> Report:
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
    return compared.report(None, (), rounding(np.array(compared.distances), compared.grown))


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


class _Pairs:
    """The pairs of trees of two trajectories, step by step; one may look ahead."""

    def __init__(self, first: Trajectory, second: Trajectory, steps: int | None) -> None:
        # What a generator yields may be live arrays, which the next step changes.
        self._copied = [not isinstance(trajectory, Sequence | Path) for trajectory in (first, second)]
        self._trees = enumerate(zip_longest(_trees(first, steps), _trees(second, steps)))
        self._read: list[Pair] = []
        self.seen = Seen()

    def __iter__(self) -> Iterator[Pair]:
        while pairs := self._read or list(islice(self._more(), 1)):
            self._read = pairs[1:]
            yield pairs[0]

    def ahead(self, count: int) -> list[Pair]:
        """Return the next pairs, `count` of them or as many as there are, and keep them for the iteration."""
        self._read += islice(self._more(), max(0, count - len(self._read)))
        return self._read[:count]

    def _more(self) -> Iterator[Pair]:
        for step, (a, b) in self._trees:
            pair, extras = _pair(step, a, b)
            self.seen.add(pair, extras)
            first, second = (
                {name: leaf.copy() for name, leaf in tree.items()} if copied else tree
                for tree, copied in zip(pair, self._copied, strict=True)
            )
            yield first, second


def _trees(trajectory: Trajectory, steps: int | None) -> Iterator[Tree]:
    """Return the trees of any kind of trajectory, at most `steps` after the initial one."""
    if isinstance(trajectory, str | Path):
        trees = iter(load_trajectory(trajectory))
    elif callable(trajectory) or not isinstance(trajectory, Iterable):
        words = "is no trajectory: make one of a step function by walk(step, state, batches)"
        raise ValueError(f"{trajectory!r} {words}")  # noqa: TRY004 - one kind of error for all that cannot be compared
    else:
        trees = iter(trajectory)
    return trees if steps is None else islice(trees, steps + 1)


def _unmarked(trajectory: Trajectory) -> str:
    if not isinstance(trajectory, str | Path) or marked(trajectory):
        return ""
    return f"save_trajectory did not write {trajectory}: the first axis of its arrays is taken for the steps."


def _pair(step: int, first: Tree | None, second: Tree | None) -> tuple[Pair, tuple[Extras, Extras]]:
    """Return the parameters of a step, and what else was recorded."""
    if first is None or second is None:
        short, long = ("first", "second") if first is None else ("second", "first")
        raise ValueError(f"the {short} trajectory ends before step {step}, the {long} one goes on")
    (mine, extras), (other, others) = (
        split(flatten(tree, f"{which}, step {step}")) for which, tree in (("first", first), ("second", second))
    )
    if not any(leaf.size for leaf in mine.values()):
        raise ValueError(f"step {step}: there is nothing to compare, the first tree has no numbers")
    check_alike(mine, other, f"step {step}")
    return (mine, other), (extras, others)


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

"""The divergence locator: the first step, leaf and element at which two trainings differ, and what that looks like."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jaxopt_study.parity.difference import Difference, at, differing
from jaxopt_study.parity.files import load_trajectory
from jaxopt_study.parity.patterns import Pattern, recognize
from jaxopt_study.parity.trees import Leaves, Tree, check_alike, distance, flatten
from jaxopt_study.parity.window import Window

Trajectory = Iterable[Tree] | str | Path

ROUNDINGS = 4096
"""Without a tolerance given, two parameters may differ by this many units in the last place of the largest one."""

FRACTION, HALF_ROUNDINGS = 0.01, 16
"""But by no more than this fraction of it; in types so short that this is less than a few units, by so many units."""

AROUND = 12
"""Steps kept before the first difference, and looked at after it, to tell what it looks like."""


@dataclass(frozen=True)
class Report:
    """What the locator found.

    Attributes:
        difference: The first difference beyond tolerance, or None. Its step counts from 0, the initial parameters.
        leaves: All leaves that differ at that step.
        pattern: What the difference looks like; of two equal trainings, how rounding grew.
        distances: The largest difference at each step compared.
        tolerance: The largest difference allowed at the last step compared.
    """

    difference: Difference | None
    leaves: tuple[str, ...]
    pattern: Pattern
    distances: npt.NDArray[np.float64]
    tolerance: float

    @property
    def same(self) -> bool:
        """Whether no element differs beyond tolerance."""
        return self.difference is None

    def __str__(self) -> str:
        if self.difference is None:
            steps = len(self.distances) - 1
            what = (
                f"the same over {steps} steps" if steps else "the initial parameters are the same, no step was compared"
            )
            return f"{what} (tolerance {self.tolerance:.1e}): {self.pattern.words}"
        others = [name for name in self.leaves if name != self.difference.leaf]
        also = f"; also in {', '.join(others)}" if others else "; in no other leaf"
        return f"first difference: {self.difference}{also}. It looks like {self.pattern.name}: {self.pattern.words}"


def locate(
    first: Trajectory, second: Trajectory, *, steps: int | None = None, tolerance: float | None = None
) -> Report:
    """Find where two trainings first differ.

    Args:
        first: A trajectory: trees, or a `.npz` file.
        second: The other one, with the same names and shapes.
        steps: How many steps to compare, after the initial parameters; by default, all.
        tolerance: The largest absolute difference allowed; by default, 4096 units in the last place of the largest
            parameter, in the coarser of the two types (of 16 bits: 16 units). Whole numbers, such as counters, must be
            equal then.

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
    trees = zip_longest(_trees(first, steps), _trees(second, steps))
    before: list[tuple[Leaves, Leaves]] = []
    distances: list[float] = []
    allowed = tolerance or 0.0
    for step, (a, b) in enumerate(trees):
        pair = _pair(step, a, b)
        distances.append(max((float(distance(x, pair[1][name]).max(initial=0)) for name, x in pair[0].items())))
        allowed = _allowed(pair) if tolerance is None else tolerance
        broken = _not_finite(step, pair)
        if broken is not None:
            place, words = broken
            return Report(place, (place.leaf,), Pattern("not finite", words), np.array(distances), allowed)
        names = differing(*pair, allowed)
        if tolerance is None:
            names = [n for n in pair[0] if n in names or (_whole(n, pair) and np.any(pair[0][n] != pair[1][n]))]
        before.append(pair)
        if names:
            after = [_pair(step + 1 + n, *more) for n, more in enumerate(islice(trees, AROUND)) if None not in more]
            window = Window(step, names, before, after, np.array(distances))
            return Report(at(step, names[0], *pair), tuple(names), recognize(window), np.array(distances), allowed)
        before = before[-AROUND:]
    if not distances:
        raise ValueError("there is nothing to compare: both trajectories are empty")
    return Report(None, (), rounding(np.array(distances)), np.array(distances), allowed)


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


def rounding(distances: npt.NDArray[np.float64]) -> Pattern:
    """Return how the distance of two trainings that are the same grew with the steps."""
    worst = float(distances.max())
    if worst == 0:
        return Pattern("equal", "equal to the last bit")
    (moved,) = np.nonzero(distances[1:] > 0)
    words = f"rounding alone, at most {worst:.1e} (at step {int(distances.argmax())})"
    if len(moved) >= 10:
        power = np.polyfit(np.log(moved + 1.0), np.log(distances[1:][moved]), 1)[0]
        words += f", growing as the steps to the power {power:.1f}"
    return Pattern("rounding", words)


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


def _pair(step: int, first: Tree | None, second: Tree | None) -> tuple[Leaves, Leaves]:
    if first is None or second is None:
        short, long = ("first", "second") if first is None else ("second", "first")
        raise ValueError(f"the {short} trajectory ends before step {step}, the {long} one goes on")
    pair = flatten(first, f"first, step {step}"), flatten(second, f"second, step {step}")
    if not any(leaf.size for leaf in pair[0].values()):
        raise ValueError(f"step {step}: there is nothing to compare, the first tree has no numbers")
    check_alike(*pair, f"step {step}")
    return pair


def _allowed(pair: tuple[Leaves, Leaves]) -> float:
    leaves = [leaf for tree in pair for name, leaf in tree.items() if not _whole(name, pair)]
    coarsest = max((_eps(leaf.dtype) for leaf in leaves), default=0.0)
    largest = max((float(np.max(np.abs(leaf[np.isfinite(leaf)]), initial=0)) for leaf in leaves), default=0.0)
    return min(ROUNDINGS * coarsest, max(FRACTION, HALF_ROUNDINGS * coarsest)) * largest


def _whole(name: str, pair: tuple[Leaves, Leaves]) -> bool:
    """Say whether a leaf holds whole numbers in both trees: they know no rounding, and set no scale for what does."""
    return all(tree[name].dtype.kind in "iub" for tree in pair)


def _eps(dtype: np.dtype) -> float:
    if dtype.name == "bfloat16":  # NumPy's finfo does not know it
        return 2.0**-7
    return float(np.finfo(dtype).eps) if dtype.kind == "f" else 0.0


def _not_finite(step: int, pair: tuple[Leaves, Leaves]) -> tuple[Difference, str] | None:
    """Return the first element that is NaN or infinite, and where: nothing after it can be compared."""
    for name in pair[0]:
        broken = [~np.isfinite(tree[name].astype(float)) for tree in pair]
        if not np.any(broken):
            continue
        place = tuple(int(i) for i in np.unravel_index(int(np.argmax(broken[0] | broken[1])), broken[0].shape))
        which = [word for word, mine in zip(("first", "second"), broken, strict=True) if mine[place]]
        who = "both trainings" if len(which) == 2 else f"the {which[0]} training alone"
        values = [float(tree[name][place]) for tree in pair]
        words = f"NaN or infinity began at step {step} in {name}{list(place)}, in {who}"
        return Difference(step, name, place, *values), words
    return None

"""The pairs of trees of two trajectories, step by step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, zip_longest
from pathlib import Path

from jaxopt_study.parity.compared import Pair
from jaxopt_study.parity.files import load_trajectory
from jaxopt_study.parity.quantities import split
from jaxopt_study.parity.seen import Extras, Seen
from jaxopt_study.parity.trees import Tree, check_alike, flatten

Trajectory = Iterable[Tree] | str | Path
"""Trees, the initial parameters first, or a `.npz` file."""


class Pairs:
    """The pairs of trees of two trajectories, step by step; one may look ahead."""

    def __init__(self, first: Trajectory, second: Trajectory, steps: int | None) -> None:
        # What a generator yields may be live arrays, which the next step changes.
        self._copied = [not isinstance(trajectory, Sequence | Path) for trajectory in (first, second)]
        self._trees = pairs_of(first, second, steps)
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
        for pair, extras in self._trees:
            self.seen.add(pair, extras)
            first, second = (
                {name: leaf.copy() for name, leaf in tree.items()} if copied else tree
                for tree, copied in zip(pair, self._copied, strict=True)
            )
            yield first, second


def pairs_of(
    first: Trajectory, second: Trajectory, steps: int | None = None
) -> Iterator[tuple[Pair, tuple[Extras, Extras]]]:
    """Yield the parameters of each step of both trajectories, and what else was recorded.

    Raises:
        ValueError: A trajectory is none, or shorter than the other, or two trees differ in names or shapes.
    """
    files = isinstance(first, str | Path) and isinstance(second, str | Path)
    names = (str(first), str(second)) if files else ("the first training", "the second training")
    for step, (a, b) in enumerate(zip_longest(_trees(first, steps), _trees(second, steps))):
        yield _pair(step, a, b, names)


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


def _pair(
    step: int, first: Tree | None, second: Tree | None, names: tuple[str, str]
) -> tuple[Pair, tuple[Extras, Extras]]:
    """Return the parameters of a step, and what else was recorded; `names` are those of the two trainings."""
    if first is None or second is None:
        short, long = names if first is None else names[::-1]
        raise ValueError(f"{short} ends before step {step}, and {long} goes on")
    (mine, extras), (other, others) = (
        split(flatten(tree, f"{which}, step {step}")) for which, tree in zip(names, (first, second), strict=True)
    )
    if not any(leaf.size for leaf in mine.values()):
        raise ValueError(f"step {step}: there is nothing to compare, {names[0]} has no numbers")
    check_alike(mine, other, f"step {step}", names)
    return (mine, other), (extras, others)

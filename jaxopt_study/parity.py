"""Where two trainings part: the first step, leaf and element. It needs NumPy alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Tree = Mapping[str, Any]


@dataclass(frozen=True)
class Difference:
    """The first element that differs beyond tolerance.

    Attributes:
        step: Counted from 0.
        leaf: The leaf's names from the root, joined by slashes.
        index: The element of the leaf, the one with the largest difference there.
    """

    step: int
    leaf: str
    index: tuple[int, ...]
    first: float
    second: float

    def __str__(self) -> str:
        ratio = self.first / self.second if self.second else float("nan")
        place = f"{self.leaf}{list(self.index)}"
        return f"step {self.step}, {place}: {self.first!r} against {self.second!r}, ratio {ratio:.9g}"


def first_difference(first: Iterable[Tree], second: Iterable[Tree], tolerance: float) -> Difference | None:
    """Return the first difference of two paths of parameter trees, or None.

    Args:
        first: A tree of NumPy arrays for each step.
        second: The other path, with the same names and shapes.
        tolerance: The largest absolute difference allowed.

    Raises:
        ValueError: The trees' names or shapes differ; the message says which.
    """
    for step, (tree, other) in enumerate(zip(first, second, strict=True)):
        leaves, others = dict(_leaves(tree)), dict(_leaves(other))
        if leaves.keys() != others.keys():
            raise ValueError(f"step {step}: only one tree has {', '.join(sorted(leaves.keys() ^ others.keys()))}")
        for name in leaves:
            difference = _compare(step, name, leaves[name], others[name], tolerance)
            if difference is not None:
                return difference
    return None


def _leaves(tree: Tree, path: str = "") -> Iterator[tuple[str, npt.NDArray[Any]]]:
    for name, node in sorted(tree.items()):
        if isinstance(node, Mapping):
            yield from _leaves(node, f"{path}{name}/")
        else:
            yield path + name, np.asarray(node)


def _compare(
    step: int, name: str, leaf: npt.NDArray[Any], other: npt.NDArray[Any], tolerance: float
) -> Difference | None:
    if leaf.shape != other.shape:
        raise ValueError(f"step {step}: {name} has shape {leaf.shape} in one tree and {other.shape} in the other")
    apart = np.abs(leaf.astype(float) - other.astype(float))
    apart = np.where(np.isnan(apart) & ~(np.isnan(leaf) & np.isnan(other)), np.inf, apart)
    if not np.any(apart > tolerance):
        return None
    index = np.unravel_index(int(np.nanargmax(apart)), leaf.shape)
    place = tuple(int(i) for i in index)
    return Difference(step, name, place, float(leaf[place]), float(other[place]))

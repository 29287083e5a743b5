"""The first element at which two paths of parameters differ."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from jaxopt_study.parity.trees import Leaves, Tree, check_alike, distance, flatten, shown


@dataclass(frozen=True)
class Difference:
    """The first element that differs beyond tolerance.

    Attributes:
        step: Counted from 0, the first tree given.
        leaf: The leaf's names from the root, joined by slashes.
        index: The element of the leaf, the one with the largest difference there.
        first: Its value in the first path.
        second: Its value in the second.
    """

    step: int
    leaf: str
    index: tuple[int, ...]
    first: float
    second: float

    def __str__(self) -> str:
        ratio = self.first / self.second if self.second else float("nan")
        place = f"{self.leaf}{list(self.index)}"
        return f"step {self.step}, {shown(place)}: {self.first!r} against {self.second!r}, ratio {ratio:.9g}"


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
        leaves, others = flatten(tree, f"step {step}"), flatten(other, f"step {step}")
        check_alike(leaves, others, f"step {step}")
        found = differing(leaves, others, tolerance)
        if found:
            return at(step, found[0], leaves, others)
    return None


def differing(first: Leaves, second: Leaves, tolerance: float) -> list[str]:
    """Return the names of the leaves that differ by more than `tolerance`."""
    return [name for name in first if np.any(distance(first[name], second[name]) > tolerance)]


def at(step: int, name: str, first: Leaves, second: Leaves) -> Difference:
    """Return the largest difference of one leaf."""
    a, b = first[name], second[name]
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(distance(a, b))), a.shape))
    return Difference(step, name, index, float(a[index]), float(b[index]))

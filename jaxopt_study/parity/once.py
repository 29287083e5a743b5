"""Two trees compared once: gradients, activations, parameters after a conversion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxopt_study.parity.difference import Difference, at
from jaxopt_study.parity.rounding import Scale, precision, whole
from jaxopt_study.parity.trees import Tree, check_alike, distance, flatten, shown


@dataclass(frozen=True)
class Comparison:
    """The leaves in which two trees differ.

    Attributes:
        differences: The largest difference of each leaf that differs, the most beyond its tolerance first.
        leaves: How many leaves were compared.
    """

    differences: tuple[Difference, ...]
    leaves: int

    @property
    def same(self) -> bool:
        """Whether no leaf differs beyond tolerance."""
        return not self.differences

    def __str__(self) -> str:
        if self.same:
            return f"the same in {self.leaves} leaves"
        lines = [
            f"{d.leaf}{list(d.index)}: {d.first!r} against {d.second!r}, which differ by {abs(d.first - d.second):.2e}"
            for d in self.differences
        ]
        return "\n".join([f"{len(lines)} of {self.leaves} leaves differ:", *map(shown, lines)])


def compare(first: Tree, second: Tree, *, tolerance: float | None = None) -> Comparison:
    """Compare two trees, leaf by leaf.

    Args:
        first: Arrays of NumPy, JAX or PyTorch in any nesting of mappings, lists, tuples and dataclasses.
        second: The other tree, with the same names and shapes.
        tolerance: The largest absolute difference allowed; by default 8 units in the last place of the leaf's largest
            element, in the coarser of the two types (2 units in types of 16 bits). Whole numbers must be equal.

    Raises:
        ValueError: The trees' names or shapes differ, there is nothing to compare, or `tolerance` is below 0 or not
            finite.

    Example:
        >>> import numpy as np
        >>> first, second = {"w": np.array([1.0, 2.0]), "b": np.zeros(2)}, {"w": np.array([1.0, 2.1]), "b": np.zeros(2)}
        >>> print(compare(first, second))
        1 of 2 leaves differ:
        w[1]: 2.0 against 2.1, which differ by 1.00e-01
    """
    if tolerance is not None and not 0 <= tolerance < np.inf:
        raise ValueError(f"tolerance must be a finite number of at least 0, not {tolerance!r}")
    pair = flatten(first, "the first tree"), flatten(second, "the second tree")
    check_alike(*pair, "the trees")
    if not any(leaf.size for leaf in pair[0].values()):
        raise ValueError("there is nothing to compare: the first tree has no numbers")
    found = []
    for name, leaf in pair[0].items():
        other = pair[1][name]
        scale = Scale().after(None, (leaf, other))
        allowed = 0.0 if whole(name, pair) else scale.allowed(precision(leaf.dtype, other.dtype))
        d = float(distance(leaf, other).max(initial=0))
        if d > (allowed if tolerance is None else tolerance):
            found.append((d / allowed if allowed else np.inf, at(0, name, *pair)))
    found.sort(key=lambda each: -each[0])
    return Comparison(tuple(difference for _, difference in found), len(pair[0]))

"""What differs before the first step."""

from __future__ import annotations

from itertools import permutations

import numpy as np

from jaxopt_study.parity.trees import Leaf
from jaxopt_study.parity.window import Window


def not_copied(window: Window) -> str:
    """One training's arrays are the same at each step: they are one array, which the steps change."""
    pairs = [*window.before, *window.after]
    if len(pairs) < 3:
        return ""
    for who, mine, other in (("second", 1, 0), ("first", 0, 1)):
        trees = [pair[mine] for pair in pairs]
        shared = all(np.shares_memory(leaf, trees[1][name]) for name, leaf in trees[0].items() if leaf.size)
        moving = any(not np.array_equal(leaf, pairs[1][other][name]) for name, leaf in pairs[0][other].items())
        if shared and moving:
            return f"the {who} training gives one array for all steps, so all hold its last values: copy at each step"
    return ""


def transposed(window: Window) -> str:
    """A leaf is the other's with its axes in another order."""
    for name in window.leaves:
        a, b = (tree[name] for tree in window.before[-1])
        for axes in permutations(range(a.ndim)) if 2 <= a.ndim <= 4 else ():
            moved = a.transpose(axes)
            if axes != tuple(range(a.ndim)) and moved.shape == b.shape and _equal(moved, b):
                how = "the transpose of the other training's" if a.ndim == 2 else f"the other's with the axes {axes}"
                return f"{name} is {how} from the start"
    return ""


def reordered(window: Window) -> str:
    """A leaf holds the other's values in another order."""
    for name in window.leaves:
        a, b = (np.sort(tree[name], axis=None) for tree in window.before[-1])
        if a.size >= 5 and np.unique(a).size > a.size // 2 and _equal(a, b):
            return f"{name} holds the other training's values in another order from the start: another layout"
    return ""


def different(window: Window) -> str:
    """None of these."""
    which = ", ".join(window.leaves)
    rest = "; the other leaves are equal" if window.partial else ""
    return f"{which} differs before the first step{rest}"


def _equal(a: Leaf, b: Leaf) -> bool:
    return bool(np.allclose(a.astype(float), b.astype(float), rtol=1e-6, atol=0))

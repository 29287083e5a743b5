"""How much two right trainings may differ by, at each leaf and step: from the leaf's own size, movement and type.

Three things round. The initial parameters are cast. Each step rounds the sum of parameter and update, often in the same
direction. Each update is computed with rounding, and by other formulas: optax takes Adam's bias correction in float32,
where 1 - 0.999 is known to 5 digits. The constants were measured on `tests/test_locator_trainings.py`, see there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxopt_study.parity.trees import Leaf, Leaves, distance
from jaxopt_study.parity.window import factor

UNITS, SHORT_UNITS = 8, 2
"""Units in the last place of a leaf's largest element; of types of 16 bits."""

STEPS_PER_UNIT = 8
"""After so many steps, `UNITS` more: one unit per step. 0.25 were measured, AdamW's decay of parameters near 1."""

UNITS_OF_UPDATE = 512
"""Units in the last place of all that the leaf has moved. 56 were measured at Adam's first step, in the bias alone."""

FRACTION = 0.01
"""But no more than this fraction of what it has moved; and of its size, in types in which that is more than 2 units."""

GROWN_UNITS = 4096
"""Where rounding grows by itself, two trainings are the same up to this many units of a leaf's largest element."""

SEVERAL = 16
"""A tree must hold so many numbers of bfloat16 to be one of bfloat16."""

FLOAT32, BFLOAT16 = float(np.finfo(np.float32).eps), 2.0**-7


class Scale(NamedTuple):
    """What the distances of one leaf are compared with: the larger of the two trainings' figures.

    Attributes:
        largest: Its largest element so far.
        moved: The sum of its largest updates.
        steps: The steps made.
    """

    largest: float = 0.0
    moved: float = 0.0
    steps: int = 0

    def allowed(self, unit: float) -> float:
        """Return the largest distance that rounding explains, for numbers of this relative precision."""
        short = unit > 1e-5
        size = (SHORT_UNITS if short else UNITS) * unit * (1 + self.steps / STEPS_PER_UNIT)
        size = min(size, max(FRACTION, SHORT_UNITS * unit))
        return size * self.largest + min(UNITS_OF_UPDATE * unit, FRACTION) * self.moved

    def after(self, before: tuple[Leaf, Leaf] | None, now: tuple[Leaf, Leaf]) -> Scale:
        """Return the scale a step later."""
        largest = max(self.largest, *(peak(leaf) for leaf in now))
        if before is None:
            return Scale(largest)
        moved = max(peak(new.astype(float) - old) for new, old in zip(now, before, strict=True))
        return Scale(largest, self.moved + moved, self.steps + 1)


def precision(*dtypes: np.dtype) -> float:
    """Return the unit in the last place of 1 in the coarsest of some types."""
    return max(_eps(dtype) for dtype in dtypes)


def whole(name: str, pair: tuple[Leaves, Leaves]) -> bool:
    """Say whether a leaf holds whole numbers in both trees: they know no rounding, and set no scale for what does."""
    return all(tree[name].dtype.kind in "iub" for tree in pair)


def held_precision(tree: Leaves) -> float:
    """Return the precision of the numbers of a tree, whatever its arrays' type: of bfloat16, float32 or 0 for finer.

    A file holds numbers of bfloat16 as float32, and a tree of float32 may have been cast to float64.
    """
    leaves = [leaf for leaf in tree.values() if leaf.dtype.kind == "f"]
    with np.errstate(over="ignore"):
        short = [leaf.astype(np.float32) for leaf in leaves]
    if not all(np.array_equal(s, leaf) for s, leaf in zip(short, leaves, strict=True)):
        return 0.0
    if not any(np.any(leaf.view(np.uint32) & 0xFFFF) for leaf in short):
        # A few simple numbers, such as 1, are numbers of any type.
        several = sum(np.unique(leaf).size for leaf in short) >= SEVERAL
        return BFLOAT16 if several else FLOAT32
    return FLOAT32 if leaves else 0.0


def float32_factor(before: tuple[Leaves, Leaves], now: tuple[Leaves, Leaves]) -> float:
    """Return by how much a learning rate that was rounded to float32 is off, relative to itself; else 0.

    The updates of some leaves differ by one factor then, very near 1, in all elements alike. Other leaves may differ by
    a mistake at the same step.
    """
    found = []
    for name, leaf in now[0].items():
        first, second = ((now[i][name].astype(float) - before[i][name]).ravel() for i in (0, 1))
        c, _ = factor(first, second)
        apart = float(np.linalg.norm(second - first))
        near = 1e-4 * FLOAT32 < abs(c - 1) <= 4 * FLOAT32
        if leaf.size >= 3 and near and np.linalg.norm(second - c * first) <= 0.02 * apart:
            found.append(c - 1)
    one = bool(found) and max(found) - min(found) <= 0.05 * max(abs(off) for off in found)
    return found[0] if one else 0.0


def unrelated(
    name: str, steps: list[tuple[Leaves, Leaves]], cosine: float = 0.9, least: int = 3, ratio: float = 0.1
) -> bool:
    """Say whether the two updates of a leaf have nothing to do with each other, over some steps.

    So it is where the true gradient is 0 and rounding is all there is: a bias before a normalization, or of the keys of
    attention. Adam makes full steps of it. Over 12 steps their cosine was measured at -0.79 to 0.67 there, and at 0.98
    and more in running means of the weights that were wrong, which no other leaf follows either.

    Args:
        name: The leaf.
        steps: Pairs of trees, one more than steps.
        cosine: The largest cosine of unrelated updates.
        least: The least number of single steps that must be unrelated.
        ratio: The least ratio of their sizes.
    """
    first, second = (np.diff([pair[i][name].astype(float).ravel() for pair in steps], axis=0) for i in (0, 1))
    sizes = sorted(float(np.linalg.norm(update)) for update in (first, second))
    if sizes[0] == 0 or first.size < 8:
        return False
    alike = float(np.sum(first * second)) / (sizes[0] * sizes[1])
    # One or two steps alone may be a jump of one training, made by something that is no update.
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    apart = np.abs(np.sum(first * second, axis=1)) <= 0.9 * lengths
    return abs(alike) <= cosine and sizes[0] >= ratio * sizes[1] and int(apart.sum()) >= least


def grows(excess: list[float], moved: list[float]) -> bool:
    """Say whether distances that pass what rounding explains have grown there by themselves, as in chaotic training.

    A mistake moves the distance in one step, or from the start in proportion to what the parameters move.

    Args:
        excess: The distance at each step, divided by what rounding explains.
        moved: What the leaf had moved at each step.
    """
    step = len(excess) - 1
    half = step // 2
    if half < 4 or min(excess[half:]) == 0 or moved[half] == 0:
        return False
    recent = np.array(excess[half:])
    smooth = bool(np.all(recent[1:] <= 3 * recent[:-1]))
    # `excess` is already divided by something that grows as the movement does.
    power = np.log(recent[-1] / recent[0]) / np.log(moved[step] / moved[half])
    return smooth and bool(power >= 1.5)


def peak(leaf: Leaf) -> float:
    """Return the size of a leaf's largest element, of any type."""
    return (
        float(np.max(np.abs(leaf), initial=0))
        if leaf.dtype.kind == "f"
        else float(distance(leaf, 0 * leaf).max(initial=0))
    )


def _eps(dtype: np.dtype) -> float:
    if dtype.name == "bfloat16":  # NumPy's finfo does not know it
        return BFLOAT16
    return float(np.finfo(dtype).eps) if dtype.kind == "f" else 0.0

"""The steps of two trainings, compared one after the other: which leaves differ by more than rounding explains."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from jaxopt_study.parity.difference import Difference
from jaxopt_study.parity.patterns import Pattern
from jaxopt_study.parity.report import Report
from jaxopt_study.parity.rounding import (
    FLOAT32,
    GROWN_UNITS,
    Scale,
    float32_factor,
    grows,
    held_precision,
    precision,
    unrelated,
    whole,
)
from jaxopt_study.parity.trees import Leaf, Leaves, distance
from jaxopt_study.parity.window import Window, factor, sources

Pair = tuple[Leaves, Leaves]

AROUND = 12
"""Steps kept before the first difference, and looked at after it, to tell what it looks like."""

FAINT_NOTE = "Left out, since their gradient was rounding at some step:"

FEW = 8
"""Of a leaf with at least so many elements, at most half may be left out."""

FOLLOWED = 0.02
"""The next updates of other leaves differ by less than this, where a leaf with an effect differs by one update."""


class Compared:
    """What is known of two trainings after some steps.

    Attributes:
        before: The last pairs of trees, the step itself last.
        distances: The largest difference at each step.
        grown: The step from which rounding grows by itself, or None.
    """

    def __init__(self, tolerance: float | None) -> None:
        self.before: list[Pair] = []
        self.distances: list[float] = []
        self.grown: int | None = None
        self._tolerance = tolerance
        self._scales: dict[str, Scale] = {}
        self._least_unit = 0.0
        self._left_out: list[str] = []
        self._faint: Mapping[str, Leaf] = {}
        self._masked: set[str] = set()
        self._notes: list[str] = []
        self._excess: list[float] = []
        self._moved: list[float] = []
        self._now: dict[str, tuple[float, float]] = {}

    def differing(
        self, pair: Pair, ahead: Callable[[int], list[Pair]], faint: Mapping[str, Leaf] | None = None
    ) -> list[str]:
        """Take the next step, and return the leaves that differ by more than rounding explains.

        Args:
            pair: The trees of the step.
            ahead: Returns the pairs of the next steps.
            faint: The elements whose gradient was rounding; a rule such as Adam's makes whole steps of it.
        """
        self._faint = faint or {}
        last = self.before[-1] if self.before else None
        if len(self.distances) == 1:  # initial parameters are often drawn in float32 where the training is in float64
            self._least_unit, self._notes = 0.0, []
        self.before = [*self.before[-AROUND:], pair]
        for name in pair[0]:
            before = (last[0][name], last[1][name]) if last else None
            self._scales[name] = self._scales.get(name, Scale()).after(before, (pair[0][name], pair[1][name]))
        names = self._beyond(pair)
        self.distances.append(max(d for d, _ in self._now.values()))
        if self._tolerance is not None or not names:
            self._remember()
            return names
        for explain in (self._as_faint, self._as_float32, self._as_noise):
            if explain(pair, ahead):
                names = self._beyond(pair)
        self._remember()
        return self._as_growth(names)

    def window(self, names: list[str], after: list[Pair]) -> Window:
        """Return the steps around the last one, in those of the leaves `names` that tell why they differ.

        Beside a leaf that is wrong, one whose updates are rounding differs more, and tells nothing; a running mean of a
        leaf only follows it.
        """
        around = [*self.before[-2:], *after]
        pair = self.before[-1]
        others = {n: allowed for n, (_, allowed) in self._now.items() if n not in names and not whole(n, pair)}
        if len(self.before) > 1:
            # Later two right updates differ as well, where the parameters do.
            noise = [name for name in names if unrelated(name, around[:6], 0.8, 1, 0.0)]
            size = {name: self.before[-1][0][name].size for name in names}
            # Where most of the elements are unrelated, the batches are.
            few = 3 * sum(size[name] for name in noise) <= sum(size.values())
            names = [name for name in names if name not in noise or not few]
            names = sources(names, around[:5]) or names
        allowed = {name: self._now[name][1] for name in names}
        return Window(len(self.distances) - 1, names, self.before, after, allowed, others)

    def most(self, names: list[str]) -> str:
        """Return the leaf that differs most, compared with its size and movement."""
        least = 1e-3 * max(self._scales[name].moved for name in names) + np.finfo(float).tiny

        def relative(name: str) -> float:
            scale = self._scales[name]
            return self._now[name][0] / (scale.largest + scale.moved + least)

        return max(names, key=relative)

    def nearest(self) -> str:
        """Return the leaf that is nearest to what is allowed there."""
        return max(self._now, key=lambda name: self._now[name][0] / max(self._now[name][1], np.finfo(float).tiny))

    def pattern(self) -> Pattern | None:
        """Return the pattern of rounding that has grown too far, where that is what the last step shows."""
        if self.grown is None or self._jumps():
            return None
        return Pattern(
            "plain rounding growth",
            f"the distance leaves rounding at step {self.grown} and grows without a jump, by a factor of "
            f"{self._excess[-1] / self._excess[self.grown]:.2g} since: sensitive training, in which curves cannot tell "
            "two optimizers from each other; give both the same parameters and gradients at each step instead",
        )

    @property
    def sensitive(self) -> bool:
        """Whether rounding has not hidden small differences yet, and the user left the tolerance to us."""
        return self.grown is None and self._tolerance is None

    def report(
        self, difference: Difference | None, leaves: tuple[str, ...], pattern: Pattern, allowed: float | None = None
    ) -> Report:
        """Return the report on the steps so far; `allowed` is known of the parameters alone."""
        near = difference.leaf if difference else self.nearest() if self._now else ""
        if allowed is None:
            allowed = self._now[near][1] if near in self._now else self._tolerance or 0.0
        return Report(difference, leaves, pattern, np.array(self.distances), allowed, tuple(self._notes))

    def _beyond(self, pair: Pair) -> list[str]:
        """Measure each leaf, and return the names of those that are beyond what is allowed."""
        self._now = {}
        for name in pair[0]:
            if name not in self._left_out:
                self._now[name] = float(self._distance(name, pair).max(initial=0)), self._allowed(name, pair)
        return [name for name, (d, allowed) in self._now.items() if d > allowed]

    def _distance(self, name: str, pair: Pair) -> Leaf:
        found = distance(pair[0][name], pair[1][name])
        return np.where(self._faint[name], 0.0, found) if name in self._masked else found

    def _allowed(self, name: str, pair: Pair) -> float:
        if self._tolerance is not None:
            return self._tolerance
        if whole(name, pair):
            return 0.0
        return self._scales[name].allowed(self._unit(name, pair))

    def _unit(self, name: str, pair: Pair) -> float:
        return max(precision(*(tree[name].dtype for tree in pair)), self._least_unit)

    def _remember(self) -> None:
        if self._now:
            name = self.nearest()
            d, allowed = self._now[name]
            self._excess.append(d / allowed if allowed else 0.0)
            self._moved.append(self._scales[name].moved)

    def _as_float32(self, pair: Pair, ahead: Callable[[int], list[Pair]]) -> bool:
        """Whether the numbers, or the learning rate, are those of a shorter type than the arrays."""
        del ahead
        unit = max(self._unit(name, pair) for name in self._now)
        held = {held_precision(tree): which for which, tree in zip(("second", "first"), pair[::-1], strict=True)}
        coarsest = max(held)
        step = len(self.distances) - 1
        if coarsest > unit:
            kind = "bfloat16" if coarsest > FLOAT32 else "float32"
            self._least_unit = coarsest
            self._notes.append(
                f"The {held[coarsest]} training's numbers are all numbers of {kind}, so they are compared as such."
            )
            return True
        off = float32_factor(self.before[-2], pair) if len(self.before) > 1 and unit < FLOAT32 else 0.0
        if not off:
            return False
        self._least_unit = FLOAT32
        self._notes.append(
            f"At step {step} the updates differ by one factor, 1 {'+' if off > 0 else '-'} {abs(off):.1e}: a learning "
            "rate rounded to float32, as optax computes its schedules. From there on the trainings are compared as "
            "float32."
        )
        return True

    def _as_faint(self, pair: Pair, ahead: Callable[[int], list[Pair]]) -> bool:
        """Whether leaves differ only in elements whose gradient was rounding; those are left out from here on."""
        del ahead
        masked = []
        for name, (d, allowed) in self._now.items():
            if d > allowed and name in self._faint and name not in self._masked:
                apart = self._distance(name, pair) > allowed
                if not np.any(apart & ~self._faint[name]):
                    masked.append(name)
        sizes = {name: (int(self._faint[name].sum()), self._faint[name].size) for name in self._masked | set(masked)}
        if not masked or any(2 * count > size for count, size in sizes.values() if size >= FEW):
            return False
        self._masked.update(masked)
        elements = ", ".join(f"{count} of {size} in {name}" for name, (count, size) in sizes.items())
        self._notes = [note for note in self._notes if not note.startswith(FAINT_NOTE)]
        self._notes.append(f"{FAINT_NOTE} {elements}.")
        return True

    def _as_noise(self, pair: Pair, ahead: Callable[[int], list[Pair]]) -> bool:
        """Whether leaves differ whose updates are rounding alone; they are left out from here on."""
        names = [name for name, (d, allowed) in self._now.items() if d > allowed]
        others = [name for name in self._now if name not in names and not whole(name, pair)]
        sizes = [sum(pair[0][name].size for name in some) for some in (names, others)]
        if len(self.before) < 2 or not names or 2 * sizes[0] > sizes[1]:
            return False
        window = [*self.before[-2:], *ahead(AROUND)]
        if not all(unrelated(name, window) for name in names) or self._followed(window[1:3], others):
            return False
        self._left_out += names
        self._notes.append(
            f"Left out: {', '.join(names)}. The two trainings' updates there are unrelated from step "
            f"{len(self.distances) - 1} on, and have no effect on the other leaves at the next step. So they are "
            "rounding: the gradient is 0, as that of a bias before a normalization."
        )
        return True

    def _followed(self, steps: list[Pair], others: list[str]) -> bool:
        """Whether other leaves differ by a little at the next step, as they do where a leaf with an effect differs."""
        (last, now) = steps
        slightly = False
        for name in others:
            mine = now[0][name], now[1][name]
            scale = self._scales[name].after((last[0][name], last[1][name]), mine)
            if distance(*mine).max(initial=0) > scale.allowed(self._unit(name, now)):
                moved = [float(np.linalg.norm(now[i][name].astype(float) - last[i][name])) for i in (0, 1)]
                apart = float(np.linalg.norm(mine[0].astype(float) - mine[1]))
                if apart > FOLLOWED * max(moved):
                    return False
                slightly = True
        return slightly

    def _as_growth(self, names: list[str]) -> list[str]:
        """Return no names where rounding has grown by itself, and not too far."""
        if not names or any(whole(name, self.before[-1]) for name in names):
            return names
        if self.grown is None:
            window = Window(len(self.distances) - 1, names, self.before, [])
            if not grows(self._excess, self._moved) or _one_factor(window):
                return names
            self.grown = len(self.distances) - 1
        if self._jumps():
            return names
        pair = self.before[-1]
        return [
            name
            for name in names
            if self._now[name][0] > GROWN_UNITS * self._unit(name, pair) * self._scales[name].largest
        ]

    def _jumps(self) -> bool:
        """Whether the last step's distance is not a small multiple of those before."""
        return self._excess[-1] > 4 * max(self._excess[-4:-1], default=0.0)


def _one_factor(window: Window) -> bool:
    """Whether one factor explains most of what the updates differ by."""
    a, b = window.updates[window.now]
    c, _ = factor(a, b)
    return len(a) >= 5 and bool(np.linalg.norm(b - c * a) <= 0.5 * np.linalg.norm(b - a))

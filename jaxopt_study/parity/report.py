"""What the locator found, and in which words it says so."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jaxopt_study.parity.difference import Difference
from jaxopt_study.parity.patterns import Pattern
from jaxopt_study.parity.trees import shown


@dataclass(frozen=True)
class Report:
    """What the locator found.

    Attributes:
        difference: The first difference beyond tolerance, or None. Its step counts from 0, the initial parameters. Its
            leaf is the one that differs most, compared with what rounding explains there.
        leaves: All leaves that differ at that step.
        pattern: What the difference looks like; of two equal trainings, how rounding grew.
        distances: The largest difference at each step compared.
        tolerance: The largest difference allowed at the last step compared, in the leaf that `difference` names, or in
            the leaf that came nearest to it.
        notes: What else the reader must know, a sentence each: leaves that were left out, numbers held as float32.
    """

    difference: Difference | None
    leaves: tuple[str, ...]
    pattern: Pattern
    distances: npt.NDArray[np.float64]
    tolerance: float
    notes: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether no element differs beyond tolerance."""
        return self.difference is None

    def __str__(self) -> str:
        return shown(" ".join([self._found(), *self.notes]))

    def _found(self) -> str:
        if self.difference is None:
            steps = len(self.distances) - 1
            what = (
                f"the same over {steps} step{'s' if steps > 1 else ''}"
                if steps
                else "the initial parameters are the same, no step was compared"
            )
            return f"{what} (tolerance {self.tolerance:.1e}): {self.pattern.words}."
        others = [name for name in self.leaves if name != self.difference.leaf]
        also = f"; also in {', '.join(others)}" if others else "; in no other leaf"
        found = f"first difference: {self.difference}{also} (tolerance {self.tolerance:.1e} there)."
        if not self.pattern.candidates:
            return f"{found} It looks like {self.pattern.name}: {self.pattern.words}."
        candidates = "; ".join(self.pattern.candidates)
        words = f"The cause is unknown: {self.pattern.words}."
        return f"{found} {words} Candidates: {candidates}. To tell: {self.pattern.test}."


def rounding(distances: npt.NDArray[np.float64], grown: int | None = None) -> Pattern:
    """Return how the distance of two trainings that are the same grew with the steps; `grown`: by itself from there."""
    worst = float(distances.max())
    if worst == 0:
        return Pattern("equal", "equal to the last bit")
    (moved,) = np.nonzero(distances[1:] > 0)
    words = f"rounding alone, at most {worst:.1e} (at step {int(distances.argmax())})"
    if grown is not None:
        words = (
            f"at most {worst:.1e} (at step {int(distances.argmax())}); from step {grown} on rounding grows by itself, "
            "without a jump, and hides mistakes that are smaller"
        )
    elif len(moved) >= 10:
        power = np.polyfit(np.log(moved + 1.0), np.log(distances[1:][moved]), 1)[0]
        words += f", growing as the steps to the power {power:.1f}"
    return Pattern("rounding", words)

"""The axes of charts: their titles with units, the part of the numbers that they show, and ticks such as "1 µs"."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

UNITS: dict[str, tuple[tuple[float, str], ...]] = {
    "": (),
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")),
    "thousands": ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")),
    "B": ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB")),
}
"""A unit -> its multiples, the largest first."""
MARGIN = 0.07
"""The part of an axis that is left free at each end."""
FEW_DECADES, MANY_DECADES = 2.5, 8
"""Over fewer decades than the first, ticks stand at 1, 2 and 5; over more than the second, not at each power of 10."""


@dataclass(frozen=True)
class Axis:
    """An axis of a chart.

    Attributes:
        title: What it shows, with the unit where the ticks have none.
        unit: One of `UNITS`, which the ticks carry.
        log: Whether it is logarithmic; numbers that are not positive are then not drawn.
        ends: The least and the largest number that are shown; by default, those of the rows.
        names: What the numbers 0, 1, 2 and so on stand for, where they are places in a list.
    """

    title: str
    unit: str = ""
    log: bool = False
    ends: tuple[float | None, float | None] = (None, None)
    names: tuple[str, ...] = ()

    def shows(self, value: Any) -> bool:
        """Say whether a number can be drawn here."""
        if not isinstance(value, int | float) or not math.isfinite(value) or (self.log and value <= 0):
            return False
        low, high = self.ends
        return (low is None or value >= low) and (high is None or value <= high)

    def domain(self, values: Iterable[Any]) -> tuple[float, float]:
        """Return what the axis reaches from and to, with a margin."""
        shown = [float(value) for value in values if self.shows(value)] or [1.0]
        low, high = (max(min(shown), 1e-300), max(shown)) if self.log else (min(shown), max(shown))
        low, high = (ours if ours is not None else theirs for ours, theirs in zip(self.ends, (low, high), strict=True))
        if self.log:
            factor = max((high / low) ** MARGIN, 1.05)
            return low / factor, high * factor
        free = MARGIN * (high - low) or 0.5
        return low - free, high + free

    def ticks(self, domain: tuple[float, float]) -> list[float] | None:
        """Return where an axis has ticks; one that is linear is left to the library."""
        if self.names:
            return [float(place) for place in range(len(self.names))]
        if not self.log:
            return None
        if self.unit == "B":
            exponents = range(math.ceil(math.log2(domain[0])), math.floor(math.log2(domain[1])) + 1)
            return [2.0**exponent for exponent in exponents]
        first, last = (math.log10(end) for end in domain)
        steps = (1, 2, 5) if last - first < FEW_DECADES else (1,)
        every = max(1, math.ceil((last - first) / MANY_DECADES))
        powers = range(math.floor(first), math.ceil(last) + 1)
        found = [step * 10.0**power for power in powers if power % every == 0 for step in steps]
        return [tick for tick in found if domain[0] <= tick <= domain[1]]

    @property
    def label(self) -> str:
        """The expression with which Vega writes a tick: "20 µs"."""
        if self.names:
            return f"{list(self.names)!r}[datum.value]"
        words = "datum.value != 0 && abs(datum.value) < 1e-4 ? format(datum.value, '~e') : format(datum.value, ',~g')"
        multiples = UNITS[self.unit]
        if not multiples:
            return words
        least, name = multiples[-1]
        found = f"format(datum.value / {least!r}, ',~r') + ' {name}'"
        for size, name in reversed(multiples[:-1]):
            # A hair less: 1e-6 may be computed as 9.99e-7.
            found = f"datum.value >= {0.999 * size!r} ? format(datum.value / {size!r}, ',~r') + ' {name}' : {found}"
        return f"datum.value == 0 ? '0' : {found}"

"""The ratio of two cases' times, with its interval and flags. Every ratio that is shown is made here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxopt_study.bench import stats
from jaxopt_study.bench.record import Record

NO_DIFFERENCE, UNSTABLE, UNPAIRED, OTHER_SPEED = "no difference", "unstable", "unpaired", "machine speed differs"

RESOLUTION = 0.02
"""Times that differ by less than this part are called equal: where code and data happen to lie in memory makes such a
difference, and it lasts as long as the process."""

PROCESS = 0.03
"""Half of the 95 % interval of what a process adds to a ratio for as long as it lives, whatever its rounds say. The
ladder's ratios had a standard deviation of 1.6 % over eight runs (the median of 160; SGD in C, whose rounds differ by
1 %, took 118 to 133 ns), and 1.96 times that is 3 %."""

FLAGS = {
    NO_DIFFERENCE: f"the interval comes within {100 * RESOLUTION:.0f} % of 1",
    UNSTABLE: f"an equal run may give a ratio that is more than {100 * stats.UNSTABLE:.0f} % away, because the ratio "
    "varied over the rounds, its interval is wide, the machine slowed down, or the method's time is known to vary by "
    "process",
    UNPAIRED: "the two were not measured in the same rounds, so that the interval leaves out a drift of the machine",
    OTHER_SPEED: f"a fixed piece of Python took over {100 * stats.UNSTABLE:.0f} % more or less time in the other run",
}
"""What each flag of a ratio means."""


@dataclass(frozen=True)
class Ratio(stats.Interval):
    """A ratio of times with its 95 % interval, and what a reader must know of it: see `FLAGS`."""

    flags: tuple[str, ...] = ()

    @property
    def no_difference(self) -> bool:
        """Whether the interval comes within the timer's resolution of 1."""
        return NO_DIFFERENCE in self.flags

    @property
    def unstable(self) -> bool:
        """Whether an equal run may give another ratio."""
        return UNSTABLE in self.flags


def paired(numerator: Record, denominator: Record, slowed: bool) -> Ratio | None:
    """Return the ratio of two cases' times; None where they were not measured in the same rounds.

    Args:
        numerator: The case whose time is divided.
        denominator: The case by whose time.
        slowed: Whether the machine was slow while they were measured: calls from Python then slow down by another part
            than arithmetic does.
    """
    if numerator.group != denominator.group:
        return None
    found = stats.ratio(numerator.step_seconds, denominator.step_seconds)
    varied = stats.spread(numerator.step_seconds / denominator.step_seconds) > stats.UNSTABLE
    by_process = numerator.varies_by_process or denominator.varies_by_process
    return _ratio(found, {UNSTABLE: slowed or by_process or varied or _vague(found)})


def of_medians(numerator: Record, denominator: Record) -> Ratio:
    """Return the ratio of two cases' median times, not measured in the same rounds, with a bootstrap interval."""
    found = stats.ratio_of_runs(numerator.step_seconds, denominator.step_seconds)
    return Ratio(found.value, found.low, found.high, (UNPAIRED,))


def between_runs(after: Record, before: Record) -> Ratio:
    """Return the ratio of a case's times in two runs made at different times, with a bootstrap interval."""
    found = stats.ratio_of_runs(after.step_seconds, before.step_seconds)
    speed = after.machine_speed / before.machine_speed if before.machine_speed and after.machine_speed else 1.0
    varied = max(stats.spread(r.step_seconds) for r in (before, after)) > stats.UNSTABLE
    by_process = before.varies_by_process or after.varies_by_process
    return _ratio(
        found,
        {
            UNSTABLE: by_process or varied or (np.isfinite(found.low) and _vague(found)),
            OTHER_SPEED: max(speed, 1 / speed) - 1 > stats.UNSTABLE,
        },
    )


def _ratio(found: stats.Interval, doubts: dict[str, bool]) -> Ratio:
    # Of a single round there is no interval, and so no verdict: NaN compares as False.
    equal = found.low <= 1 + RESOLUTION and found.high >= 1 / (1 + RESOLUTION)
    flags = {NO_DIFFERENCE: equal, **doubts}
    return Ratio(found.value, found.low, found.high, tuple(flag for flag, raised in flags.items() if raised))


def _vague(found: stats.Interval) -> bool:
    """Say whether an equal run may give an estimate that is more than `stats.UNSTABLE` away.

    The difference of two such estimates is known to the square root of 2 times what one is known to: the interval over
    its rounds, and `PROCESS`.
    """
    half = np.hypot(max(found.high - found.value, found.value - found.low), PROCESS * found.value)
    return bool(not 2**0.5 * half <= stats.UNSTABLE * abs(found.value))

"""How busy other programs keep the machine: what its processors did, less what this program's own processes did."""

from __future__ import annotations

from typing import NamedTuple

import psutil

BUSY = 0.10
"""Times are doubtful where other programs take more than this part of all cores."""


class Reading(NamedTuple):
    """Seconds of processor time so far: of all cores together, busy or not; of these busy; of these our own."""

    capacity: float
    busy: float
    own: float


def read() -> Reading:
    """Return how much the processors have done so far."""
    times = psutil.cpu_times()._asdict()
    # A guest's time is part of the user's on Linux, and waiting for a disk is not work.
    all_times = sum(seconds for name, seconds in times.items() if not name.startswith("guest"))
    busy = all_times - times["idle"] - times.get("iowait", 0.0)
    me = psutil.Process()
    return Reading(all_times, busy, sum(map(_seconds, [me, *me.children(recursive=True)])))


def others(before: Reading, after: Reading) -> float:
    """Return the part of all cores' time that other programs took between two readings, from 0 to 1."""
    capacity = after.capacity - before.capacity
    if capacity <= 0:
        return 0.0
    return min(1.0, max(0.0, (after.busy - before.busy) - (after.own - before.own)) / capacity)


def _seconds(process: psutil.Process) -> float:
    """Return the processor time of a process and of its children that have ended."""
    try:
        times = process.cpu_times()
    except psutil.Error:  # it has just ended; its parent has its time now
        return 0.0
    return times.user + times.system + times.children_user + times.children_system

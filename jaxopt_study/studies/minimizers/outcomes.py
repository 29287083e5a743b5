"""What the records say of each run: whether it solved its problem, and whether what it says of its end is so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxopt_study.bench.record import Record
from jaxopt_study.studies.minimizers.runs import ITERATIONS, End
from jaxopt_study.terminal import counted

__all__ = ["Outcome", "read", "refuted"]

TOLERANCE = 1e-6
"""Of the value above the best one, and of the gradient, relative: see `Outcome.solved`."""
EPS = float(np.finfo(float).eps)
SLACK = 10.0
"""A gradient that another program computes differs by rounding. A sentence on it is refuted beyond this factor."""
HIDDEN = 1e-10
"""Relative to the value: a decrease that a minimizer may call hidden by rounding."""


@dataclass(frozen=True)
class Outcome:
    """One run of a solver on a problem.

    Attributes:
        size: The number of variables.
        status: The name of its `Status` where the solver is ours; RAISED where it raised.
        words: What it says of its end.
        start: The problem at the start.
        best: The least value at which a solver ended.
    """

    problem: str
    size: int
    solver: str
    status: str
    words: str
    start: End
    end: End
    best: float

    @property
    def own(self) -> bool:
        """Whether the solver is ours."""
        return bool(self.status)

    @property
    def gap(self) -> float:
        """How far the value is above the best one."""
        return self.end.value - self.best

    @property
    def solved(self) -> bool:
        """Whether the value is within 1e-6 (1 + |best|) of the best one, and the gradient within 1e-6 (1 + start's)."""
        near = self.gap <= TOLERANCE * (1 + abs(self.best))
        return near and self.end.slope <= TOLERANCE * (1 + self.start.slope)


def read(records: Iterable[Record]) -> list[Outcome]:
    """Return the runs of all records, in their order."""
    return [outcome for record in records if record.ok for outcome in _of(record)]


def _of(record: Record) -> list[Outcome]:
    kept = record.value
    start = End(**kept["start"])
    ends = {name: (run["status"], run["words"], End(**run["end"])) for name, run in kept["runs"].items()}
    best = min((end.value for *_, end in ends.values() if np.isfinite(end.value)), default=float("nan"))
    return [Outcome(record.subject, kept["size"], name, *run[:2], start, run[2], best) for name, run in ends.items()]


def refuted(outcome: Outcome) -> str | None:
    """Say why what a run of ours says of its end is not so; an empty string where it is so, None where no rule is."""
    rule = RULES.get(outcome.status)
    if rule is None:
        return None
    differs = abs(outcome.end.told - outcome.end.value) > HIDDEN * (1 + abs(outcome.end.value))
    return "its value is not that of the objective" if differs else rule(outcome)


def _gradient(run: Outcome) -> str:
    allowed = EPS**0.5 * min(1.0, max(run.start.slope, abs(run.start.value)))
    return "" if run.end.slope <= SLACK * allowed else f"the gradient is {run.end.slope:.1e}, {allowed:.1e} is allowed"


def _rounding(run: Outcome) -> str:
    shown = run.end.lower > HIDDEN * abs(run.end.value)
    return f"a step lowers the objective by {run.end.lower:.1e}, from {run.end.value:.1e}" if shown else ""


def _stalled(run: Outcome) -> str:
    """It says that no step was found, and names what may be the cause: only a point that is a solution refutes it."""
    allowed = EPS**0.5 * min(1.0, max(run.start.slope, abs(run.start.value)))
    return f"the gradient is {run.end.slope:.1e}, within the tolerance" if SLACK * run.end.slope < allowed else ""


def _limit(run: Outcome) -> str:
    return "" if run.end.iterations >= ITERATIONS else f"it made {counted(run.end.iterations, 'iteration')}"


def _infinity(run: Outcome) -> str:
    lower, flatter = run.end.far > 0, run.end.far_slope <= max(run.end.slope, EPS**0.5)
    return "" if lower and flatter else "far away, the objective is not lower, or its gradient not smaller"


def _unbounded(run: Outcome) -> str:
    return "" if run.end.value < -(1 + abs(run.start.value)) / EPS else f"the objective is {run.end.value:.1e}"


RULES: Mapping[str, Any] = {
    "GRADIENT": _gradient,
    "ROUNDING": _rounding,
    "STALLED": _stalled,
    "ITERATIONS": _limit,
    "INFINITY": _infinity,
    "UNBOUNDED": _unbounded,
}
"""Name of a `Status` -> (outcome) -> why it is not so."""

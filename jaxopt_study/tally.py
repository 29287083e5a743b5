"""How far the distributed cases of a run are: runs done, their rate, the time left."""

from __future__ import annotations

from collections.abc import Sequence

from jaxopt_study.bench.case import Case, Plan
from jaxopt_study.bench.timing import process_age
from jaxopt_study.studies import experiment


class Tally:
    """Count distributed cases as they end; "runs" are trainings, and descents on a surface.

    Attributes:
        words: What is done so far.
    """

    def __init__(self, cases: Sequence[Case], plan: Plan) -> None:
        self._runs = {case: experiment(case).runs(case, plan) for case in cases}
        self._waiting = set(cases)
        self._began = self._last = process_age()
        self._since: dict[str, float] = {}
        self.words = f"{' and '.join(dict.fromkeys(map(_name, cases)))}: {len(cases)} tasks"

    def count(self, case: Case) -> str:
        """Count a case that ended; return a line if its part of the experiment is finished, else nothing."""
        name, part, now = _name(case), _part(case), process_age()
        since = self._since.setdefault(name, self._last)  # until then, cases of other experiments ended
        self._last = now
        self._waiting.remove(case)
        mine = [other for other in self._runs if _name(other) == name]
        total, done = (sum(self._runs[c] for c in some) for some in (mine, set(mine) - self._waiting))
        left = (now - self._began) / (len(self._runs) - len(self._waiting)) * len(self._waiting)
        rate = done / max(now - since, 1e-3)
        minutes, seconds = divmod(round(left), 60)
        self.words = f"{name}: {done:,} of {total:,} runs, {rate:,.0f}/s, {minutes}:{seconds:02} left"
        of_part = [other for other in mine if _part(other) == part]
        if not self._waiting.isdisjoint(of_part):
            return ""
        return f"{part}: {sum(self._runs[c] for c in of_part):,} runs, {now - self._began:.0f} s after the first began"


def _name(case: Case) -> str:
    return f"{case.study} {case.experiment}"


def _part(case: Case) -> str:
    return ", ".join(filter(None, (_name(case), experiment(case).part(case))))

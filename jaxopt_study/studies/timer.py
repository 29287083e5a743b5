"""Can the timer be trusted here? It is given equal methods, a planted slow-down, and traps: kernels timed wrongly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jaxopt_study.backends import Backend
from jaxopt_study.bench import ratio, timing
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.finding import Finding, compare
from jaxopt_study.bench.ratio import Ratio
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.results import Results
from jaxopt_study.bench.task import Skipped, Task, Value, single
from jaxopt_study.data.workload import Workload
from jaxopt_study.report.table import ABSENT, Table, sentence
from jaxopt_study.studies.experiment import Experiment, Row, Rows, Study

AMOUNT = 600
"""Small matrix products in a lap: some milliseconds."""
UNSTEADY = "the machine was too unsteady"
LARGE = 50_000
"""Products in a trap: far more than the clock takes to look."""


@dataclass(frozen=True)
class Trial:
    """Two methods, A and B, timed against each other again and again.

    Attributes:
        what: What a reader is told of the two.
        right: What is said of those that the timer calls rightly.
        wrong: What is said of those that it calls wrongly.
        slower: How much more work B does than A.
        times: How often they are timed.
        allowed: In how many of these the timer may be wrong.
    """

    what: str
    right: str
    wrong: str
    slower: float
    times: int
    allowed: int = 1

    def called_rightly(self, found: Ratio) -> bool:
        """Say whether the ratio of B to A says what the two are."""
        return found.no_difference if self.slower == 1 else found.low > 1 and not found.no_difference


TRIALS = {
    "equal": Trial("equal methods", "called no difference", "called different", slower=1.0, times=20),
    "planted": Trial("10 % slower", "found", "not found", slower=1.1, times=10),
}
TRAP = "trap"
TRAPS: dict[str, tuple[int, ...]] = {"asynchronous": (LARGE,), "recompiling": (), "not_returned": (AMOUNT,)}
"""Functions of the backends' `calibration`, with their arguments."""


class Timer(Experiment):
    """The timer, tested in each framework."""

    study = name = "timer"

    def groups(self, plan: Plan) -> list[Group]:
        """Return for each framework the trials, two methods each, and the traps."""
        repeats = max(9, 3 * plan.repeats // 2)
        found = []
        for framework in plan.frameworks:
            for kind, trial in TRIALS.items():
                for number in range(trial.times // 4 if plan.profile == "smoke" else trial.times):
                    cases = tuple(self.case(f"{kind} {number + 1}", framework, method) for method in ("A", "B"))
                    found.append(Group(cases, repeats))
            # Once each: what is timed here is what another stepper says.
            found.append(Group(tuple(self.case(TRAP, framework, name) for name in TRAPS), 0))
        return found

    def task(self, backend: Backend, case: Case, workload: Workload, plan: Plan) -> Task:
        """Return a method of a trial, or the attempt to time a trap."""
        if case.subject == TRAP:
            return single(lambda: attempt(backend, case.method), _as_bytes)
        slower = TRIALS[case.subject.split()[0]].slower if case.method == "B" else 1
        kernel = backend.calibration.work(round(slower * AMOUNT))
        return single(kernel, lambda output: {"output": backend.runtime.to_numpy(output)})

    def summarize(self, case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
        """Keep what the timer said to a trap."""
        return {"words": value["words"].tobytes().decode().strip()} if case.subject == TRAP else {}

    def findings(self, records: Sequence[Record], plan: Plan) -> list[Finding]:
        """Count in each framework the trials that were called wrongly, and the traps that were not caught.

        Where a wrong ratio is flagged as unstable, the timer said itself that it cannot tell: too many of these refute
        nothing and show nothing.
        """
        found = []
        for framework, trial, mine, ratios in _trials(records):
            wrong = [found for found in ratios if not trial.called_rightly(found)]
            sure = sum(not found.unstable for found in wrong)
            # Where some trials failed, as many of the others may be wrong as of all.
            allowed = trial.allowed * len(ratios) // trial.times
            what = f"{framework}: {trial.what} {trial.wrong}, of {len(ratios)}"
            counted = compare(what, [r.case for r in mine], len(wrong), allowed)
            if sure <= allowed < len(wrong):
                note = f"{UNSTEADY}: {len(wrong) - sure} of these ratios are marked as unstable"
                counted = replace(counted, agrees=None, note=note)
            found.append(counted)
        for r in records:
            if r.ok and r.subject == TRAP:
                what = f"{r.framework}: {_plain(r.method)}, not caught"
                found.append(compare(what, [r.case], not r.value["words"], 0, r.value["words"]))
        return found

    def rows(self, results: Results, plan: Plan) -> Rows:
        """Return one row for each framework and kind of trial, and for each trap."""
        records = self.records(results)
        rows = [
            {
                "framework": framework,
                "what": trial.what,
                "passed": results.agrees(mine[0]),
                "unsteady": results.agrees(mine[0]) is None,
                "words": f"{sum(map(trial.called_rightly, ratios))} of {len(ratios)} {trial.right}",
                "median_ratio": float(np.median([ratio.value for ratio in ratios])),
            }
            for framework, trial, mine, ratios in _trials(records)
        ]
        return rows + [
            {
                "framework": r.framework,
                "what": _plain(r.method),
                "passed": results.agrees(r),
                "unsteady": False,
                "words": _caught(r) if r.ok else f"{r.status}: {r.reason}",
                "median_ratio": None,
            }
            for r in records
            if r.subject == TRAP
        ]

    def tables(self, rows: Sequence[Row], plan: Plan) -> list[Table]:
        """Return what each trial came to; the timer's own words to a trap are below the table."""
        passed = {True: "yes", False: "NO", None: ABSENT}
        lines: list[tuple[str, ...]] = []
        why: dict[tuple[str, str, str], list[str]] = defaultdict(list)
        for row in rows:
            how, _, reason = row["words"].partition(": ")
            median = ABSENT if row["median_ratio"] is None else f"{row['median_ratio']:.3f}"
            lines.append((_trial(row), "unsteady" if row["unsteady"] else passed[row["passed"]], how, median))
            if reason:
                why[row["what"], how, reason].append(row["framework"])
        reasons = [
            sentence(f"{what} ({how}; {', '.join(where)}): {words}") for (what, how, words), where in why.items()
        ]
        columns = ("trial", "passed", "how", "median ratio")
        return [Table("The timer, tested here", columns, lines, left=("how",), reasons=reasons)]

    def verdict(self, rows: Sequence[Row], plan: Plan) -> str:
        """Say whether the timer can be trusted here."""
        failed, unsteady = (
            [_trial(row) for row in rows if chosen(row)]
            for chosen in (lambda row: row["passed"] is False, lambda row: row["unsteady"])
        )
        if failed:
            return f"the timer FAILS here: {'; '.join(failed)}"
        if unsteady:
            return f"{UNSTEADY} to test the timer: {'; '.join(unsteady)}"
        return "the timer passes its tests here"


TIMER = Study(
    "Timer: are equal methods called equal, a slow-down found, and traps caught?",
    (Timer(),),
    "Methods of known times are measured as the other studies are: equal ones, slower ones, and ones that end too "
    "early.",
)


def attempt(backend: Backend, name: str) -> str:
    """Time a trap as any task is timed; return what the timer says to it, or nothing where it does not notice.

    Raises:
        Skipped: There is no such trap in this framework.
    """
    try:
        kernel = getattr(backend.calibration, name)(*TRAPS[name])
    except NotImplementedError as reason:
        raise Skipped(str(reason)) from None
    stepper = timing.Stepper(single(kernel, lambda output: _returned(backend, output)), backend.runtime)
    try:
        stepper.first()
        stepper.calibrate()
        stepper.sample()
    except timing.InvalidTimingError as caught:
        return str(caught)
    return ""


def _as_bytes(words: str) -> Value:
    return {"words": np.frombuffer(words.encode() or b" ", np.uint8)}


def _returned(backend: Backend, output: Any) -> Value:
    """Return what a trap handed out; of one that is another function at each call, that there was something."""
    return {} if output is None else {"size": np.array(backend.runtime.to_numpy(output).size)}


def _trials(records: Sequence[Record]) -> Iterator[tuple[str, Trial, list[Record], list[Ratio]]]:
    """Yield for each framework and kind of trial the records of A and B, and their ratios, if there are any."""
    measured = {(r.framework, r.subject, r.method): r for r in records if r.ok}
    for framework in dict.fromkeys(r.framework for r in records):
        for kind, trial in TRIALS.items():
            first = [r for (f, s, m), r in measured.items() if f == framework and s.startswith(kind) and m == "A"]
            pairs = [(a, b) for a in first if (b := measured.get((framework, a.subject, "B")))]
            ratios = [found for a, b in pairs if (found := ratio.paired(b, a, slowed=False))]
            if ratios:
                yield framework, trial, [r for pair in pairs for r in pair], ratios


def _trial(row: Row) -> str:
    return f"{row['framework']}: {row['what']}"


def _caught(record: Record) -> str:
    return f"caught: {record.value['words']}" if record.value["words"] else "NOT CAUGHT"


def _plain(name: str) -> str:
    return name.replace("_", " ")

"""Can the timer be trusted here? It is given equal arms, a planted slow-down, and kernels that would deceive it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxopt_study.bench import timing
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.finding import Finding
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.task import Skipped, Task, Value, single
from jaxopt_study.data.workload import Workload
from jaxopt_study.report.figure import Figure
from jaxopt_study.report.table import Table

QUESTION = "Timer: are equal arms called equal, a slow-down found, and deceivers caught?"

AMOUNT = 600
"""Small matrix products in a lap: some milliseconds."""
SLOWER = 1.1
TRIALS = {"equal": 20, "planted": 10}
NEEDED = {"equal": 19, "planted": 9}
DECEIVERS = ("asynchronous", "recompiling", "not_returned")
LARGE = 50_000
"""Products in a deceiver: far more than the clock takes to look."""


def groups(plan: Plan) -> list[Group]:
    """Return for each framework the trials, two arms each, and the deceivers."""
    found = []
    for framework in plan.frameworks:
        for kind, trials in TRIALS.items():
            for number in range(trials):
                arms = tuple(Case("timer", f"{kind} {number + 1}", framework, arm) for arm in ("A", "B"))
                found.append(Group(arms, max(9, 3 * plan.repeats // 2)))
        # Once each: what is timed here is what another stepper says.
        found.append(Group(tuple(Case("timer", "deceiver", framework, name) for name in DECEIVERS), 0))
    return found


def task(backend: Any, case: Case, workload: Workload, plan: Plan) -> Task:
    """Return an arm of a trial, or the attempt to time a deceiver."""
    del workload, plan
    if case.subject == "deceiver":
        return single(lambda: attempt(backend, case.method), _as_bytes)
    amount = AMOUNT
    if case.subject.startswith("planted") and case.method == "B":
        amount = round(SLOWER * AMOUNT)
    kernel = backend.calibration.work(amount)
    return single(kernel, lambda output: {"output": backend.runtime.to_numpy(output)})


def attempt(backend: Any, name: str) -> str:
    """Time a deceiver as any task is timed; return what the timer says to it, or nothing where it is deceived.

    Raises:
        Skipped: There is no such deceiver in this framework.
    """
    maker = getattr(backend.calibration, name)
    try:
        kernel = maker() if name == "recompiling" else maker(LARGE if name == "asynchronous" else AMOUNT)
    except NotImplementedError as reason:
        raise Skipped(str(reason)) from None
    stepper = timing.Stepper(single(kernel, lambda output: _returned(backend, output)), backend.runtime)
    try:
        stepper.first()
        stepper.calibrate()
        stepper.block()
    except timing.DeceivedError as caught:
        return str(caught)
    return ""


def _as_bytes(words: str) -> Value:
    return {"words": np.frombuffer(words.encode() or b" ", np.uint8)}


def _returned(backend: Any, output: Any) -> Value:
    """Return what a deceiver handed out; of one that is another function at each call, that there was something."""
    return {} if output is None else {"size": np.array(backend.runtime.to_numpy(output).size)}


def summarize(case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
    """Keep what the timer said to a deceiver."""
    del workload, plan
    return {"words": value["words"].tobytes().decode().strip()} if case.subject == "deceiver" else {}


def findings(records: Sequence[Record], plan: Plan) -> list[Finding]:
    """Say of each framework how many trials were judged rightly, and which deceivers were caught."""
    del plan
    return [
        Finding(f"{row['framework']} {row['what']}", row["passed"], row["words"])
        for row in _rows(records)
        if row["passed"] is not None
    ]


def rows(records: Sequence[Record], plan: Plan) -> list[dict[str, Any]]:
    """Return one row for each framework and kind of trial, and for each deceiver."""
    del plan
    return _rows(records)


def _rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for framework in dict.fromkeys(r.framework for r in records):
        mine = [r for r in records if r.framework == framework]
        found += [_trials(framework, kind, mine) for kind in TRIALS]
        found += [_deceiver(r) for r in mine if r.subject == "deceiver"]
    return found


def _trials(framework: str, kind: str, records: Sequence[Record]) -> dict[str, Any]:
    pairs: dict[str, dict[str, Record]] = {}
    for r in records:
        if r.ok and r.subject.startswith(kind):
            pairs.setdefault(r.subject, {})[r.method] = r
    ratios = [ratio for p in pairs.values() if len(p) == 2 and (ratio := p["B"].ratio_to(p["A"]))]
    if kind == "equal":
        right, words = [ratio.spans_one for ratio in ratios], "called no difference"
    else:
        right, words = [ratio.low > 1 and not ratio.spans_one for ratio in ratios], "found"
    needed = NEEDED[kind] * len(ratios) / TRIALS[kind]
    middle = float(np.median([ratio.value for ratio in ratios])) if ratios else float("nan")
    return {
        "framework": framework,
        "what": "equal arms" if kind == "equal" else f"{100 * (SLOWER - 1):.0f} % slower",
        "passed": bool(sum(right) >= needed) if ratios else None,
        "words": f"{sum(right)} of {len(ratios)} {words} (needed: {needed:.0f}); median ratio {middle:.3f}",
    }


def _deceiver(record: Record) -> dict[str, Any]:
    row = {"framework": record.framework, "what": record.method.replace("_", " ")}
    if not record.ok:
        return row | {"passed": None, "words": f"{record.status}: {record.reason}"}
    words = record.value["words"]
    return row | {"passed": bool(words), "words": f"caught: {words}" if words else "NOT CAUGHT"}


def tables(rows: Sequence[Mapping[str, Any]], plan: Plan) -> list[Table]:
    """Return what each trial came to."""
    del plan
    verdicts = {True: "yes", False: "NO", None: "-"}
    lines = [(f"{row['framework']}: {row['what']}", verdicts[row["passed"]], row["words"]) for row in rows]
    return [Table("The timer, tested here", ("trial", "passed", "how"), lines, left=("how",))]


def figures(records: Sequence[Record], plan: Plan) -> list[Figure]:
    """There is none: the table says it."""
    del records, plan
    return []


def verdict(rows: Sequence[Mapping[str, Any]], plan: Plan) -> str:
    """Say whether the timer can be trusted here."""
    del plan
    failed = [f"{row['framework']} {row['what']}" for row in rows if row["passed"] is False]
    return f"the timer FAILS here in: {', '.join(failed)}" if failed else "the timer passes its tests here"

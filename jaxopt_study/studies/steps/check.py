"""Do a user's two steps train alike? Their losses and parameters step by step, and what a difference looks like."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxopt_study.backends import Backend
from jaxopt_study.bench import stats
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.finding import Finding, compare
from jaxopt_study.bench.record import Record, pack, unpack
from jaxopt_study.bench.results import Results
from jaxopt_study.bench.task import Task, Value, single
from jaxopt_study.data.workload import Workload
from jaxopt_study.parity import Report, locate
from jaxopt_study.report.table import Table
from jaxopt_study.studies.experiment import Experiment, Row, Rows
from jaxopt_study.studies.steps import initial
from jaxopt_study.studies.steps.reference import LOCATED, reference
from jaxopt_study.studies.steps.side import STEPS, batch_digest, side
from jaxopt_study.studies.steps.source import FUNCTIONS

PATH, NOISE = "path/", "noise/"
"""What the names of a leaf's path, and of its elements that are rounding alone, begin with in the value of a case."""

LISTED = 6
"""So many names of parameters are shown."""


class Check(Experiment):
    """The two steps as given, in both frameworks, on the same batches."""

    study, name = "steps", "check"

    def groups(self, plan: Plan) -> list[Group]:
        """Return one group of one case for each framework; where one is refused, the run is."""
        subject = Path(plan.experiment).stem
        cases = tuple(self.case(subject, framework, "as_given") for framework in plan.frameworks)
        return [Group(cases, 0, together=True, decides=True)]

    def task(self, backend: Backend, case: Case, workload: Workload, plan: Plan) -> Task:
        """Return the run of the step as given; of `initial`, the reading of the parameters before it."""
        if case.method == initial.METHOD:
            mine = side(backend, case.framework, plan)
            return single(lambda: mine.leaves(mine.state), lambda leaves: leaves)

        def compute() -> Value:
            found, mine = reference(backend, case.framework, plan), side(backend, case.framework, plan)
            digests = [batch_digest(mine.name, batch, plan.dtype) for batch in mine.batches]
            return {
                "losses": found.losses,
                "loss_allowed": np.array(found.loss_allowed),
                "batches": np.array([list(bytes.fromhex(digest)) for digest in digests], np.uint8),
                **{f"{PATH}{name}": path for name, path in found.path.items()},
                **{f"{NOISE}{name}": mask for name, mask in found.noise.items()},
            }

        return single(compute, lambda value: value)

    def summarize(self, case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
        """Keep all of it."""
        return {
            "losses": value["losses"].tolist(),
            "loss_allowed": float(value["loss_allowed"]),
            "batches": [row.tobytes().hex()[:16] for row in value["batches"]],
            "path": _packed(value, PATH),
            "noise": _packed(value, NOISE),
        }

    def refuse(self, records: Sequence[Record], plan: Plan) -> str | None:
        """Return why the two sides cannot be compared."""
        if len(records) < 2:
            return None
        first, second = records
        return _unlike(first, second) or _other_batches(first, second)

    def findings(self, records: Sequence[Record], plan: Plan) -> list[Finding]:
        """Compare the losses, and locate the first difference of the parameters."""
        if len(records) < 2 or not all(r.ok for r in records):
            return []
        cases = tuple(r.case for r in records)
        report, order = located(records), _order(*records)
        found = [Finding(order, cases, 1, 0, agrees=False)] if order else []
        what = f"parameters before and after each of the first {LOCATED} steps"
        note = "" if report.same else _in_short(report)
        found.append(Finding(what, cases, float(report.distances.max()), report.tolerance, report.same, note))
        losses = [np.array(r.value["losses"]) for r in records]
        bound = max(r.value["loss_allowed"] for r in records)
        note = "the parameters agree: look at what step returns as the loss" if report.same else ""
        distance = stats.absolute_distance(*losses)
        return [*found, compare(f"losses of {STEPS} steps", cases, distance, bound, note if distance > bound else "")]

    def rows(self, results: Results, plan: Plan) -> Rows:
        """Return one row with the locator's report, and the losses of each framework."""
        records = [r for r in self.records(results) if r.ok]
        rows: Rows = [
            {"framework": r.framework, "losses": r.value["losses"], "leaves": sorted(r.value["path"]), "report": ""}
            for r in records
        ]
        if len(records) == 2:
            report = located(records)
            rows[0] |= {"report": _words(report, records), "same": report.same}
        return rows

    def tables(self, rows: Sequence[Row], plan: Plan) -> list[Table]:
        """Return the first and the last losses; where the parameters agree, the locator's words under them."""
        columns = ("step", *(f"loss of {FUNCTIONS[row['framework']]}" for row in rows))
        shown = [0, 1, 2, STEPS - 1]
        lines = [(str(n + 1), *(f"{row['losses'][n]:.7g}" for row in rows)) for n in shown]
        found = tuple(f"Parameters: {row['report']}" for row in rows if row.get("same"))  # else the verdict says it
        notes = (f"Parameters read: {_listed(rows[0]['leaves'])}.", "The loss of a step is that before its update.")
        question = "Do they train alike" if len(rows) > 1 else "How does it train"
        return [Table(f"{question}? {Path(plan.experiment).name}, {plan.dtype}", columns, lines, notes, reasons=found)]

    def verdict(self, rows: Sequence[Row], plan: Plan) -> str:
        """Say how the parameters differ, where they do."""
        different = [row["report"].rstrip(".") for row in rows if row.get("same") is False]
        return f"the parameters differ: {different[0]}" if different else ""


def located(records: Sequence[Record]) -> Report:
    """Return the locator's report on the paths of two records."""
    noise = _noise(records)
    return locate(*(_trees(r, noise) for r in records))


def alike(records: Sequence[Record], plan: Plan) -> bool:
    """Say whether the records of the check, where there are two, agree."""
    mine = [r for r in records if (r.study, r.experiment) == (Check.study, Check.name)]
    return not any(finding.agrees is False for finding in Check().findings(mine, plan))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"{', '.join(names[:LISTED])}{more}"


def _packed(value: Value, prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): pack(array) for name, array in value.items() if name.startswith(prefix)}


def _noise(records: Sequence[Record]) -> dict[str, np.ndarray]:
    """Return which elements of each leaf are rounding alone in one of the records: neither side tells them."""
    found: dict[str, np.ndarray] = {}
    for record in records:
        for name, packed in record.value["noise"].items():
            mask = unpack(packed)
            found[name] = found[name] | mask if name in found else mask
    return found


def _trees(record: Record, noise: Mapping[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    """Yield the parameters before the first step and after each; elements that are rounding alone stand still."""
    paths = {name: unpack(packed) for name, packed in record.value["path"].items()}
    for step in range(LOCATED + 1):
        yield {
            name: np.where(noise[name], path[0], path[step]) if name in noise else path[step]
            for name, path in paths.items()
        }


def _in_short(report: Report) -> str:
    """Return where two paths first differ, and the name of what that looks like."""
    assert report.difference is not None
    return f"step {report.difference.step}, {report.difference.leaf}: {report.pattern.name}"


def _words(report: Report, records: Sequence[Record]) -> str:
    names = " and ".join(FUNCTIONS[r.framework] for r in records)
    out = [f"{mask.sum()} of {mask.size} elements of {name}" for name, mask in _noise(records).items()]
    note = f" Left out, since rounding alone decides them: {', '.join(out)}." if out else ""
    return f"{report}{note} First and second are {names}."


def _unlike(first: Record, second: Record) -> str | None:
    """Return which parameter only one side has, or has with another shape or type."""
    mine, other = first.value["path"], second.value["path"]
    names = [FUNCTIONS[r.framework] for r in (first, second)]
    for which, (has, lacks) in enumerate(((mine, other), (other, mine))):
        alone = sorted(has.keys() - lacks.keys())
        if alone:
            near = difflib.get_close_matches(
                alone[0], sorted(lacks.keys() - has.keys()) or sorted(lacks), n=1, cutoff=0
            )
            more = f" (and {len(alone) - 1} more)" if len(alone) > 1 else ""
            there = f"; the nearest in {names[1 - which]} is {near[0]}" if near else ""
            return f"only {names[which]} has the parameter {alone[0]}{more}{there}"
    for name in mine:
        for what, at in (("shape", slice(1, None)), ("dtype", slice(None))):
            here, there = (packed[name][what][at] for packed in (mine, other))
            if here != there:
                turned = ": transpose one" if what == "shape" and here == there[::-1] else ""
                return f"{name} has the {what} {_plain(here)} in {names[0]} and {_plain(there)} in {names[1]}{turned}"
    return None


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _other_batches(first: Record, second: Record) -> str | None:
    """Return which batch only one side has."""
    digests = [r.value["batches"] for r in (first, second)]
    if sorted(digests[0]) == sorted(digests[1]):  # another order is a difference that is located
        return None
    number = next(n for n, pair in enumerate(zip(*digests, strict=True)) if pair[0] != pair[1])
    names = " and ".join(FUNCTIONS[r.framework] for r in (first, second))
    return f"{names} are given different batches, from batch {number + 1} on: give both the same list"


def _order(first: Record, second: Record) -> str:
    """Return in words how the order of the same batches differs, or nothing."""
    mine, other = first.value["batches"], second.value["batches"]
    if mine == other:
        return ""
    number = next(n for n, pair in enumerate(zip(mine, other, strict=True)) if pair[0] != pair[1])
    names = [FUNCTIONS[r.framework] for r in (first, second)]
    place = other.index(mine[number]) + 1
    return f"order of the batches: batch {number + 1} of {names[0]} is batch {place} of {names[1]}"

"""The experiment: every minimizer on unconstrained problems of CUTEst, in one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from jaxopt_study.backends import Backend
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.finding import Finding, compare
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.results import Results
from jaxopt_study.bench.task import Task, Value, single
from jaxopt_study.data.workload import Workload
from jaxopt_study.report.figures import Figure
from jaxopt_study.report.table import Table
from jaxopt_study.studies.experiment import Experiment, Row, Rows
from jaxopt_study.studies.minimizers import outcomes, problems, report, runs
from jaxopt_study.studies.minimizers.outcomes import Outcome

EVERY = "every minimizer"
"""The method of a case: a problem's derivatives are compiled once for all minimizers."""


class Cutest(Experiment):
    """Every minimizer on each problem."""

    study, name = "minimizers", "cutest"

    def groups(self, plan: Plan) -> list[Group]:
        """Return a case for each problem; any process may take it."""
        if "jax" not in plan.frameworks:
            return []
        cases = (self.case(name, "jax", EVERY) for name in problems.chosen(plan))
        return [Group((case,), repeats=0, distributed=True) for case in cases]

    def skip(self, case: Case, records: Sequence[Record], plan: Plan) -> str | None:
        """Skip all where the package with the problems is not installed."""
        missing = find_spec("sif2jax") is None
        return (
            "the package sif2jax is not installed: python -m pip install 'jaxopt_study[problems]'" if missing else None
        )

    def task(self, backend: Backend, case: Case, workload: Workload, plan: Plan) -> Task:
        """Return the runs of all minimizers on one problem."""
        return single(lambda: runs.every(backend, case.subject), lambda value: value)

    def summarize(self, case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
        """Keep each end, with what the minimizer says of it."""
        start, *ends = (runs.End(*row)._asdict() for row in value["ends"].tolist())
        names, statuses, words = (value[name].tolist()[1:] for name in ("solvers", "statuses", "words"))
        return {
            "size": int(value["size"]),
            "start": start,
            "runs": {
                name: {"status": status, "words": said, "end": end}
                for name, status, said, end in zip(names, statuses, words, ends, strict=True)
            },
        }

    def findings(self, records: Sequence[Record], plan: Plan) -> list[Finding]:
        """Count for each minimizer of ours the sentences on its ends that the objective refutes."""
        cases = {r.subject: r.case for r in records}
        own = [outcome for outcome in outcomes.read(records) if outcome.own]
        by_solver = {name: [run for run in own if run.solver == name] for name in dict.fromkeys(r.solver for r in own)}
        return [_finding(name, some, [cases[run.problem] for run in some]) for name, some in by_solver.items()]

    def rows(self, results: Results, plan: Plan) -> Rows:
        """Return a row for each run."""
        found = []
        for record in self.records(results):
            facts = {"problem": record.subject, "record": record.status, "reason": record.reason}
            found += [facts | report.row(outcome) for outcome in outcomes.read([record])] or [facts]
        return found

    def tables(self, rows: Sequence[Row], plan: Plan) -> list[Table]:
        """Return what each minimizer solves and its work, and the failures of ours with their words."""
        return report.tables(rows)

    def figures(self, results: Results, plan: Plan) -> list[Figure]:
        """Return the performance profile."""
        return report.figures(self.rows(results, plan))

    def verdict(self, rows: Sequence[Row], plan: Plan) -> str:
        """Say how many problems the best of ours solves, beside the best peer."""
        return report.verdict(rows)


def _finding(solver: str, found: Sequence[Outcome], cases: Sequence[Case]) -> Finding:
    """Compare what a minimizer says of its ends with the objective there; a case with a false sentence is named."""
    said = {run.problem: outcomes.refuted(run) for run in found}
    false = {name: words for name, words in said.items() if words}
    open_ = sorted({run.status for run in found if said[run.problem] is None})
    notes = [f"{name}: {words}" for name, words in list(false.items())[:1]]
    notes += [f"not checked: {', '.join(open_)}"] if open_ else []
    named = [case for case in cases if not false or case.subject in false]
    what = f"{solver}: of what it says of {len(found)} ends, not so"
    return compare(what, named, len(false), 0, "; ".join(notes))

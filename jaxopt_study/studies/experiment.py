"""What a study is made of: experiments, each of which has its cases, its tasks, its comparisons and its tables."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxopt_study.backends import Backend
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.finding import Finding
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.results import Results
from jaxopt_study.bench.task import Task, Value
from jaxopt_study.data.workload import Workload
from jaxopt_study.report.figures import Figure
from jaxopt_study.report.table import Table, sentence

Row = Mapping[str, Any]
Rows = list[dict[str, Any]]


class Experiment(ABC):
    """One experiment. It must say which cases it has, and how a case becomes a task; the rest has defaults.

    Attributes:
        study: The name of its study in `STUDIES`.
        name: Its own name, one of its study's.
    """

    study: ClassVar[str]
    name: ClassVar[str]

    @abstractmethod
    def groups(self, plan: Plan) -> list[Group]:
        """Return the cases to run; those of one group are measured in the same rounds."""

    @abstractmethod
    def task(self, backend: Backend, case: Case, workload: Workload, plan: Plan) -> Task:
        """Return the task of a case, made of the backend's functions; called in the worker's process.

        Raises:
            Skipped: What the case needs is not there.
        """

    def summarize(self, case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
        """Return what a record keeps of a case's value: plain numbers."""
        return {}

    def skip(self, case: Case, records: Sequence[Record], plan: Plan) -> str | None:
        """Return the reason why a case need not be tried after what `records` say, or None."""
        return None

    def refuse(self, records: Sequence[Record], plan: Plan) -> str | None:
        """Return why the run cannot go on after the records of a group that decides it: see `case.Group`."""
        return None

    def runs(self, case: Case, plan: Plan) -> int:
        """Return how many runs a distributed case has, at least; the progress counts them."""
        return 1

    def part(self, case: Case) -> str:
        """Return the part of the experiment that a distributed case belongs to; the end of each is told."""
        return ""

    def findings(self, records: Sequence[Record], plan: Plan) -> list[Finding]:
        """Return the comparisons of this experiment's values."""
        return []

    def rows(self, results: Results, plan: Plan) -> Rows:
        """Return what the records say, as plain numbers."""
        return []

    def tables(self, rows: Sequence[Row], plan: Plan) -> list[Table]:
        """Return the same as text; `rows` are what the method of that name returned."""
        return []

    def brief(self, rows: Sequence[Row], plan: Plan) -> list[Table]:
        """Return the short tables: those of the main job on a terminal, and those of report.md in place of all."""
        return []

    def figures(self, results: Results, plan: Plan) -> list[Figure]:
        """Return the records as charts."""
        return []

    def verdict(self, rows: Sequence[Row], plan: Plan) -> str:
        """Return the result, a fact on each line, without its full stop; or an empty string."""
        return ""

    def case(self, subject: str, framework: str, method: str) -> Case:
        """Return a case of this experiment."""
        return Case(self.study, self.name, subject, framework, method)

    def records(self, results: Results) -> list[Record]:
        """Return this experiment's records."""
        return results.of(self.study, self.name)


def facts(record: Record, results: Results) -> dict[str, Any]:
    """Return what the rows of every experiment say of a record."""
    return {
        "framework": record.framework,
        "method": record.method,
        "status": record.status,
        "reason": record.reason,
        "agrees": results.agrees(record),
    }


def all_skipped(title: str, rows: Sequence[Row]) -> Table | None:
    """Return a table of one line where every row is skipped for the same reason; else None."""
    reasons = {row["reason"] for row in rows if row["status"] == "skipped"}
    if len(reasons) != 1 or any(row["status"] != "skipped" for row in rows):
        return None
    reason = reasons.pop()
    return Table(title, ("method", "status"), [("every one", "skipped")], reasons=(sentence(reason),))


@dataclass(frozen=True)
class Study:
    """One question, and the experiments that answer it.

    Attributes:
        question: `Name: what is asked?`
        about: How it is answered, in a sentence.
    """

    question: str
    experiments: tuple[Experiment, ...]
    about: str = ""

    def groups(self, plan: Plan) -> list[Group]:
        """Return the cases of all experiments."""
        return [group for experiment in self.experiments for group in experiment.groups(plan)]

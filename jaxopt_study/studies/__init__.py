"""The studies: one file per question, one line each in the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.finding import Finding
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.report.figure import Figure
from jaxopt_study.bench.report.table import Table
from jaxopt_study.bench.task import Task, Value
from jaxopt_study.bench.workload import Workload
from jaxopt_study.studies import derivatives, dictionary, hessian, loops, newton, newton_step, optimizers, spread, timer

__all__ = ["COMPANIONS", "MAIN_JOB", "STUDIES", "Study"]


Rows = list[dict[str, Any]]


class Study(Protocol):
    """What a module of this package defines."""

    QUESTION: str

    def groups(self, plan: Plan) -> list[Group]:
        """Which cases to run; those of a group are measured in turn."""

    def task(self, wing: Any, case: Case, workload: Workload, plan: Plan) -> Task:
        """How a case becomes a task made of the wing's public functions; called in the wing's own process."""

    def condense(self, case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
        """What a record keeps of a case's value: plain numbers."""

    def findings(self, records: Sequence[Record], plan: Plan) -> list[Finding]:
        """Which values agree; `records` are this study's, as in the functions below."""

    def rows(self, records: Sequence[Record], plan: Plan) -> Rows:
        """What the records say, as plain numbers."""

    def tables(self, rows: Rows, plan: Plan) -> list[Table]:
        """The same as text; `rows` are what the function of that name returned."""

    def figures(self, records: Sequence[Record], plan: Plan) -> list[Figure]:
        """The records as charts."""

    def verdict(self, rows: Rows, plan: Plan) -> str:
        """The same in one sentence, or nothing."""


STUDIES: dict[str, Study] = {
    "optimizers": optimizers,
    "spread": spread,
    "loops": loops,
    "derivatives": derivatives,
    "hessian": hessian,
    "newton_step": newton_step,
    "dictionary": dictionary,
    "newton": newton,
    "timer": timer,
}

MAIN_JOB = ("optimizers", "loops", "spread", "derivatives", "hessian", "newton")
"""The studies that run when none is named; together they take less than a minute."""

COMPANIONS = {"hessian": ("newton_step",)}
"""What comes along with a study that is asked for by name: the notebook's claim on Hessians has two halves."""

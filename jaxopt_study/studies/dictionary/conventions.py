"""Schedules, clipping and initializers: PyTorch's code against the code for the same in JAX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxopt_study.backends import Backend
from jaxopt_study.bench import stats
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.finding import Finding, compare
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.results import Results
from jaxopt_study.bench.task import Task, Value
from jaxopt_study.data.workload import Array, Workload
from jaxopt_study.dictionary.conventions import CONVENTIONS, QUANTILES, SCHEDULE_STEPS, SHAPE, Convention
from jaxopt_study.report import table as text
from jaxopt_study.report.table import ABSENT, Table
from jaxopt_study.studies.dictionary import bounds, paths
from jaxopt_study.studies.dictionary.paths import METHODS
from jaxopt_study.studies.experiment import Experiment, Row, Rows

KINDS = tuple(dict.fromkeys(convention.kind for convention in CONVENTIONS))
CODES = {"jax": ("aligned", "namesake"), "torch": ("torch",)}
"""Which code of a convention a framework evaluates."""
SIZES = (1e-3, 0.3, 10.0)
"""Of gradients that are clipped: far below the bound, near it, far above."""


class Conventions(Experiment):
    """What each convention gives in both frameworks, in float64."""

    study, name = "dictionary", "conventions"

    def groups(self, plan: Plan) -> list[Group]:
        """Return one group for each kind of convention."""
        return [Group(tuple(self.case(k, f, METHODS[f]) for f in plan.frameworks), 0, together=True) for k in KINDS]

    def task(self, backend: Backend, case: Case, workload: Workload, plan: Plan) -> Task:
        """Return what the conventions of a kind give, by their codes."""

        def compute() -> Value:
            return {
                f"{convention.torch}: {which}": _given(backend, convention.kind, code, plan.seed)
                for convention in CONVENTIONS
                if convention.kind == case.subject
                for which in CODES[case.framework]
                if (code := getattr(convention, which))
            }

        return paths.computed_in("float64", backend, plan, compute)

    def summarize(self, case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
        """Keep every number."""
        return {name: array.tolist() for name, array in value.items()}

    def findings(self, records: Sequence[Record], plan: Plan) -> list[Finding]:
        """Compare what each convention gives."""
        return [
            compare(f"values of {convention.torch}", cases, distance, bound)
            for convention, cases, distance, bound, _ in _compared(records)
        ]

    def rows(self, results: Results, plan: Plan) -> Rows:
        """Return one row for each convention."""
        return [
            {
                "subject": convention.torch,
                "kind": convention.kind,
                "expression": convention.aligned,
                "reason": convention.reason,
                "distance": distance,
                "namesake": namesake,
                "holds": bool(distance <= bound),
            }
            for convention, _, distance, bound, namesake in _compared(self.records(results))
        ]

    def tables(self, rows: Sequence[Row], plan: Plan) -> list[Table]:
        """Return how far the code for JAX is from PyTorch's, and how far what has its name."""
        lines = [
            (
                row["subject"],
                "holds" if row["holds"] else "NO LONGER SO",
                ABSENT if row["namesake"] is None else text.number(row["namesake"]),
                text.number(row["distance"]),
                f"`{row['expression']}`",
                row["reason"],
            )
            for row in rows
        ]
        columns = ("torch", "here", "same name", "aligned", "in JAX", "why")
        notes = (
            f"Draws: the largest difference of {QUANTILES} quantiles in units of the deviation; 0.04 is their noise.",
        )
        return [Table("Schedules, clipping, initializers", columns, lines, notes, left=("here", "in JAX", "why"))]


def _given(backend: Backend, kind: str, code: str, seed: int) -> Array:
    """Return the rates of a schedule, the quantiles of an initializer's draws, or gradients after clipping."""
    if kind == "schedule":
        return np.asarray(backend.conventions.schedule(code, SCHEDULE_STEPS))
    if kind == "initializer":
        drawn = backend.conventions.drawn(code, SHAPE, seed)
        return np.quantile(drawn, np.arange(1, QUANTILES + 1) / (QUANTILES + 1))
    generator = np.random.default_rng(seed)
    clipped: list[Array] = []
    for size in SIZES:
        gradients = {name: size * generator.standard_normal(shape) for name, shape in (("a", (4, 3)), ("b", (5,)))}
        after = backend.conventions.clipped(code, gradients)
        clipped += [np.ravel(after[name]) for name in sorted(after)]
    return np.concatenate(clipped)


def _compared(records: Sequence[Record]) -> list[tuple[Convention, tuple[Case, Case], float, float, float | None]]:
    """Return each convention with its cases, the distance of the aligned code, its bound, and that of the namesake."""
    found = []
    for kind, jax, torch in paths.pairs(records):
        for convention in (c for c in CONVENTIONS if c.kind == kind):
            theirs = np.array(torch.value[f"{convention.torch}: torch"])
            draws = kind == "initializer"
            unit = theirs.std() if draws else 1.0
            distances = {
                which: stats.absolute_distance(jax.value[f"{convention.torch}: {which}"], theirs) / unit
                for which in CODES["jax"]
                if getattr(convention, which)
            }
            bound = (bounds.QUANTILES if draws else bounds.CONVENTION).bound
            cases = (jax.case, torch.case)
            found.append((convention, cases, distances["aligned"], bound, distances.get("namesake")))
    return found

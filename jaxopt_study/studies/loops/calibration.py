"""What this machine and these versions do: probes whose cost is one number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxopt_study.backends import Backend
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.ratio import Ratio
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.results import Results
from jaxopt_study.bench.task import Task, Value, single
from jaxopt_study.data.workload import Workload
from jaxopt_study.report import table as text
from jaxopt_study.report.looks import LABELS
from jaxopt_study.report.table import ABSENT, Table
from jaxopt_study.studies.experiment import Experiment, Row, Rows
from jaxopt_study.studies.loops.methods import made, timed_facts

PROBES = {
    "jax": ("empty_call", "empty_scan", "matrix_product", "transposed_product", "copy"),
    "torch": ("operator_call", "matrix_product", "onednn_product", "transposed_product", "copy"),
}
PRODUCTS = ("matrix_product", "onednn_product")

WORDS = {
    "empty_call": "an empty jitted function, per call",
    "operator_call": "one operator, per call",
    "empty_scan": "an empty scan, per iteration",
    "matrix_product": "a large matrix product, AB",
    "onednn_product": "a large matrix product, AB, by oneDNN",
    "transposed_product": "a kernel's gradient, A'B, rows a power of two apart",
    "copy": "a large array, read and written",
}


class Calibration(Experiment):
    """The probes of all frameworks, in the same rounds."""

    study, name = "loops", "calibration"

    def groups(self, plan: Plan) -> list[Group]:
        """Return one group."""
        if plan.overview:
            return []
        cases = [self.case("machine", f, probe) for f in plan.frameworks for probe in PROBES[f]]
        return [Group(tuple(cases), plan.repeats)]

    def task(self, backend: Backend, case: Case, workload: Workload, plan: Plan) -> Task:
        """Return one run of a probe."""
        probe = made(getattr(backend.calibration, case.method))
        return single(probe.run, lambda _: {"amount": np.array(probe.amount)})

    def summarize(self, case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
        """Keep how much work one run is."""
        return {"amount": float(value["amount"])}

    def rows(self, results: Results, plan: Plan) -> Rows:
        """Return one row for each probe; that of PyTorch's fastest product has the ratio of both products."""
        records = self.records(results)
        fastest = {f: _fastest_product(records, f) for f in PROBES}
        found = []
        for record in records:
            row = timed_facts(record, results)
            row["seconds_per_unit"] = record.seconds / record.value["amount"] if record.ok else None
            row["torch_over_jax"] = results.ratio(record, fastest["jax"]) if record is fastest["torch"] else None
            found.append(row)
        return found

    def tables(self, rows: Sequence[Row], plan: Plan) -> list[Table]:
        """Return the rate of each probe."""
        notes = (
            "PyTorch / JAX: time of a large matrix product AB, of the fastest library of each framework. Where "
            "products take most of a step, the growth curves come near this ratio.",
            "A'B is the gradient of a dense layer's kernel. XLA 0.10 on a CPU computes it slowly where rows are a "
            "power of two apart, unless there is an optimization_barrier around the transpose, as in transposing_scan "
            "of the growth curves.",
            *text.flags(row["torch_over_jax"] for row in rows),
        )
        title = "Calibration: what this machine and these versions do"
        columns, main = ("probe", "rate", "IQR", "PyTorch / JAX [95 %]"), ("rate", "PyTorch / JAX [95 %]")
        return [Table(title, columns, [_line(row) for row in rows], notes, main=main)]

    def verdict(self, rows: Sequence[Row], plan: Plan) -> str:
        """Say what the ratio is of a large matrix product alone."""
        ratios = [row["torch_over_jax"] for row in rows if row["torch_over_jax"]]
        return "; ".join(f"PyTorch's time over JAX's for a large matrix product: {text.ratio(r)}" for r in ratios)


def seconds_per_unit(results: Results) -> dict[tuple[str, str], float]:
    """Return what the probes take for each unit of their work, by framework and probe."""
    measured = [r for r in results.of(Calibration.study, Calibration.name) if r.ok]
    return {(r.framework, r.method): r.seconds / r.value["amount"] for r in measured}


def _fastest_product(records: Sequence[Record], framework: str) -> Record | None:
    products = [r for r in records if r.ok and r.framework == framework and r.method in PRODUCTS]
    return min(products, key=lambda r: r.seconds, default=None)


def _line(row: Row) -> tuple[str, ...]:
    words = f"{LABELS[row['framework']]}: {WORDS[row['method']]}"
    if row["status"] != "ok":
        return (words, row["status"], row["reason"], ABSENT)
    ratio: Ratio | None = row["torch_over_jax"]
    return (words, text.rate(row["method"], row["seconds_per_unit"]), text.spread(row["spread"]), text.ratio(ratio))

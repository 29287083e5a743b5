"""Optimizers of other PyTorch packages beside what optax has under that name: the same gradients for both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from jaxopt_study.backends import Backend
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.finding import Finding, compare
from jaxopt_study.bench.record import Record, pack, unpack
from jaxopt_study.bench.results import Results
from jaxopt_study.bench.task import Skipped, Task, Value
from jaxopt_study.data.workload import Workload
from jaxopt_study.dictionary import build
from jaxopt_study.dictionary.packages import PEERS, Peer
from jaxopt_study.dictionary.table import Row as TableRow
from jaxopt_study.report import table as text
from jaxopt_study.report.table import ABSENT, Table
from jaxopt_study.studies.dictionary import paths
from jaxopt_study.studies.dictionary.paths import METHODS
from jaxopt_study.studies.experiment import Experiment, Row, Rows

STEPS = (1, 10, 100)
BOUND = 3e-14
"""Ten times the worst of the rows that follow the same rule: 2.3e-15, of SGDScheduleFree."""
BY_KEY = {peer.key: peer for peer in PEERS}


class Packages(Experiment):
    """Each optimizer of the packages that are installed, in profile default and full."""

    study, name = "dictionary", "packages"

    def groups(self, plan: Plan) -> list[Group]:
        """Return one group for each optimizer; with one framework alone there is nothing to compare."""
        rows = [p for p in PEERS if p.expression and find_spec(p.package)]
        if plan.profile == "smoke" or len(plan.frameworks) == 1:
            return []
        return [Group(tuple(self.case(r.key, f, METHODS[f]) for f in plan.frameworks), 0, together=True) for r in rows]

    def task(self, backend: Backend, case: Case, workload: Workload, plan: Plan) -> Task:
        """Return the path of parameters that given gradients make."""
        paths.require_pinned(workload)
        peer = BY_KEY[case.subject]
        trajectories: Any = backend.trajectories  # `make` is torch_reference's alone
        params, gradients = paths.draw_replay(TableRow(peer.name), STEPS[-1], plan.seed)
        try:
            torch = case.framework == "torch"
            optimizer = trajectories.make(peer.name, peer.options) if torch else build(peer.expression)
        except ImportError as error:
            raise Skipped(f"{peer.package} cannot be imported: {error}") from None

        def compute() -> Value:
            return {"replay": paths.flat(trajectories.replay(optimizer, params, gradients, STEPS))}

        return paths.computed_in("float64", backend, plan, compute)

    def summarize(self, case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
        """Keep every parameter at the steps compared."""
        return {name: pack(path) for name, path in value.items()}

    def findings(self, records: Sequence[Record], plan: Plan) -> list[Finding]:
        """Hold to a bound what is said to follow the same rule."""
        return [
            compare("replayed parameters", (jax.case, torch.case), max(_distance(jax, torch)), BOUND)
            for subject, jax, torch in paths.pairs(records)
            if BY_KEY[subject].same
        ]

    def rows(self, results: Results, plan: Plan) -> Rows:
        """Return one row for each optimizer, those that optax does not have included."""
        records = self.records(results)
        found = {subject: _distance(jax, torch) for subject, jax, torch in paths.pairs(records)}
        return [_row(peer, found.get(peer.key), records, results) for peer in PEERS] if records else []

    def tables(self, rows: Sequence[Row], plan: Plan) -> list[Table]:
        """Return what optax has of each, and how far the two differ."""
        lines = [
            (
                row["subject"],
                f"`{row['expression']}`" if row["expression"] else "optax has none",
                row["state"],
                *(map(text.number, row["distance"]) if row["distance"] else [ABSENT] * len(STEPS)),
                row["reason"],
            )
            for row in rows
        ]
        columns = ("PyTorch package", "optax", "rule", *(f"step {step}" for step in STEPS), "note")
        note = "Largest difference of a parameter, float64, with the same gradients for both and each side's defaults."
        return [Table("Optimizers of other packages", columns, lines, (note,), left=("optax", "rule", "note"))]


def _distance(jax: Record, torch: Record) -> tuple[float, ...]:
    return paths.differences(unpack(jax.value["replay"]), unpack(torch.value["replay"]), None, STEPS).distance


def _row(peer: Peer, distance: tuple[float, ...] | None, records: Sequence[Record], results: Results) -> dict[str, Any]:
    mine = [record for record in records if record.subject == peer.key]
    failed = [f"{record.status}: {record.reason}" for record in mine if not record.ok]
    state = "the same" if peer.same else "another one"
    if peer.same and distance and not results.agrees(mine[0]):
        state = "NO LONGER THE SAME"
    return {
        "subject": peer.key,
        "expression": peer.expression,
        "state": state if distance else "not compared" if peer.expression else ABSENT,
        "distance": distance,
        "reason": "; ".join(failed) or ("not installed" if peer.expression and not mine else peer.reason),
    }

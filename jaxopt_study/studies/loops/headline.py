"""How much longer does a step take in PyTorch? It depends on the loops and on the work: all answers side by side.

It measures nothing: its ratios are those of the ladder and of the largest size on the growth curves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from jaxopt_study.backends import Backend
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.results import Results
from jaxopt_study.bench.task import Task
from jaxopt_study.data.workload import Workload
from jaxopt_study.report import table as text
from jaxopt_study.report.table import Table
from jaxopt_study.studies.experiment import Experiment, Row, Rows
from jaxopt_study.studies.loops import growth, ladder
from jaxopt_study.studies.loops.methods import METHODS
from jaxopt_study.studies.loops.sizes import USUAL, sizes

COLUMNS = ("loops", "JAX", "PyTorch", "PyTorch / JAX [95 %]")
MAIN_COLUMNS = ("PyTorch / JAX [95 %]", "JAX", "PyTorch")
USUAL_LOOPS, FASTEST, LARGE, WRITTEN = "usual", "fastest", "large step", "notebook"
WORDS = {
    USUAL_LOOPS: "usual loop of each",
    FASTEST: "fastest loop found of each",
    LARGE: "fastest loop of each where a step has most work",
    WRITTEN: "JAX's fastest loop, and the notebook as written",
}

SLOW_TO_COMPILE = "compiled_four"
"""PyTorch's fastest loop on a CPU; it compiles for 15 to 20 s, so that the main job does not try it."""


class Headline(Experiment):
    """The usual loops, the fastest loops, the fastest at the largest size; and the notebook's loop as written."""

    study, name = "loops", "headline"

    def groups(self, plan: Plan) -> list[Group]:
        """Return no group."""
        return []

    def task(self, backend: Backend, case: Case, workload: Workload, plan: Plan) -> Task:
        """Raise: there is no case."""
        raise NotImplementedError

    def records(self, results: Results) -> list[Record]:
        """Return the records of the experiments that it reads."""
        return [r for e in (ladder.Ladder, growth.Growth) for r in results.of(e.study, e.name)]

    def rows(self, results: Results, plan: Plan) -> Rows:
        """Return one row for each pair of loops; a pair of which one has no time is left out."""
        steps = [r for r in results.of("loops", "ladder") if r.subject == plan.optimizers[0]]
        timed = {(r.framework, r.method): r for r in steps if results.shows(r)}
        fastest = {f: _fastest(r for r in timed.values() if r.framework == f) for f in USUAL}
        usual = {f: timed.get((f, method)) for f, method in USUAL.items()}
        written = timed.get(("torch", ladder.REFERENCE))
        pairs = [
            (USUAL_LOOPS, usual["jax"], usual["torch"]),
            (FASTEST, fastest["jax"], fastest["torch"]),
            (LARGE, *_largest(results, plan)),
            (WRITTEN, fastest["jax"], written),
        ]
        found = [_row(name, jax, torch, results, plan) for name, jax, torch in pairs if jax and torch]
        tried = any(r.method == SLOW_TO_COMPILE for r in steps)
        return [row | {"untried": row["pair"] == FASTEST and not tried} for row in found if row["ratio"]]

    def tables(self, rows: Sequence[Row], plan: Plan) -> list[Table]:
        """Return the ratios side by side."""
        lines = [
            (
                row["pair"],
                text.seconds(row["jax_seconds"]),
                text.seconds(row["torch_seconds"]),
                text.ratio(row["ratio"]),
            )
            for row in rows
        ]
        title = f"How much longer does a step of {plan.optimizers[0]} take in PyTorch? It depends on the loop"
        notes = (*map(_loops, rows), *text.flags(row["ratio"] for row in rows))
        return [Table(title, COLUMNS, lines, notes, main=MAIN_COLUMNS)] if rows else []

    def brief(self, rows: Sequence[Row], plan: Plan) -> list[Table]:
        """Return the same, with a title and notes that are short: the notebook's loop is named by its line."""
        notes = tuple(_loops(row) for row in rows if row["pair"] != WRITTEN)
        return [
            replace(t, title=f"Time of a step of {plan.optimizers[0]} by loop", notes=notes)
            for t in self.tables(rows, plan)
        ]

    def verdict(self, rows: Sequence[Row], plan: Plan) -> str:
        """Say each ratio in a sentence, with both loops."""
        return "\n".join(
            f"{WORDS[row['pair']]}: PyTorch / JAX is {text.ratio(row['ratio'])} per step ({_names(row)})"
            for row in rows
        )


def _fastest(records: Iterable[Record]) -> Record | None:
    """Return the fastest way to make one training with the library's own optimizer."""
    alone = [r for r in records if not _apart(r)]
    return min(alone, key=lambda r: r.seconds, default=None)


def _apart(record: Record) -> bool:
    method = METHODS[record.framework][record.method]
    return bool(method.sweep) or method.takes == "folded"


def _largest(results: Results, plan: Plan) -> tuple[Record | None, Record | None]:
    """Return the fastest of each framework at the largest size at which both have a time."""
    timed = [r for r in results.of("loops", "growth") if results.shows(r)]
    for size in sorted(sizes(plan).values(), key=lambda size: -size.flops):
        mine = [r for r in timed if r.subject == size.name]
        jax, torch = (_fastest(r for r in mine if r.framework == f) for f in USUAL)
        if jax and torch:
            return jax, torch
    return None, None


def _row(name: str, jax: Record, torch: Record, results: Results, plan: Plan) -> dict[str, Any]:
    size = sizes(plan)[jax.subject] if name == LARGE else None
    return {
        "pair": name,
        "jax": jax.method,
        "torch": torch.method,
        "jax_seconds": jax.seconds,
        "torch_seconds": torch.seconds,
        "ratio": results.ratio(torch, jax),
        "step": f"{text.plain(size.flops / 1e6)} MFLOP, {size.name}" if size else plan.rows_per_step,
    }


def _names(row: Row) -> str:
    words = (f"{name}: {METHODS[f][row[f]].words}" for f, name in (("jax", "JAX"), ("torch", "PyTorch")))
    return "; ".join([*words, *([row["step"]] if row["pair"] == LARGE else []), *_untried(row)])


def _loops(row: Row) -> str:
    jax, torch = (METHODS[f][row[f]].words for f in ("jax", "torch"))
    step = f" ({row['step']})" if row["pair"] == LARGE else ""
    return "; ".join([f"{row['pair'].capitalize()}{step}: {jax} | {torch}", *_untried(row)])


def _untried(row: Row) -> list[str]:
    """Return a warning where a loop of PyTorch that is often faster was not tried."""
    words = METHODS["torch"][SLOW_TO_COMPILE].words
    return [f"{words}, often faster: --studies loops"] if row["untried"] else []

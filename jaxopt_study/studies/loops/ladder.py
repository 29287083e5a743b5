"""The notebook's training by every way to loop: what each costs, from a call for each operator to a loop in C."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from jaxopt_study.backends import Backend
from jaxopt_study.backends.numpy import training as formula
from jaxopt_study.bench import stats
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.finding import Finding
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.results import Results
from jaxopt_study.bench.task import Skipped, Task, Value
from jaxopt_study.data.workload import Workload, next_up, stack_params
from jaxopt_study.report import answers, charts
from jaxopt_study.report import table as text
from jaxopt_study.report.axes import Axis
from jaxopt_study.report.figures import Figure
from jaxopt_study.report.looks import LABELS
from jaxopt_study.report.table import ABSENT, Table
from jaxopt_study.studies import trained
from jaxopt_study.studies.experiment import Experiment, Row, Rows, all_skipped
from jaxopt_study.studies.loops import methods, usual
from jaxopt_study.studies.loops.methods import METHODS, caption
from jaxopt_study.studies.registry import row_of
from jaxopt_study.studies.tolerances import BEGINNING

SHORT: dict[str, dict[str, tuple[str, ...]]] = {
    "cpu": {
        "jax": ("donated", "scan", "native_scan"),
        "torch": ("notebook", "prepared", "fused", "compiled"),
        "c": ("c_fast_math",),
    },
    "gpu": {
        "jax": ("donated", "scan", "unrolled_scan"),
        "torch": ("notebook", "prepared", "fused", "compiled_graph"),
        "c": (),
    },
}
"""The main job's ladder, by device: usual and fast loops. Of those that are compiled, PyTorch has the one that takes
least: on a CPU 5 s, where four steps in one take 17."""

OTHERS: dict[str, dict[str, tuple[str, ...]]] = {
    "cpu": {
        "jax": ("scan", "native_scan", "vmapped", "sequential"),
        "torch": ("notebook", "fused"),
        "c": ("c_strict", "c_fast_math", "c_apart"),
    },
    "gpu": {
        "jax": ("scan", "unrolled_scan", "vmapped"),
        "torch": ("notebook", "fused", "compiled_graph"),
        "c": ("c_strict", "c_fast_math", "c_apart"),
    },
}
"""The ladder of the optimizers after the first, by device: the loops that matter."""

REFERENCE, LIMIT = "notebook", "c_fast_math"
MAIN_COLUMNS = ("per step", "notebook / it [95 %]", "compile", "max. difference")
"""What a narrow terminal shows of the table."""


class Ladder(Experiment):
    """Every optimizer by the methods of all frameworks; the first optimizer by all of them."""

    study, name = "loops", "ladder"

    def groups(self, plan: Plan) -> list[Group]:
        """Return one group, so that the rounds of each optimizer lie over the seconds of all.

        A moment's neighbour on the same core would otherwise meet all of Adagrad's rounds, which take two seconds, and
        its ratios would hold for that moment. Two processes share the rounds on a CPU; on a GPU a process compiles for
        a minute, and profile smoke is for seconds.
        """
        if plan.overview:
            return [Group(self._cases(plan.optimizers[0], _short(plan), plan), (plan.repeats + 1) // 2)]
        every = {
            f: [name for name, method in mine.items() if method.ladder and (plan.profile == "full" or not method.full)]
            for f, mine in METHODS.items()
        }
        first, *others = plan.optimizers
        cases = self._cases(first, every, plan)
        cases += tuple(case for name in others for case in self._cases(name, OTHERS[plan.device], plan))
        processes = 2 if plan.device == "cpu" and plan.profile != "smoke" else 1
        return [Group(cases, plan.repeats, processes=processes)]

    def _cases(self, optimizer: str, names: Mapping[str, Iterable[str]], plan: Plan) -> tuple[Case, ...]:
        return tuple(
            self.case(optimizer, f, name)
            for f in (*plan.frameworks, "c")
            for name in names[f]
            if METHODS[f][name].only in (None, optimizer)
        )

    def task(self, backend: Backend, case: Case, workload: Workload, plan: Plan) -> Task:
        """Return a lap of a loop, from the workload's initial parameters on."""
        method, formula = METHODS[case.framework][case.method], usual.by_formula(case.subject, workload, plan)
        if case.framework == "c" and not (formula and workload.linear and workload.batch_size == 1):
            raise Skipped("the loops in C are for softmax regression, one row per step, and the table's optimizers")
        loss = None if case.framework == "c" else trained.output_loss(backend, workload, plan)
        loop = methods.make_loop(backend, case.framework, method, case.subject, workload.network, loss, plan)
        conversion, params = trained.conversion(backend, case.framework, workload.network), workload.params
        if method.sweep:
            loop = getattr(getattr(backend, "sweep"), method.sweep)(loop)  # noqa: B009 - JAX's alone
            seeds = range(plan.seed, plan.seed + method.runs)
            params = stack_params([trained.draw(backend, workload, seed) for seed in seeds])
        moved = next_up(workload.params, plan.dtype) if usual.is_usual(case) and not formula else None
        order = method.order(workload)
        return methods.training(backend, method, loop, params, workload.train, order, conversion, moved)

    def summarize(self, case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
        """Keep how far the losses are from training by formula, or losses; of a sweep, the first network's."""
        if not usual.by_formula(case.subject, workload, plan):
            return usual.kept(value)
        losses = value["losses"][0] if METHODS[case.framework][case.method].sweep else value["losses"]
        begin = workload.params, workload.train, workload.steps[: methods.LONGEST]
        how = case.subject, plan.learning_rate, getattr(workload.network, "activation", "tanh")
        return methods.distances(losses, case, plan, lambda: formula.train(*begin, *how))

    def findings(self, records: Sequence[Record], plan: Plan) -> list[Finding]:
        """Compare the losses of each loop with training by formula, or with those of a usual loop."""
        first = BEGINNING[plan.dtype]
        by_formula = [r for r in records if r.ok and "distance" in r.value]
        found = [
            finding
            for r in by_formula
            for finding in methods.compare_losses(r, first, row_of(r.subject).loops[plan.dtype], plan)
        ]
        others = [r for r in records if r not in by_formula]
        for optimizer in plan.optimizers:
            found += usual.findings([r for r in others if r.subject == optimizer], plan)
        return found

    def rows(self, results: Results, plan: Plan) -> Rows:
        """Return one row for each optimizer and method."""
        records = self.records(results)
        return [_row(r, {o.method: o for o in records if o.subject == r.subject}, results) for r in records]

    def tables(self, rows: Sequence[Row], plan: Plan) -> list[Table]:
        """Return one table for each optimizer; the first has the notes on all."""
        found: list[Table] = []
        for name in dict.fromkeys(row["optimizer"] for row in rows):
            notes = [] if found else _notes(rows)
            found.append(_table(name, [row for row in rows if row["optimizer"] == name], plan, notes))
        return found

    def figures(self, results: Results, plan: Plan) -> list[Figure]:
        """Return the times of the first optimizer."""
        optimizer = plan.optimizers[0]
        timed = [r for r in self.records(results) if results.shows(r) and r.subject == optimizer]
        rows = [answers.timed(_words(r), r) for r in sorted(timed, key=lambda r: -r.seconds)]
        axis = Axis("time per step", "s", log=True)
        words = "Each row is a way to loop over the same steps: median of the samples, with their interquartile range."
        title = f"Time per training step by the way to loop: {optimizer}, {plan.workload}"
        return [Figure("loops_ladder", title, words, partial(charts.points, rows, axis))] if rows else []

    def verdict(self, rows: Sequence[Row], plan: Plan) -> str:
        """Say from what to what the time per step goes in the frameworks; the main job's headline says as much."""
        if plan.overview:
            return ""
        optimizer = plan.optimizers[0]
        timed = [r for r in rows if r["step_seconds"] and r["optimizer"] == optimizer and r["framework"] != "c"]
        if len(timed) < 2:
            return ""
        slow, fast = (pick(timed, key=lambda r: r["step_seconds"]) for pick in (max, min))
        return (
            f"depending on the loop alone, a step of {optimizer} takes {text.seconds(slow['step_seconds'])} "
            f"({caption(slow)}) to {text.seconds(fast['step_seconds'])} ({caption(fast)})"
        )


def _words(record: Record) -> str:
    return METHODS[record.framework][record.method].words


def _short(plan: Plan) -> dict[str, tuple[str, ...]]:
    """Return the main job's methods; profile smoke, which is for seconds, has none that `torch.compile` compiles."""
    skipped = methods.COMPILED if plan.profile == "smoke" else None
    return {
        f: tuple(name for name in names if METHODS[f][name].module != skipped)
        for f, names in SHORT[plan.device].items()
    }


def _row(record: Record, peers: Mapping[str, Record], results: Results) -> dict[str, Any]:
    """Return the row of a record; `peers` are the records of the same optimizer by method."""
    row = (
        {"optimizer": record.subject} | methods.timed_facts(record, results) | {"slow_machine": results.slowed(record)}
    )
    if not record.ok:
        return row
    by_usual = {} if "distance" in record.value else usual.distances(list(peers.values()))
    distance = record.value.get("distance", by_usual.get(record.case))
    row |= {"distance": distance, "by_formula": not by_usual, "import_seconds": record.stages["import"]}
    if results.shows(record):
        simpler = METHODS[record.framework][record.method].simpler
        row |= {
            "stages": {name: seconds for name, seconds in record.stages.items() if name != "import"},
            "compile_seconds": _compilation(record),
            "first_seconds": record.first_seconds,
            "notebook_over_it": results.ratio(peers.get(REFERENCE), record),
            "it_over_limit": results.ratio(record, peers.get(LIMIT)),
            "break_even": _break_even(record, peers.get(simpler or ""), results),
        }
    return row


def _break_even(record: Record, simpler: Record | None, results: Results) -> dict[str, Any] | None:
    """Return after how many steps a method has made up for compiling longer; None where it is not surely faster."""
    faster = results.ratio(simpler, record)
    if simpler is None or faster is None:
        return None
    if not faster.low > 1:
        return {"than": simpler.method, "steps": None}
    more = _compilation(record) - _compilation(simpler)
    saved = float(np.median(simpler.step_seconds - record.step_seconds))  # over the rounds, as the ratio is
    return {"than": simpler.method, "steps": max(0, math.ceil(more / saved))}


def _compilation(record: Record) -> float:
    """Return the seconds of all stages but the import, which is the same for all."""
    return sum(seconds for name, seconds in record.stages.items() if name != "import")


def _table(optimizer: str, rows: Sequence[Row], plan: Plan, notes: Sequence[str]) -> Table:
    columns = (
        "loop", "method", "max. difference", "compile", "first lap", "per step", "IQR", "notebook / it [95 %]",
        "it / C [95 %]", "break-even",
    )  # fmt: skip
    lines = [_line(row) for row in sorted(rows, key=lambda row: -(row["step_seconds"] or 0))]
    title = f"Ways to loop: {optimizer}, {plan.workload}, {plan.rows_per_step}, {plan.dtype}"
    whole = Table(title, columns, lines, notes, ("method",), MAIN_COLUMNS, tuple(methods.not_measured(rows)))
    return all_skipped(title, rows) or whole


def _notes(rows: Sequence[Row]) -> list[str]:
    """Return what holds for the tables of all optimizers."""
    imports = {LABELS[row["framework"]]: row["import_seconds"] for row in rows if "import_seconds" in row}
    slow = f"Slow: the machine was over {100 * stats.SLOWED:.0f} % slower than at its best in this run."
    return [
        "Max. difference: of the losses from those of training by formula in float64, relative to the largest."
        if all(row.get("by_formula", True) for row in rows)
        else f"Max. difference: of the first {usual.KEPT} losses from those of the framework's usual loop, relative to "
        "the largest; of JAX's usual loop, from those of PyTorch's.",
        "Compile: trace, lower and compile; for torch.compile, its first call. First lap: the first state and lap; it "
        "includes compilation where no compile time is given. Import, once per process: "
        + (", ".join(f"{name} {text.seconds(took)}" for name, took in imports.items()) or ABSENT),
        "Per step: median of the samples. IQR: their interquartile range, relative to the median. Notebook: the "
        "notebook's loop in PyTorch. C: with -ffast-math -mno-recip, on the same core.",
        "Break-even: the number of steps after which a method has made up for its longer compilation, against the "
        "simpler method in brackets. Never: it is not surely faster.",
        *text.flags(row.get(key) for row in rows for key in ("notebook_over_it", "it_over_limit")),
        *([slow] if any(row["slow_machine"] for row in rows) else []),
    ]


def _line(row: Row) -> tuple[str, ...]:
    name = (caption(row), row["method"])
    if row["status"] != "ok":
        return (*name, row["status"], *[ABSENT] * 7)
    if row["step_seconds"] is None:
        return (*name, f"{_difference(row)}: DISAGREES", *[ABSENT] * 2, "withheld", *[ABSENT] * 4)
    return (
        *name,
        _difference(row),
        text.seconds(row["compile_seconds"]) if row["stages"] else ABSENT,
        text.seconds(row["first_seconds"]),
        text.seconds(row["step_seconds"]),
        text.spread(row["spread"]) + (", slow" if row["slow_machine"] else ""),
        text.ratio(row["notebook_over_it"]),
        text.ratio(row["it_over_limit"]),
        _pays(row["break_even"]),
    )


def _difference(row: Row) -> str:
    """Return the distance; the usual loop that others are compared with has none."""
    return ABSENT if row["distance"] is None else text.number(row["distance"])


def _pays(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ABSENT
    return f"{'never' if found['steps'] is None else format(found['steps'], ',')} ({found['than']})"

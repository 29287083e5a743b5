"""Every method on the workload itself, measured in the same rounds and compared with the closed form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.results import Results
from jaxopt_study.bench.task import Skipped
from jaxopt_study.data import problem as problems
from jaxopt_study.data.problem import Problem
from jaxopt_study.data.workload import LOSSES, Workload
from jaxopt_study.report import answers, charts
from jaxopt_study.report import table as text
from jaxopt_study.report.axes import Axis
from jaxopt_study.report.figures import Figure
from jaxopt_study.report.table import ABSENT, Table
from jaxopt_study.studies.experiment import Row, Rows, all_skipped
from jaxopt_study.studies.hessian.experiment import HessianExperiment
from jaxopt_study.studies.hessian.methods import METHODS, OWN, short
from jaxopt_study.studies.hessian.rows import COLUMNS, MAIN_COLUMNS, cells, label, reasons

FRAMEWORKS_OWN = {"jax": "jax.hessian", "torch": "torch.func.hessian"}


def softmax_regression(workload: Workload) -> Problem:
    """Return the workload's own problem, if the Hessian has a closed form.

    Raises:
        Skipped: It has none.
    """
    if workload.loss != "cross_entropy":
        loss = LOSSES.get(workload.loss, workload.loss)
        raise Skipped(f"the Hessian's closed form is that of softmax regression, and {workload.name} has {loss}")
    if not workload.linear:
        raise Skipped(f"the Hessian's closed form is that of one linear layer, and {workload.name} has another network")
    return problems.whole(workload)


class OnWorkload(HessianExperiment):
    """Every method on the workload."""

    name = "workload"

    def problem(self, case: Case, workload: Workload, plan: Plan) -> Problem:
        """Return the workload's softmax regression."""
        return softmax_regression(workload)

    def groups(self, plan: Plan) -> list[Group]:
        """Return the methods in the same rounds, and the slow ones in another group; see `on_network` for others."""
        if not plan.linear and not plan.overview:
            return []
        runs = ["overview"] if plan.overview else ["overview", "default"] + ["full"] * (plan.profile == "full")
        chosen = [method for method in METHODS.values() if method.since in runs]
        quick = self.cases([method for method in chosen if not method.slow], plan.workload, plan)
        slow = self.cases([method for method in chosen if method.slow], plan.workload, plan)
        # Of slow methods one call is enough, where it does not compile.
        groups = [Group(quick, max(1, plan.repeats // 3)), Group(slow, int(plan.profile == "full"))]
        return [group for group in groups if group.cases]

    def rows(self, results: Results, plan: Plan) -> Rows:
        """Return one row for each case, with its ratios to others."""
        shown = [r for r in self.records(results) if results.shows(r)]
        fastest = {f: _fastest(shown, f) for f in plan.frameworks}
        return [
            self.row(r, results) | {"fastest": r in fastest.values(), "ratios": _ratios(r, shown, fastest, results)}
            for r in self.records(results)
        ]

    def tables(self, rows: Sequence[Row], plan: Plan) -> list[Table]:
        """Return the methods, and their ratios."""
        ratios = _ratio_table(rows)
        return [_method_table(rows, plan), *([ratios] if ratios.rows else [])]

    def figures(self, results: Results, plan: Plan) -> list[Figure]:
        """Return the methods' times, in seconds and in gradients of the same framework."""
        shown = [r for r in self.records(results) if results.shows(r)]
        times = [answers.timed(short(r.method), r) for r in shown]
        ratios = [
            answers.timed(short(r.method), r) | {"value": x.value, "low": x.low, "high": x.high}
            for r in shown
            if (x := self.in_gradients(r, results))
        ]
        gradients = Axis("time, in gradients of the same framework", log=True)
        found = [
            Figure(
                "hessian_methods",
                f"Second derivatives of {plan.workload}: time of each method",
                "Median of the samples, with their interquartile range.",
                partial(charts.points, times, Axis("time", "s", log=True)),
            ),
            Figure(
                "hessian_in_gradients",
                f"Second derivatives of {plan.workload}, in gradients",
                "The time divided by that of the same framework's gradient, with 95 % intervals where both were "
                "measured in the same rounds. The line is one gradient.",
                partial(charts.points, ratios, gradients, line=1),
            ),
        ]
        return found[: 2 if ratios else 1 if times else 0]

    def verdict(self, rows: Sequence[Row], plan: Plan) -> str:
        """Say what the frameworks' fastest automatic differentiation takes, and what blocks save."""
        fastest = [r for r in rows if r["fastest"]]
        if plan.overview:
            return _in_short(fastest)
        times = " and ".join(
            f"{text.seconds(r['seconds'])} in {r['framework']} ({short(r['method'])})" for r in fastest
        )
        what = f"the dense Hessian of {plan.workload} by the fastest automatic differentiation"
        words = [f"{what} takes {times}"] if fastest else []
        for r in rows:
            for other in r["ratios"]:
                if r["framework"] != other["framework"]:
                    words.append(f"PyTorch / JAX is {text.ratio(other['time'])}: {label(r)} over {label(other)}")
                elif (r["method"], other["method"]) == ("hessian_blocked", OWN):
                    memory = f" and {_part(other['memory'])} of its temporary memory" if other["memory"] else ""
                    own = FRAMEWORKS_OWN[r["framework"]]
                    words.append(f"blocks take {text.ratio(other['time'])} of {own}'s time{memory}")
        return "\n".join(words)


def _in_short(fastest: Sequence[Row]) -> str:
    """Say what the fastest automatic differentiation takes in each framework, and their ratio."""
    times = ", ".join(f"{text.seconds(r['seconds'])} in {r['framework']}" for r in fastest)
    by = " and ".join(dict.fromkeys(short(r["method"]) for r in fastest))
    across = [o["time"] for r in fastest for o in r["ratios"] if o["framework"] != r["framework"]]
    ratio = f"; PyTorch / JAX is {text.ratio(across[0])}" if across else ""
    return f"dense Hessian ({by}): {times}{ratio}" if fastest else ""


def _fastest(shown: Sequence[Record], framework: str) -> Record | None:
    """Return the framework's fastest dense Hessian by automatic differentiation."""
    dense = [r for r in shown if r.framework == framework and METHODS[r.method].automatic]
    return min(dense, key=lambda r: r.seconds, default=None)


def _ratios(
    record: Record, shown: Sequence[Record], fastest: Mapping[str, Record | None], results: Results
) -> list[dict[str, Any]]:
    """Return the ratios of a method to what it should be compared with, where both were measured in the same rounds."""
    return [
        {
            "framework": other.framework,
            "method": other.method,
            "time": time,
            "memory": _quotient(record.value.get("temporary_bytes"), other.value.get("temporary_bytes")),
        }
        for other in _others(record, shown, fastest)
        if (time := results.ratio(record, other))
    ]


def _others(record: Record, shown: Sequence[Record], fastest: Mapping[str, Record | None]) -> Iterator[Record]:
    """Yield the framework's own Hessian; what a formula is near to; of PyTorch's fastest, JAX's fastest."""
    mine = {r.method: r for r in shown if r.framework == record.framework}
    if METHODS[record.method].automatic and OWN in mine:
        yield mine[OWN]
    nearest = {"hessian_last_layer": "hessian_closed_form", "hessian_closed_form": "class_pair_products"}
    if record.method == "hessian_last_layer" and OWN in mine:
        yield mine[OWN]
    if nearest.get(record.method) in mine:
        yield mine[nearest[record.method]]
    if record == fastest.get("torch") and (other := fastest.get("jax")):
        yield other


def _quotient(one: int | None, other: int | None) -> float | None:
    return one / other if one and other else None


def _method_table(rows: Sequence[Row], plan: Plan) -> Table:
    size = next((f", {r['rows']} rows, {r['parameters']} parameters" for r in rows if r["status"] == "ok"), "")
    lines = [(label(r), *cells(r), text.ratio(r["in_gradients"]), _mega(r.get("temporary_bytes"))) for r in rows]
    notes = (
        "Residual: largest difference from the reference in float64, relative to its largest entry; the reference of a "
        "Hessian is the closed form. First call: compilation included. No IQR: a single sample.",
        "In gradients: the time divided by that of the same framework's gradient. Temporary: what XLA allocates beside "
        "the result; PyTorch does not say.",
        "Class pair products: the matrix products of the closed form alone.",
        *text.flags(r["in_gradients"] for r in rows),
    )
    columns = ("method", *COLUMNS, "in gradients [95 %]", "temporary MB")
    title = f"Second derivatives of the loss: {plan.workload}{size}, {plan.dtype}"
    return all_skipped(title, rows) or Table(title, columns, lines, notes, (), MAIN_COLUMNS, tuple(reasons(rows)))


def _ratio_table(rows: Sequence[Row]) -> Table:
    pairs = [(r, other) for r in rows for other in r["ratios"]]
    return Table(
        "The same as ratios of times measured in the same rounds",
        ("method / other", "time [95 %]", "temporary memory"),
        [(f"{label(r)} / {label(other)}", text.ratio(other["time"]), _part(other["memory"])) for r, other in pairs],
        (
            "Forward over reverse is jax.hessian and torch.func.hessian.",
            *text.flags(other["time"] for _, other in pairs),
        ),
        main=("time [95 %]",),
    )


def _mega(count: int | None) -> str:
    return ABSENT if count is None else f"{count / 1e6:.1f}"


def _part(quotient: float | None) -> str:
    """Write a part of one as a fraction of it, since it is small."""
    return ABSENT if quotient is None else f"1/{1 / quotient:.0f}" if quotient < 0.5 else f"{quotient:.2f}"

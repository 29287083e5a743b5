"""What happens to the ratio of the frameworks as a step's work grows: networks and batches from small to large."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxopt_study.backends import Backend
from jaxopt_study.backends.numpy import training as formula
from jaxopt_study.bench import stats
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.finding import Finding
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.results import Results
from jaxopt_study.bench.task import Task, Value
from jaxopt_study.data.networks import Dense
from jaxopt_study.data.workload import Array, Workload, draw_params
from jaxopt_study.report import table as text
from jaxopt_study.report.figure import COLOURS, Figure
from jaxopt_study.report.table import ABSENT, Table
from jaxopt_study.studies import trained
from jaxopt_study.studies.experiment import Experiment, Row, Rows
from jaxopt_study.studies.loops import calibration, methods
from jaxopt_study.studies.loops.methods import METHODS, caption
from jaxopt_study.studies.loops.sizes import CLASSES, INPUTS, USUAL, Size, candidates, curves, sizes, tried
from jaxopt_study.studies.registry import row_of
from jaxopt_study.studies.tolerances import GROWTH

FRAMEWORKS = ("jax", "torch")
RANDOM_ROWS = 1024
PASSES = {"adam": 7, "rmsprop": 5, "adagrad": 5, "sgd": 3}
"""Arrays of as many numbers as parameters that an update reads and writes: Adam reads four and writes three."""
MAIN_COLUMNS = ("size", "torch / jax, fastest [95 %]", "usual [95 %]")
"""What a narrow terminal shows of the table."""
FEWEST = 4
"""Sizes from which overhead is fitted."""


class Growth(Experiment):
    """The first optimizer on the networks of `sizes`: the usual method and the fastest ones, in the same rounds."""

    study, name = "loops", "growth"

    def groups(self, plan: Plan) -> list[Group]:
        """Return one group for each size; it has fewer rounds where a sample takes a second."""
        found = []
        for size in sizes(plan).values():
            names = {f: (USUAL[f], *tried(f, size, plan)) for f in plan.frameworks}
            cases = tuple(self.case(size.name, f, name) for f, mine in names.items() for name in mine)
            repeats = plan.repeats * 3 // 4 if size.flops < 1e9 else plan.repeats // 2
            repeats = min(repeats, 6) if plan.overview else repeats  # the fewest that have an exact interval
            found.append(Group(cases, max(1, repeats)))
        return found

    def task(self, backend: Backend, case: Case, workload: Workload, plan: Plan) -> Task:
        """Return a lap of a loop on batches, from drawn parameters on."""
        method, size = METHODS[case.framework][case.method], sizes(plan)[case.subject]
        network, loss, optimizer = Dense(size.widths), backend.models.cross_entropy, plan.optimizers[0]
        row = row_of(optimizer)
        row.require(plan.dtype in row.loops, "training by formula to compare with")
        loop = methods.make_loop(backend, case.framework, method, optimizer, network, loss, plan)
        params, data, order = training_of(size, workload, plan)
        conversion = trained.conversion(backend, case.framework, network)
        return methods.training(backend, method, loop, params, data, order[: method.steps], conversion)

    def summarize(self, case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
        """Keep how far the losses are from training by formula, and what the networks were trained on."""
        begin = training_of(sizes(plan)[case.subject], workload, plan)
        distances = methods.distances(
            value["losses"], case, plan, lambda: formula.train(*begin, plan.optimizers[0], plan.learning_rate)
        )
        rows = f"{workload.name}, inputs scaled to at most 1" if _fits(workload) else "random rows"
        return distances | {"trained_on": rows}

    def findings(self, records: Sequence[Record], plan: Plan) -> list[Finding]:
        """Compare the losses of each loop with training by formula."""
        bound = GROWTH[plan.dtype]
        return [finding for r in records if r.ok for finding in methods.compare_losses(r, bound, bound, plan)]

    def rows(self, results: Results, plan: Plan) -> Rows:
        """Return one row for each size on each curve, then one for each method; `table` says which."""
        records = self.records(results)
        grown = [
            _size_row(curve, size, mine, results, plan)
            for curve, members in curves(plan.profile, plan.device, plan.overview).items()
            for size in members
            if (mine := [r for r in records if r.subject == size.name])
        ]
        return grown + _overheads([r for r in records if results.shows(r)], plan)

    def tables(self, rows: Sequence[Row], plan: Plan) -> list[Table]:
        """Return the ratio at each size, and the overhead of each method."""
        overheads = _of(rows, "overhead")
        return [_ratios_table(_of(rows, "sizes"), plan), *([_overhead_table(overheads)] if overheads else [])]

    def figures(self, results: Results, plan: Plan) -> list[Figure]:
        """Return the ratio, and the arithmetic beside what the machine can do."""
        if plan.overview:  # one size is no curve
            return []
        rows = _of(self.rows(results, plan), "sizes")
        found = []
        if any(row["fastest_ratio"] or row["usual_ratio"] for row in rows):
            words = (
                "PyTorch's time per step over JAX's, against the work of a step. Solid line: the fastest methods that "
                "were tried; filled where all candidates were, hollow where a candidate has no time (PyTorch might be "
                "faster with torch.compile). Dashed line, crosses: the usual methods."
            )
            found.append(Figure("loops_ratio", words, lambda axes: _draw_ratio(axes, rows)))
        if any(case["step_seconds"] for row in rows for case in row["cases"]):
            words = (
                "Floating point operations per second that each method achieves. Black: a large matrix product (JAX "
                "dashed, PyTorch dotted). Grey crosses: the limit where the optimizer's arrays are read and written "
                "at the rate of a large copy."
            )
            units = calibration.seconds_per_unit(results)
            found.append(Figure("loops_flops", words, lambda axes: _draw_flops(axes, rows, units, plan)))
        return found

    def verdict(self, rows: Sequence[Row], plan: Plan) -> str:
        """Say what the ratio is where a step has most work; the main job's headline says as much."""
        if plan.overview:
            return ""
        largest = max((row for row in rows if row.get("fastest_ratio")), key=lambda r: r["flops"], default=None)
        if largest is None:
            return ""
        missing = f", without {', '.join(largest['not_measured'])}" if largest["not_measured"] else ""
        return (
            f"PyTorch's time over JAX's for a step of {text.plain(largest['flops'] / 1e6)} MFLOP ({largest['size']}), "
            f"fastest methods{missing}: {text.ratio(largest['fastest_ratio'])}"
        )


def training_of(size: Size, workload: Workload, plan: Plan) -> tuple[Any, tuple[Array, Array], Array]:
    """Return initial parameters, rows with inputs from 0 to 1, and the rows of each step, (steps, batch), drawn evenly.

    Raw pixels saturate tanh, and training is then chaotic. Rows are random where the workload's do not fit.
    """
    generator = np.random.default_rng(plan.seed)
    if _fits(workload):
        inputs, targets = workload.train
        data = (inputs / np.abs(inputs).max(), targets)
    else:
        data = (generator.random((RANDOM_ROWS, INPUTS)), generator.integers(0, CLASSES, RANDOM_ROWS))
    order = generator.integers(0, len(data[0]), (size.steps(plan.device), size.batch))
    return draw_params(size.widths, plan.seed), data, order


def _fits(workload: Workload) -> bool:
    return workload.fits(INPUTS, CLASSES)


def _size_row(curve: str, size: Size, records: Sequence[Record], results: Results, plan: Plan) -> dict[str, Any]:
    timed = {(r.framework, r.method): r for r in records if results.shows(r)}
    fastest = {f: _fastest(timed.get((f, name)) for name in tried(f, size, plan)) for f in FRAMEWORKS}
    usual = {f: timed.get((f, USUAL[f])) for f in FRAMEWORKS}
    return {
        "table": "sizes",
        "curve": curve,
        "size": size.name,
        "flops": size.flops,
        "parameters": size.parameters,
        "trained_on": next((r.value["trained_on"] for r in records if r.ok), None),
        "cases": [methods.timed_facts(r, results) for r in records],
        "fastest": {f: r and {"method": r.method, "step_seconds": r.seconds} for f, r in fastest.items()},
        "not_measured": _without_time(size, {(r.framework, r.method): r for r in records}, results, plan),
        "fastest_ratio": results.ratio(fastest["torch"], fastest["jax"]),
        "usual_ratio": results.ratio(usual["torch"], usual["jax"]),
    }


def _fastest(records: Iterable[Record | None]) -> Record | None:
    return min((r for r in records if r), key=lambda r: r.seconds, default=None)


def _without_time(size: Size, records: Mapping[tuple[str, str], Record], results: Results, plan: Plan) -> list[str]:
    """Return the candidates that may be faster but have no time; one that cannot run here is none."""
    found = []
    for framework in plan.frameworks:
        for name in candidates(framework, size, plan):
            record = records.get((framework, name))
            if record is None:
                found.append(name)
            elif record.status != "skipped" and not results.shows(record):
                found.append(f"{name} ({'withheld' if record.ok else record.status})")
    return found


def _overheads(timed: Sequence[Record], plan: Plan) -> Rows:
    """Return for each method what of a step is fixed and what grows: seconds = a + b x FLOPs, over all its sizes."""
    found = []
    for framework, method in dict.fromkeys((r.framework, r.method) for r in timed):
        mine = [r for r in timed if (r.framework, r.method) == (framework, method)]
        if len(mine) < FEWEST:
            continue
        work = np.array([sizes(plan)[r.subject].flops for r in mine], dtype=float)
        fixed, slope = stats.overhead(work, np.array([r.seconds for r in mine]))
        row = {"table": "overhead", "framework": framework, "method": method, "sizes": len(mine)}
        found.append(row | {"fixed": fixed, "per_flop": slope})
    return found


def _of(rows: Sequence[Row], table: str) -> list[Row]:
    return [row for row in rows if row["table"] == table]


def _ratios_table(rows: Sequence[Row], plan: Plan) -> Table:
    columns = (
        "what grows", "size", "MFLOP", "JAX: fastest tried", "PyTorch: fastest tried", "not measured",
        "torch / jax, fastest [95 %]", "usual [95 %]",
    )  # fmt: skip
    rows_of = next((f", trained on {row['trained_on']}" for row in rows if row["trained_on"]), "")
    lines = [
        (
            row["curve"],
            row["size"],
            text.plain(row["flops"] / 1e6),
            *(f"{text.seconds(r['step_seconds'])}, {r['method']}" if r else ABSENT for r in row["fastest"].values()),
            ", ".join(row["not_measured"]) or ABSENT,
            text.ratio(row["fastest_ratio"]),
            text.ratio(row["usual_ratio"]),
        )
        for row in rows
    ]
    usual = "; ".join(caption({"framework": f, "method": name}) for f, name in USUAL.items())
    notes = (
        "Size: widths x rows of a batch. MFLOP: of the model in a step, forward and backward. Fastest tried: time per "
        "step, and method. All methods of a size are measured in the same rounds.",
        "Not measured: candidates that might be faster than the fastest tried, but have no time. The compiled methods "
        "take seconds to compile at each size, so only profile full tries them at all sizes.",
        f"Usual: {usual}.",
        *text.flags(row[key] for row in rows for key in ("fastest_ratio", "usual_ratio")),
    )
    reasons = tuple(methods.not_measured([case for row in rows for case in row["cases"]]))
    title = f"Growth of a step's work: {plan.optimizers[0]}, {plan.dtype}{rows_of}"
    return Table(title, columns, lines, notes, ("size", "not measured"), MAIN_COLUMNS, reasons)


def _overhead_table(rows: Sequence[Row]) -> Table:
    lines = [
        (caption(row), f"{row['sizes']}", text.interval(row["fixed"], 1e6), text.interval(row["per_flop"], 1e12))
        for row in rows
    ]
    notes = (
        "Least squares of relative errors over all sizes of a method. The times do not lie on one line exactly; the "
        "intervals say by how much.",
    )
    title = "Fixed overhead per step, and time per FLOP: seconds = a + b x FLOP"
    main = ("a, µs [95 %]", "b, ps/FLOP [95 %]")
    return Table(title, ("method", "sizes", *main), lines, notes, main=main)


def _draw_ratio(axes: Any, rows: Sequence[Row]) -> None:
    styles: dict[str, dict[str, Any]] = {
        "fastest_ratio": {"linestyle": "-"},
        "usual_ratio": {"linestyle": "--", "marker": "x"},
    }
    for colour, curve in zip(COLOURS, dict.fromkeys(row["curve"] for row in rows), strict=False):
        for key, style in styles.items():
            mine = [row for row in rows if row["curve"] == curve and row[key]]
            if not mine:
                continue
            flops, values = [r["flops"] for r in mine], np.array([r[key].value for r in mine])
            ends = np.array([[r[key].low, r[key].high] for r in mine]).T
            label = f"{curve}, {key.removesuffix('_ratio')}"
            axes.errorbar(
                flops, values, yerr=np.abs(ends - values), color=colour, capsize=2, linewidth=1, label=label, **style
            )
            for row in mine if key == "fastest_ratio" else ():
                fill = "white" if row["not_measured"] else colour
                axes.plot(row["flops"], row[key].value, "o", color=colour, markerfacecolor=fill)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set(xlabel="FLOP of the model in a step", ylabel="PyTorch / JAX", xscale="log", yscale="log")
    axes.legend(frameon=False, fontsize="x-small")


def _draw_flops(axes: Any, rows: Sequence[Row], units: Mapping[tuple[str, str], float], plan: Plan) -> None:
    points: dict[str, set[tuple[float, float]]] = {}
    for row in rows:
        for case in row["cases"]:
            if case["step_seconds"]:
                points.setdefault(caption(case), set()).add((row["flops"], row["flops"] / case["step_seconds"]))
    for number, (label, mine) in enumerate(points.items()):
        axes.plot(*zip(*sorted(mine), strict=True), ".", color=COLOURS[number % len(COLOURS)], label=label)
    for framework, style in (("jax", "--"), ("torch", ":")):
        products = [s for (f, probe), s in units.items() if f == framework and probe in calibration.PRODUCTS]
        if products:
            axes.axhline(1 / min(products), color="black", linewidth=0.8, linestyle=style)
    copies = [seconds for (_, probe), seconds in units.items() if probe == "copy"]
    if copies and plan.optimizers[0] in PASSES:
        per_parameter = PASSES[plan.optimizers[0]] * np.dtype(plan.dtype).itemsize * min(copies)
        limits = {row["flops"]: row["flops"] / (row["parameters"] * per_parameter) for row in rows}
        axes.plot(*zip(*sorted(limits.items()), strict=True), "x", color="grey", markersize=4)
    axes.set(xlabel="FLOP of the model in a step", ylabel="FLOP/s", xscale="log", yscale="log")
    axes.legend(frameon=False, fontsize="x-small")

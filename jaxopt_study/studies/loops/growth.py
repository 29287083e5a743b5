"""What happens to the ratio of the frameworks as a step's work grows: networks and batches from small to large."""

from __future__ import annotations

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
from jaxopt_study.bench.task import Task, Value
from jaxopt_study.data.networks import Dense
from jaxopt_study.data.workload import Array, Workload, draw_params
from jaxopt_study.report import answers, charts
from jaxopt_study.report import table as text
from jaxopt_study.report.axes import Axis
from jaxopt_study.report.figures import Figure
from jaxopt_study.report.looks import LABELS
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
MAIN_COLUMNS = ("size", "PyTorch / JAX, fastest [95 %]", "usual [95 %]")
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
        work, found = Axis("work of a step's model, FLOP", "thousands", log=True), []
        if ratios := _ratios(_of(self.rows(results, plan), "sizes")):
            words = (
                "PyTorch's time per step over JAX's, with 95 % intervals; above the line JAX is faster. Each panel is "
                "a way in which a step's work grows. Circled: a candidate has no time (PyTorch might be faster with "
                "torch.compile)."
            )
            ratio = partial(charts.lines, ratios, work, Axis("PyTorch's time / JAX's", log=True), line=1)
            found.append(Figure("loops_ratio", "PyTorch's time over JAX's, against a step's work", words, ratio))
        timed = [r for r in self.records(results) if results.shows(r)]
        if timed:
            words = (
                "Floating point operations per second that each method achieves, beside those of a large matrix "
                "product in the same framework."
            )
            rows = _achieved(timed, results, plan)
            achieved = partial(charts.lines, rows, work, Axis("achieved, FLOP/s", "thousands", log=True))
            found.append(Figure("loops_flops", "Arithmetic achieved, against a step's work", words, achieved))
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
        "PyTorch / JAX, fastest [95 %]", "usual [95 %]",
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


def _ratios(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return a point for each ratio; the fastest methods of a size where a candidate has no time are marked."""
    groups = {"fastest_ratio": "fastest loops", "usual_ratio": "usual loops"}
    return [
        {
            "x": row["flops"],
            "y": row[key].value,
            "low": row[key].low,
            "high": row[key].high,
            "group": group,
            "panel": row["curve"],
            "case": row["size"],
            "interval": text.ratio(row[key]),
            "note": f"not measured: {', '.join(row['not_measured'])}" if row["not_measured"] else "",
            "marked": bool(row["not_measured"]) and key == "fastest_ratio",
        }
        for key, group in groups.items()
        for row in rows
        if row[key]
    ]


def _achieved(records: Sequence[Record], results: Results, plan: Plan) -> list[dict[str, Any]]:
    """Return the FLOP/s of each method, and beside them two limits: of products, and of the optimizer's arrays."""
    all_sizes, units, found = sizes(plan), calibration.seconds_per_unit(results), []
    copies = [seconds for (_, probe), seconds in units.items() if probe == "copy"]
    for framework, method in dict.fromkeys((r.framework, r.method) for r in records):
        mine = [r for r in records if (r.framework, r.method) == (framework, method)]
        panel = f"{LABELS[framework]}: {method.replace('_', ' ')}"
        products = [s for (f, probe), s in units.items() if f == framework and probe in calibration.PRODUCTS]
        for r in sorted(mine, key=lambda r: all_sizes[r.subject].flops):
            size = all_sizes[r.subject]
            point = {"x": size.flops, "panel": panel, **answers.of(r)}
            if copies and plan.optimizers[0] in PASSES:
                per_parameter = PASSES[plan.optimizers[0]] * np.dtype(plan.dtype).itemsize * min(copies)
                limit = 1e-9 * size.flops / (size.parameters * per_parameter)
                point["note"] = f"the optimizer's arrays, copied, allow {text.plain(limit)} GFLOP/s"
            found.append(point | {"y": size.flops / r.seconds, "group": LABELS[framework]})
            if products:
                found.append(point | {"y": 1 / min(products), "group": "a large matrix product"})
    return found

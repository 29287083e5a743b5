"""The loops as tables, charts and a sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from jaxopt_study.bench.case import Plan
from jaxopt_study.bench.record import Record
from jaxopt_study.report import table as text
from jaxopt_study.report.figure import COLOURS, Figure
from jaxopt_study.report.table import ABSENT, Table
from jaxopt_study.bench.stats import SLOWED
from jaxopt_study.studies.loops import judgement
from jaxopt_study.studies.loops.arms import caption

Row = Mapping[str, Any]
COLOUR = dict(zip(("jax", "torch", "c"), COLOURS, strict=False))
SLOW = f"Slow: the machine itself was over {100 * SLOWED:.0f} % slower than at its best in the run."
UNSTABLE = (
    "Ratios are medians over the turns. Unstable, of a ratio: its spread over the turns is over 10 %, its interval "
    "says that another run may give one over 10 % away, the machine was slower meanwhile, or the arm's time varies by "
    "the process (JAX without jit)."
)


def tables(rows: Sequence[Row], plan: Plan) -> list[Table]:
    """Return the ladder of each optimizer, the calibration, the growth of the ratio, and the overhead of each arm."""
    ladders = [_ladder(subject, mine, plan) for subject, mine in _by(rows, "ladder", "subject").items()]
    products, growth = _of(rows, "product"), _of(rows, "growth")
    makers: dict[str, Callable[[Sequence[Row]], Table]] = {
        "calibration": partial(_calibration, products=products),
        "ratio": partial(_growth, arms=growth, plan=plan),
        "fit": _fits,
    }
    others = [(make, _of(rows, kind)) for kind, make in makers.items()]
    return ladders + [make(mine) for make, mine in others if mine]


def figures(records: Sequence[Record], plan: Plan) -> list[Figure]:
    """Return the first ladder; of the growth curves the ratio, and the arithmetic beside what the machine can do."""
    rows = judgement.rows(records, plan)
    ladder = [r for r in rows if r["kind"] == "ladder" and r["status"] == "ok" and r["agrees"]]
    ratios = [r for r in rows if r["kind"] == "ratio" and (r["best_ratio"] or r["usual_ratio"])]
    growth = [r for r in rows if r["kind"] == "growth" and "flops_per_second" in r]
    found = []
    if ladder:
        first = [r for r in ladder if r["subject"] == plan.optimizers[0]]
        words = f"Time per training step by the way to loop, {plan.optimizers[0]}: median of the blocks."
        found.append(Figure("loops_ladder", words, partial(_draw_ladder, rows=first)))
    if ratios:
        words = "PyTorch's time per step over JAX's, against the work of a step: best arms filled, usual ones hollow."
        found.append(Figure("loops_ratio", words, partial(_draw_ratio, rows=ratios)))
    if growth:
        words = (
            "Arithmetic per second that each arm achieves; black, a large matrix product (JAX dashed, PyTorch "
            "dotted); grey crosses, the bound where Adam's arrays are read and written at the rate of a large copy."
        )
        ceilings = [r for r in rows if r["kind"] == "calibration" and r["status"] == "ok"]
        found.append(Figure("loops_flops", words, partial(_draw_flops, rows=growth, ceilings=ceilings)))
    return found


def verdict(rows: Sequence[Row], plan: Plan) -> str:
    """Say how far the ladder goes, and what the ratio is where a step has most work."""
    good = [r for r in rows if r["kind"] == "ladder" and r["status"] == "ok" and r["agrees"]]
    mine = [r for r in good if r["subject"] == plan.optimizers[0] and r["framework"] != "c"]
    parts = []
    if len(mine) > 1:
        slow, fast = (pick(mine, key=lambda r: r["step_seconds"]) for pick in (max, min))
        parts.append(
            f"by the way to loop alone a step of {plan.optimizers[0]} takes from {text.seconds(slow['step_seconds'])} "
            f"({_name(slow)}) to {text.seconds(fast['step_seconds'])} ({_name(fast)})"
        )
    largest = max((r for r in rows if r["kind"] == "ratio" and r["best_ratio"]), key=lambda r: r["flops"], default=None)
    if largest:
        ratio = largest["best_ratio"]
        parts.append(
            f"with {largest['flops'] / 1e6:.3g} MFLOP a step ({largest['subject']}) PyTorch over JAX is "
            f"{text.interval(ratio)}" + (": no difference" if ratio.spans_one else "")
        )
        parts += [f"of a large matrix product alone it is {text.interval(r['ratio'])}" for r in _of(rows, "product")]
    return "; ".join(parts)


def _of(rows: Sequence[Row], kind: str) -> list[Row]:
    return [r for r in rows if r["kind"] == kind]


def _by(rows: Sequence[Row], kind: str, key: str) -> dict[str, list[Row]]:
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        if row["kind"] == kind:
            grouped.setdefault(row[key], []).append(row)
    return grouped


def _name(row: Row) -> str:
    words = caption(row["framework"], row["arm"])
    return words if row["framework"] == "c" else f"{row['framework']}: {words}"


def _ladder(subject: str, rows: Sequence[Row], plan: Plan) -> Table:
    lines = [_rung(row) for row in sorted(rows, key=lambda r: -r.get("step_seconds", np.inf))]
    imports = {r["framework"]: r["import_seconds"] for r in rows if "import_seconds" in r}
    slow = any(r.get("slow_machine") for r in rows)
    return Table(
        f"Ways to loop: {subject}, {plan.workload}, one row a step, {plan.dtype}",
        (
            "loop",
            "parts by",
            "compile",
            "first run",
            "a step",
            "spread",
            "notebook/it [95 %]",
            "it/C [95 %]",
            "pays after",
        ),
        lines,
        (
            "Import, once for all: "
            + ", ".join(f"{name} {text.seconds(took)}" for name, took in imports.items())
            + ". Compile: trace, lower and compile; for torch.compile its first call. First run: the first state and "
            "lap.",
            "Parts by: of the losses from training by formula in float64, relative to the largest. Pays after: steps "
            "until it has made up for compiling longer than the arm that is one simpler (see arms.py). C: with "
            "-ffast-math -mno-recip, on the same core.",
            UNSTABLE,
            *([SLOW] if slow else []),
            *(f"{_name(r)}: {r['status']}, {r['reason']}." for r in rows if r["status"] != "ok"),
        ),
    )


def _rung(row: Row) -> tuple[str, ...]:
    if row["status"] != "ok":
        return (_name(row), row["status"], *[ABSENT] * 7)
    if not row["agrees"]:
        return (_name(row), f"{text.number(row['distance'])}: DISAGREES", *[ABSENT] * 7)
    pays = row["break_even"]
    return (
        _name(row),
        text.number(row["distance"]),
        text.seconds(row["compile_seconds"]) if row["stages"] else ABSENT,
        text.seconds(row["first_seconds"]),
        text.seconds(row["step_seconds"]),
        text.spread(row["spread"]) + (", slow" if row["slow_machine"] else ""),
        _ratio(row["notebook_over_it"], row["notebook_unstable"]),
        _ratio(row["it_over_limit"], row["limit_unstable"]),
        ABSENT if pays is None else "never" if pays["steps"] is None else f"{pays['steps']}",
    )


def _ratio(ratio: Any, unstable: bool = False) -> str:
    if ratio is None:
        return ABSENT
    return text.interval(ratio) + (" unstable" if unstable else ": no difference" if ratio.spans_one else "")


PROBED = {
    "empty_call": "an empty jitted function, a call",
    "operator_call": "one operator, a call",
    "empty_scan": "an empty scan, an iteration",
    "matrix_product": "a large matrix product, AB",
    "onednn_product": "the same by oneDNN",
    "transposed_product": "the same as a kernel's gradient, A'B, rows a power of two apart",
    "copy": "a large array read and written",
}


def _calibration(rows: Sequence[Row], products: Sequence[Row]) -> Table:
    lines = []
    for row in rows:
        words = f"{row['framework']}: {PROBED[row['arm']]}"
        if row["status"] != "ok":
            lines.append((words, row["status"], row["reason"]))
            continue
        lines.append((words, text.rate(row["arm"], row["seconds_per_unit"]), text.spread(row["spread"])))
    notes = (
        *(
            f"A large matrix product, AB, by each one's quickest library, PyTorch's time over JAX's: "
            f"{_ratio(r['ratio'], r['unstable'])}. The growth curves come near it where products rule."
            for r in products
        ),
        "Who is slow at A'B is slow to train wide layers. XLA 0.10 on a CPU is, where rows are a power of two apart; "
        "with an optimization_barrier around the transpose it is not: the growth curves' transposing_scan.",
    )
    return Table("Calibration: what this machine and these versions do", ("what", "rate", "spread"), lines, notes)


def _growth(rows: Sequence[Row], arms: Sequence[Row], plan: Plan) -> Table:
    lines = []
    for row in rows:
        best = row["best"]
        lines.append(
            (
                f"{row['curve']}: {row['subject']}",
                f"{row['flops'] / 1e6:.3g}",
                *(ABSENT if not best[f] else f"{text.seconds(best[f][1])}, {best[f][0]}" for f in ("jax", "torch")),
                *(_ratio(row[f"{kind}_ratio"], row[f"{kind}_unstable"]) for kind in ("best", "usual")),
            )
        )
    return Table(
        f"Growth: {plan.optimizers[0]}, {plan.dtype}, widths x rows of a batch",
        (
            "what grows",
            "MFLOP",
            "best of JAX, a step",
            "best of PyTorch, a step",
            "torch/jax, best [95 %]",
            "usual [95 %]",
        ),
        lines,
        (
            "MFLOP of the model, forward and backward; time of a step. Usual: jit of the step with donation, and "
            "rows prepared. torch.compile takes seconds a size; in profile default a CPU tries it at some, and only "
            f"there best is compared with best. {UNSTABLE}",
            *dict.fromkeys(f"{_name(r)}: {r['status']}, {r['reason']}." for r in arms if r["status"] != "ok"),
        ),
    )


def _fits(rows: Sequence[Row]) -> Table:
    lines = [
        (
            _name(row),
            f"{row['sizes']}",
            *(_micro(row["fixed"], 1e6), _micro(row["per_flop"], 1e12)),
        )
        for row in rows
    ]
    return Table(
        "What is fixed in a step, and what grows: seconds = a + b x FLOP",
        ("arm", "sizes", "a, µs [95 %]", "b, ps/FLOP [95 %]"),
        lines,
        ("Least squares of relative errors over all sizes. No one line holds for all: the intervals say how far.",),
    )


def _micro(interval: Any, scale: float) -> str:
    return f"{scale * interval.value:.3g} [{scale * interval.low:.3g}, {scale * interval.high:.3g}]"


def _draw_ladder(axes: Any, rows: Sequence[Row]) -> None:
    ordered = sorted(rows, key=lambda r: -r["step_seconds"])
    for place, row in enumerate(ordered):
        axes.plot(row["step_seconds"] * 1e6, place, "o", color=COLOUR[row["framework"]])
    axes.set(xlabel="microseconds per step", xscale="log", yticks=range(len(ordered)), yticklabels=map(_name, ordered))
    axes.tick_params(axis="y", labelsize="x-small")
    axes.invert_yaxis()
    axes.grid(axis="x", which="both", alpha=0.3)


def _draw_ratio(axes: Any, rows: Sequence[Row]) -> None:
    for colour, (curve, mine) in zip(COLOURS, _by(rows, "ratio", "curve").items(), strict=False):
        for kind, style in (("best_ratio", {}), ("usual_ratio", {"markerfacecolor": "none"})):
            points = [(r["flops"], r[kind]) for r in mine if r[kind]]
            if not points:
                continue
            flops, ratios = zip(*points, strict=True)
            values = np.array([[i.value, i.low, i.high] for i in ratios]).T
            axes.errorbar(
                flops, values[0], yerr=np.abs(values[1:] - values[0]), color=colour, capsize=2, linewidth=1, marker="o",
                **style, label=f"{curve}, {'best' if kind == 'best_ratio' else 'usual'}",
            )  # fmt: skip
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set(xlabel="FLOP of the model in a step", ylabel="PyTorch / JAX", xscale="log", yscale="log")
    axes.legend(frameon=False, fontsize="x-small")


def _draw_flops(axes: Any, rows: Sequence[Row], ceilings: Sequence[Row]) -> None:
    for number, ((framework, arm), mine) in enumerate(_by_arm(rows).items()):
        points = sorted((r["flops"], r["flops_per_second"]) for r in mine)
        label = f"{framework}: {caption(framework, arm)}"
        axes.plot(*zip(*points, strict=True), ".", color=COLOURS[number % len(COLOURS)], label=label)
    by_probe = {(r["arm"], r["framework"]): r["seconds_per_unit"] for r in ceilings}
    for framework, style in (("jax", "--"), ("torch", ":")):
        products = [by_probe[probe, framework] for probe in judgement.PRODUCTS if (probe, framework) in by_probe]
        if products:
            axes.axhline(1 / min(products), color="black", linewidth=0.8, linestyle=style)
    copies = [seconds for (probe, _), seconds in by_probe.items() if probe == "copy"]
    if copies:
        bounds = {r["flops"]: r["flops"] / (r["optimizer_bytes"] * min(copies)) for r in rows}
        axes.plot(*zip(*sorted(bounds.items()), strict=True), "x", color="grey", markersize=4)
    axes.set(xlabel="FLOP of the model in a step", ylabel="FLOP/s", xscale="log", yscale="log")
    axes.legend(frameon=False, fontsize="x-small")


def _by_arm(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    grouped: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        grouped.setdefault((row["framework"], row["arm"]), []).append(row)
    return grouped

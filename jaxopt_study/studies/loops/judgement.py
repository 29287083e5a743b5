"""What the loops' records say: which agree with training by formula, and what each step costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np

from jaxopt_study.bench import stats
from jaxopt_study.bench.case import Case, Plan
from jaxopt_study.bench.finding import Finding
from jaxopt_study.bench.record import Record, slowed_cases
from jaxopt_study.studies.loops.arms import ARMS, BEST, BY_PROCESS, LIMIT, REFERENCE, USUAL, curves
from jaxopt_study.studies.loops.experiments import CALIBRATION, FIRST_STEPS, growth_sizes, torch_arms
from jaxopt_study.studies.optimizers import PINNED_LEARNING_RATE
from jaxopt_study.studies.tolerances import BEGINNING, GROWTH, LOOPS

Rows = list[dict[str, Any]]

PRODUCTS = ("matrix_product", "onednn_product")
ADAMS_PASSES = 7
"""An update of Adam reads parameters, gradient and both moments, and writes all but the gradient."""


def findings(records: Sequence[Record], plan: Plan) -> list[Finding]:
    """Hold the losses of each loop to training by formula."""
    return [_finding(r, plan) for r in records if r.ok and r.subject != CALIBRATION]


def _finding(record: Record, plan: Plan) -> Finding:
    """Away from the pinned learning rate training may be chaotic: there only the first steps can be compared."""
    distance, beginning = record.value["distance"], record.value["beginning"]
    grows = record.subject in growth_sizes(plan)
    first = (GROWTH if grows else BEGINNING)[plan.dtype].bound
    words = f"the first {FIRST_STEPS} losses part from the formula's by {beginning:.1e} (at most {first:.0e})"
    alike = beginning <= first
    if plan.learning_rate == PINNED_LEARNING_RATE:
        bound = (GROWTH[plan.dtype] if grows else LOOPS[plan.dtype, record.subject]).bound
        words += f", all by {distance:.1e} (at most {bound:.0e})"
        alike = alike and distance <= bound
    return Finding(record.case.key, bool(alike), words)


def rows(records: Sequence[Record], plan: Plan) -> Rows:
    """Return a row for each case, then one for each size and for each arm of the growth curves.

    Their `kind` is ladder, calibration or growth; and ratio, or fit.
    """
    agrees = {finding.subject: finding.agrees for finding in findings(records, plan)}
    sizes = growth_sizes(plan)
    slowed = slowed_cases(records)
    found = []
    for record in records:
        right = agrees.get(record.case.key) is not False
        if record.subject == CALIBRATION:
            found.append(_calibration_row(record))
        elif record.subject in sizes:
            found.append(_growth_row(record, right, plan))
        else:
            row = _ladder_row(record, records, right, agrees, slowed)
            found.append(row | {"slow_machine": record.case in slowed})
    return found + product(records) + best_and_usual(records, plan) + fits(records, plan)


def _base(record: Record, kind: str) -> dict[str, Any]:
    row: dict[str, Any] = {
        "kind": kind,
        "subject": record.subject,
        "framework": record.framework,
        "arm": record.method,
        "status": record.status,
        "reason": record.reason,
    }
    if record.ok:
        row["step_seconds"] = float(np.median(record.step_seconds))
        row["spread"] = stats.spread(record.step_seconds)
    return row


def _calibration_row(record: Record) -> dict[str, Any]:
    row = _base(record, "calibration")
    return row | {"seconds_per_unit": row["step_seconds"] / record.value["amount"]} if record.ok else row


def product(records: Sequence[Record]) -> Rows:
    """Return the ratio torch / JAX of a large matrix product alone, each by its quickest library."""
    probes = [r for r in records if r.ok and r.subject == CALIBRATION and r.method in PRODUCTS]
    best = {f: _quickest([r for r in probes if r.framework == f]) for f in ("torch", "jax")}
    ratio, unstable = _judged_ratio(best["torch"], best["jax"], slowed_cases(records))
    return [{"kind": "product", "ratio": ratio, "unstable": unstable}] if ratio else []


def _ladder_row(
    record: Record, records: Sequence[Record], agrees: bool, verdicts: Mapping[str, Any], slowed: Set[Case]
) -> dict[str, Any]:
    row = _base(record, "ladder") | {"agrees": agrees}
    if not record.ok:
        return row
    row |= {
        "distance": record.value["distance"],
        "import_seconds": record.stages["import"],
        "stages": {name: seconds for name, seconds in record.stages.items() if name != "import"},
        "compile_seconds": _compilation(record),
        "first_seconds": record.first_seconds,
    }
    peers = {r.method: r for r in records if r.ok and r.subject == record.subject}
    good = {name: r for name, r in peers.items() if verdicts.get(r.case.key) is not False}
    if agrees:
        notebook, limit = good.get(REFERENCE), good.get(LIMIT)
        row["notebook_over_it"], row["notebook_unstable"] = _judged_ratio(notebook, record, slowed)
        row["it_over_limit"], row["limit_unstable"] = _judged_ratio(record, limit, slowed)
        row["break_even"] = _break_even(record, good.get(ARMS[record.framework][record.method].simpler or ""))
    return row


def _break_even(record: Record, simpler: Record | None) -> dict[str, Any] | None:
    """Return after how many steps an arm has paid for what it takes longer to compile, where it is surely quicker."""
    faster = simpler.ratio_to(record) if simpler else None
    if simpler is None or faster is None:
        return None
    if not faster.low > 1:
        return {"than": simpler.method, "steps": None}
    more = _compilation(record) - _compilation(simpler)
    saved = float(np.median(simpler.step_seconds - record.step_seconds))  # over the turns, as the ratio is
    return {"than": simpler.method, "steps": max(0, int(np.ceil(more / saved)))}


def _compilation(record: Record) -> float:
    """Return the seconds of all stages but the import, which is the same for all."""
    return sum(seconds for name, seconds in record.stages.items() if name != "import")


def _growth_row(record: Record, agrees: bool, plan: Plan) -> dict[str, Any]:
    size = growth_sizes(plan)[record.subject]
    row = _base(record, "growth") | {"agrees": agrees, "flops": size.flops, "parameters": size.parameters}
    row["optimizer_bytes"] = ADAMS_PASSES * size.parameters * np.dtype(plan.dtype).itemsize
    if record.ok and agrees:
        row["flops_per_second"] = size.flops / row["step_seconds"]
    return row


def curves_of(plan: Plan) -> dict[str, list[str]]:
    """Return the sizes of each curve by name, in the order in which they grow."""
    sizes = growth_sizes(plan)
    by_size = {size: name for name, size in sizes.items()}
    return {curve: [by_size[size] for size in members] for curve, members in curves(plan.profile, plan.device).items()}


def best_and_usual(records: Sequence[Record], plan: Plan) -> Rows:
    """Return for each size the ratio torch / JAX of the best arms and of the usual ones."""
    good = {f.subject for f in findings(records, plan) if f.agrees}
    slowed = slowed_cases(records)
    timed = [r for r in records if r.ok and r.case.key in good]
    may_be_best = BEST[plan.device]
    found: Rows = []
    for curve, names in curves_of(plan).items():
        for name in names:
            if not any(r.subject == name for r in timed):
                continue
            mine = {(r.framework, r.method): r for r in timed if r.subject == name}
            best = {f: _quickest([mine[f, a] for a in arms if (f, a) in mine]) for f, arms in may_be_best.items()}
            usual = {f: mine.get((f, arm)) for f, arm in USUAL.items()}
            size = growth_sizes(plan)[name]
            left_out = {r.method for r in records if (r.subject, r.framework, r.status) == (name, "torch", "skipped")}
            best_ratio, best_unstable = _judged_ratio(best["torch"], best["jax"], slowed)
            usual_ratio, usual_unstable = _judged_ratio(usual["torch"], usual["jax"], slowed)
            found.append(
                {
                    "kind": "ratio",
                    "curve": curve,
                    "subject": name,
                    "flops": size.flops,
                    "best": {f: r and (r.method, _seconds(r)) for f, r in best.items()},
                    "usual": {f: r and _seconds(r) for f, r in usual.items()},
                    # Where one of the arms that may be best was not tried, or failed, there is no best.
                    "best_ratio": best_ratio
                    if all(("torch", arm) in mine or arm in left_out for arm in torch_arms(size, plan))
                    else None,
                    "best_unstable": best_unstable,
                    "usual_ratio": usual_ratio,
                    "usual_unstable": usual_unstable,
                }
            )
    return found


def _judged_ratio(
    numerator: Record | None, denominator: Record | None, slowed: Set[Case]
) -> tuple[stats.Interval | None, bool]:
    """Return the ratio of times measured in the same turns, and whether another run may give one over 10 % away.

    It may where the ratio was not steady over the turns, where its interval leaves that open, where one of the arms is
    known to vary by the process, and where the machine was slowed: Python's calls then slow by another part than
    arithmetic.
    """
    if numerator is None or denominator is None or numerator is denominator:
        return None, False
    found = numerator.ratio_to(denominator)
    if found is None:  # one of them was measured after a --resume
        return None, False
    spread = stats.spread(numerator.step_seconds / denominator.step_seconds)
    slow = numerator.case in slowed or denominator.case in slowed
    varies = not BY_PROCESS.isdisjoint((numerator.method, denominator.method))
    return found, slow or varies or spread > stats.UNSTABLE or found.vague


def _quickest(arms: Sequence[Record]) -> Record | None:
    return min(arms, key=_seconds, default=None)


def _seconds(record: Record) -> float:
    return float(np.median(record.step_seconds))


def fits(records: Sequence[Record], plan: Plan) -> Rows:
    """Return for each arm what of a step is fixed and what grows: seconds = a + b x FLOPs, over all its sizes."""
    good = {f.subject for f in findings(records, plan) if f.agrees}
    by_arm: dict[tuple[str, str], list[Record]] = {}
    for r in records:
        if r.ok and r.case.key in good and r.subject in growth_sizes(plan):
            by_arm.setdefault((r.framework, r.method), []).append(r)
    found = []
    for (framework, arm), mine in by_arm.items():
        if len(mine) < 4:
            continue
        work = np.array([growth_sizes(plan)[r.subject].flops for r in mine], dtype=float)
        fixed, slope = stats.overhead(work, np.array([_seconds(r) for r in mine]))
        found.append(
            {"kind": "fit", "framework": framework, "arm": arm, "sizes": len(mine), "fixed": fixed, "per_flop": slope}
        )
    return found

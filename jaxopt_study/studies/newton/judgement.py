"""What the records of the race say: whose values agree, and what each arm took to come near the optimum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxopt_study.bench import stats
from jaxopt_study.bench.case import Plan
from jaxopt_study.bench.finding import Finding
from jaxopt_study.bench.record import Record
from jaxopt_study.studies.newton import regressions
from jaxopt_study.studies.newton.arms import ARMS, FIRST_ORDER
from jaxopt_study.studies.newton.problems import PROBLEMS
from jaxopt_study.studies.tolerances import DESCENT, NEWTON, NEWTON_PATH

__all__ = ["PEER", "TARGETS", "by_problem", "findings", "optimum", "rows", "shares"]

REFERENCE = ("numpy", "scikit-learn newton-cholesky")
PEER = REFERENCE[1]
PEERS = (REFERENCE, ("torch", "torchmin newton-exact"))
"""Whose time exact Newton's is a ratio of."""
TARGETS = (1e-2, 1e-4, 1e-8)
CONVERGED = (1, 2)
"""`Status.GRADIENT` and `Status.DECREMENT` of the backends' minimizers."""
CHAOTIC = 1e-4
"""As in `optimizers`: a run that parts so far from itself cannot be compared."""
COMPARED = 16
"""Marks at which first-order methods are compared: 300 steps on all rows, or 15 epochs row by row."""


def by_problem(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Return the records of each problem that was raced on."""
    found = {name: [r for r in records if r.subject == name and not regressions.is_one(r)] for name in PROBLEMS}
    return {name: mine for name, mine in found.items() if mine}


def findings(records: Sequence[Record], plan: Plan) -> list[Finding]:
    """Hold what converged to scikit-learn's optimum, and the frameworks' paths to each other."""
    found = regressions.findings([r for r in records if regressions.is_one(r)], plan)
    for mine in by_problem(records).values():
        found += [*_optima(mine, plan), *_paths(mine, plan), *_descents(mine, plan)]
    return found


def _optima(records: Sequence[Record], plan: Plan) -> list[Finding]:
    reference, bound = _of(records, *REFERENCE), NEWTON[plan.dtype].bound
    if reference is None:
        return []
    best = reference.value["values"][-1]
    found = []
    for r in records:
        if r.ok and r.value.get("status") in CONVERGED:
            apart = abs(r.value["values"][-1] - best)
            words = f"{apart:.1e} from scikit-learn's optimum (at most {bound:.0e})"
            found.append(Finding(r.case.key, apart <= bound, words))
    return found


def _paths(records: Sequence[Record], plan: Plan) -> list[Finding]:
    """Compare exact Newton's iterates. A disagreement strikes both, since it is not known who is wrong."""
    jax, torch = _of(records, "jax", "Newton"), _of(records, "torch", "Newton")
    if jax is None or torch is None:
        return []
    a, b = np.array(jax.value["path"]), np.array(torch.value["path"])
    bound, common = NEWTON_PATH[plan.dtype, jax.subject].bound, min(len(a), len(b))
    apart = stats.absolute_distance(a[:common], b[:common])
    words = f"{jax.subject}: iterates part by {apart:.1e} (at most {bound:.0e}), {len(a) - 1} and {len(b) - 1} steps"
    # The last steps, at the floor of rounding, can be one more or less.
    return [Finding("Newton", apart <= bound and abs(len(a) - len(b)) <= 1, words)]


def _descents(records: Sequence[Record], plan: Plan) -> list[Finding]:
    """Compare the objective at the first marks of the first-order methods."""
    pairs = [(_of(records, "jax", r.method), r) for r in records if r.ok and r.framework == "torch"]
    return [_compare(jax, torch, plan) for jax, torch in pairs if jax and ARMS["jax"][jax.method].name in FIRST_ORDER]


def _compare(jax: Record, torch: Record, plan: Plan) -> Finding:
    """Compare them, and say where JAX's own run, started elsewhere by a last digit, parts from itself: chaos.

    RMSprop leaps where a pixel that is seldom lit has a gradient near 0, and where it lands depends on the last digit:
    one run parts from itself by 1e-12 after 400 steps and by 1e-3 after 500; momentum row by row in its first epoch.
    """
    ours, theirs, moved = (
        np.array(values)[:COMPARED]
        for values in (jax.value["values"], torch.value["values"], jax.value["moved_values"])
    )
    apart, itself = stats.relative_distance(ours, theirs), stats.relative_distance(moved, ours)
    bound = DESCENT[plan.dtype].bound
    words = f"{jax.subject}: the objectives at the first {len(ours)} marks part by {apart:.1e} (at most {bound:.0e})"
    rates = [r.value["learning_rate"] for r in (jax, torch)]
    if rates[0] != rates[1]:
        return Finding(jax.method, None, f"{words}, tuned to learning rates {rates[0]:.2g} and {rates[1]:.2g}")
    if apart > bound and itself > CHAOTIC:
        return Finding(jax.method, None, f"{words}, and JAX's from itself, moved by a last digit, by {itself:.1e}")
    return Finding(jax.method, apart <= bound, words)


def rows(records: Sequence[Record], plan: Plan) -> list[dict[str, Any]]:
    """Return one row for each arm of each problem: its end, and what it took to each target; then the regressions."""
    wrong = {finding.subject for finding in findings(records, plan) if finding.agrees is False}
    raced = []
    for mine in by_problem(records).values():
        best = optimum(mine)
        peers = [r for r in (_of(mine, *name) for name in PEERS) if r is not None]
        raced += [_row(r, best, not wrong & {r.case.key, r.method}, peers) for r in mine]
    return [*raced, *regressions.rows([r for r in records if regressions.is_one(r)], plan)]


def optimum(records: Sequence[Record]) -> float:
    """Return scikit-learn's optimal value; where it did not run, the least that was found."""
    reference = _of(records, *REFERENCE)
    if reference is not None:
        return float(reference.value["values"][-1])
    return min((min(r.value["values"]) for r in records if r.ok), default=float("nan"))


def _of(records: Sequence[Record], framework: str, method: str) -> Record | None:
    return next((r for r in records if r.ok and (r.framework, r.method) == (framework, method)), None)


def _row(record: Record, best: float, agrees: bool, peers: Sequence[Record]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "problem": record.subject,
        "framework": record.framework,
        "arm": record.method,
        "status": record.status,
        "reason": record.reason,
        "agrees": agrees,
    }
    if not record.ok:
        return row
    seconds = float(np.median(record.step_seconds))
    gaps = (np.array(record.value["values"]) - best) / best
    return row | {
        "value": record.value["values"][-1],
        "gap": float(gaps[-1]),
        "steps": record.value["steps"][-1],
        "work": record.value["work"][-1],
        "learning_rate": record.value.get("learning_rate"),
        "test_accuracy": record.value["test_accuracies"][-1],
        "first_seconds": record.first_seconds,
        "seconds": seconds,
        "spread": stats.spread(record.step_seconds),
        "ratios": {peer.method: _ratio(record, peer) for peer in peers if peer is not record},
        "targets": {str(target): _reached(record, gaps, target, seconds) for target in TARGETS},
    }


def _ratio(record: Record, peer: Record) -> stats.Interval:
    """Return the ratio of two arms' times, with its interval where they were measured in the same turns."""
    medians = [np.median(r.step_seconds, keepdims=True) for r in (record, peer)]
    return record.ratio_to(peer) or stats.ratio(*medians)


def _reached(record: Record, gaps: np.ndarray, target: float, seconds: float) -> dict[str, float] | None:
    """Return when the gap was first within the target; an arm that shows its end alone was there at its end."""
    (marks,) = np.nonzero(gaps <= target)
    if not len(marks):
        return None
    mark = marks[0]
    return {
        "seconds": float(seconds * shares(record)[mark]),
        "steps": record.value["steps"][mark],
        "work": record.value["work"][mark],
        "test_accuracy": record.value["test_accuracies"][mark],
    }


def shares(record: Record) -> np.ndarray:
    """Return the part of the run's seconds gone at each mark."""
    work = np.array(record.value["work"])
    return np.ones(1) if len(work) == 1 else work / work[-1]

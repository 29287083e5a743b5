"""Where training has no formula in NumPy: the losses of each loop, compared with those of a usual loop.

Of each framework one loop is the usual one. The others are compared with it, and it is compared with the other
framework's. How much they may differ is told by the usual loop itself, run again from parameters moved by one unit in
the last place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxopt_study.bench import stats
from jaxopt_study.bench.case import Case, Plan
from jaxopt_study.bench.finding import Finding, compare
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.task import Value
from jaxopt_study.data.workload import Workload
from jaxopt_study.studies.optimizers import CHAOTIC, FIRST_STEPS, SENSITIVITIES
from jaxopt_study.studies.registry import row_of
from jaxopt_study.studies.tolerances import GROWTH

__all__ = ["KEPT", "by_formula", "distances", "findings", "is_usual", "kept"]

KEPT = 448
"""The losses of so many steps are kept and compared: one lap of JAX's usual loop."""
USUAL = {"jax": ("jitted", "donated", "scan"), "torch": ("prepared", "notebook")}
"""The usual loops, of which the first that was measured counts."""


def by_formula(optimizer: str, workload: Workload, plan: Plan) -> bool:
    """Return whether there is a training by formula: of dense layers, a softmax loss and a rule in NumPy."""
    formula = plan.dtype in row_of(optimizer).loops and workload.loss == "cross_entropy"
    return formula and bool(workload.widths) and workload.train[0].dtype.kind == "f"


def is_usual(case: Case) -> bool:
    """Return whether the case may be compared with."""
    return case.method in USUAL.get(case.framework, ())


def kept(value: Value) -> dict[str, Any]:
    """Return what a record keeps of the losses; of a sweep, those of the first network."""
    losses = value["losses"][0] if value["losses"].ndim == 2 else value["losses"]
    found = {"losses": losses[:KEPT].tolist()}
    return found | ({"moved_losses": value["moved_losses"][:KEPT].tolist()} if "moved_losses" in value else {})


def distances(records: Sequence[Record]) -> dict[Case, float]:
    """Return how far the losses of each case are from those that they are compared with; of one optimizer."""
    return {r.case: _distance(r, other)[0] for r, other in _pairs(records)}


def findings(records: Sequence[Record], plan: Plan) -> list[Finding]:
    """Compare the losses of the cases of one optimizer."""
    return [_compare(r, other, plan) for r, other in _pairs(records)]


def _pairs(records: Sequence[Record]) -> list[tuple[Record, Record]]:
    """Return each record with that of the usual loop that it is compared with."""
    measured = {(r.framework, r.method): r for r in records if r.ok}
    # The first name of each framework is set last, and so is the one that counts.
    usual = {f: measured[f, name] for f, names in USUAL.items() for name in names[::-1] if (f, name) in measured}
    pairs = []
    for r in (r for r in records if r.ok):
        other = usual.get(r.framework)
        if other is r:
            other = next((o for framework, o in usual.items() if framework != r.framework), None)
        if other is not None and not (r is usual.get("torch") and other is usual.get("jax")):
            pairs.append((r, other))
    return pairs


def _distance(record: Record, other: Record) -> tuple[float, int]:
    """Return the distance of the losses that both have, and how many they are."""
    count = min(len(record.value["losses"]), len(other.value["losses"]))
    return stats.scaled_distance(record.value["losses"][:count], other.value["losses"][:count]), count


def _sensitivity(record: Record, other: Record, count: int) -> float:
    """Return the smaller of the two losses' distances from themselves, after one unit in the last place."""
    values = [r.value for r in (record, other) if "moved_losses" in r.value]
    return min(stats.scaled_distance(value["moved_losses"][:count], value["losses"][:count]) for value in values)


def _compare(record: Record, other: Record, plan: Plan) -> Finding:
    count = _distance(record, other)[1]
    if _sensitivity(record, other, count) > CHAOTIC:
        count = min(count, FIRST_STEPS)  # chaotic training, which only its first steps can compare
    sensitivity = _sensitivity(record, other, count)
    distance = stats.scaled_distance(record.value["losses"][:count], other.value["losses"][:count])
    what = f"losses of the first {count} steps, with those of a usual loop"
    # A wrong loop does not make the one that all are compared with doubtful; the other framework's does.
    cases = (record.case,) if record.framework == other.framework else (record.case, other.case)
    return compare(what, cases, distance, max(GROWTH[plan.dtype].bound, SENSITIVITIES * sensitivity))

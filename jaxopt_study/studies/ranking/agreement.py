"""The ranking's runs in PyTorch: do they agree with those of JAX's sweep?"""

from __future__ import annotations

from collections.abc import Sequence

from jaxopt_study.bench import stats
from jaxopt_study.bench.case import Case, Plan
from jaxopt_study.bench.finding import Finding, compare
from jaxopt_study.bench.record import Record
from jaxopt_study.data.workload import Array
from jaxopt_study.studies.optimizers import CHAOTIC, SENSITIVITIES
from jaxopt_study.studies.ranking import points
from jaxopt_study.studies.ranking.outcomes import Losses, chosen, read
from jaxopt_study.studies.tolerances import Bound

# The validation loss after each epoch, relative, from the first initialization: the worst of profile default.
BOUNDS = {"float64": Bound(1.5e-13, 1.4e-14), "float32": Bound(1.2e-4, 1.2e-5)}


def findings(records: Sequence[Record], plan: Plan) -> list[Finding]:
    """Compare the frameworks' curves at the default learning rate and at the chosen one, where PyTorch ran it."""
    cases = {(r.framework, *points.parts(r.subject)): r.case for r in records if r.ok}
    there = {(o.optimizer, o.workload): o for o in read(records, "torch")}
    found: list[Finding] = []
    for here in read(records):
        other = there.get((here.optimizer, here.workload))
        if other is not None:
            pair = tuple(cases[framework, here.optimizer, here.workload] for framework in ("jax", "torch"))
            found += _compare(here, other, pair, plan)
    return found


def _compare(here: Losses, there: Losses, pair: tuple[Case, ...], plan: Plan) -> list[Finding]:
    found = []
    for words, point in chosen(here, plan).items():
        other = there.find(here.rates[point[1]], point[0])
        if other is not None:
            what = f"validation loss per epoch, {words} learning rate, relative"
            first, second = here.validation[0, *point], there.validation[0, *other]
            found.append(_compared(what, pair, first, second, here.moved[0, *point], plan))
    return found


def _compared(what: str, pair: tuple[Case, ...], here: Array, there: Array, moved: Array, plan: Plan) -> Finding:
    """Compare two curves; where training is more sensitive to rounding than where the bound was measured, by that."""
    distance, sensitivity = (stats.relative_distance(curve, here) for curve in (there, moved))
    bound = max(BOUNDS[plan.dtype].bound, SENSITIVITIES * sensitivity)
    if sensitivity > CHAOTIC and distance > BOUNDS[plan.dtype].bound:
        note = f"chaotic training: one unit in the last place changes JAX's own losses by {sensitivity:.1e}"
        return Finding(what, pair, distance, BOUNDS[plan.dtype].bound, None, note)
    return compare(what, pair, distance, bound)

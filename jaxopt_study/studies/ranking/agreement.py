"""The ranking's runs in PyTorch: do they agree with those of JAX's sweep?"""

from __future__ import annotations

from collections.abc import Sequence

from jaxopt_study.bench import stats
from jaxopt_study.bench.case import Case, Plan
from jaxopt_study.bench.finding import Finding, compare
from jaxopt_study.bench.record import Record
from jaxopt_study.studies.ranking import points
from jaxopt_study.studies.ranking.outcomes import Losses, chosen, read
from jaxopt_study.studies.tolerances import Bound

# The validation loss after each epoch, relative, from the first initialization.
BOUNDS = {"float64": Bound(1e-10, 0.0), "float32": Bound(1.2e-4, 1.2e-5)}


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
            first, second = (losses.validation[0, *at] for losses, at in ((here, point), (there, other)))
            what = f"validation loss per epoch, {words} learning rate, relative"
            found.append(compare(what, pair, stats.relative_distance(first, second), BOUNDS[plan.dtype].bound))
    return found

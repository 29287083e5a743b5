"""The ranking's runs in PyTorch: do they agree with those of JAX's sweep?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy.typing as npt

from jaxopt_study.bench import stats
from jaxopt_study.bench.case import Case, Plan
from jaxopt_study.bench.finding import Finding, compare
from jaxopt_study.bench.record import Record
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
            found.append(compared(what, pair, first, second, here.moved[0, *point], BOUNDS[plan.dtype].bound))
    return found


def compared(
    what: str, pair: tuple[Case, ...], here: npt.ArrayLike, there: npt.ArrayLike, moved: npt.ArrayLike, bound: float
) -> Finding:
    """Compare the losses of two frameworks.

    Args:
        what: What they are, for the reader.
        pair: The cases.
        here: JAX's losses.
        there: The other ones.
        moved: JAX's, from initial parameters moved by one unit in the last place. Where training is more sensitive to
            rounding than where the bound was measured, this sets the bound.
        bound: The bound that was measured.
    """
    distance, sensitivity = (stats.relative_distance(losses, here) for losses in (there, moved))
    if sensitivity > CHAOTIC and distance > bound:
        note = f"chaotic training: one unit in the last place changes JAX's own losses by {sensitivity:.1e}"
        return Finding(what, pair, distance, bound, None, note)
    return compare(what, pair, distance, max(bound, SENSITIVITIES * sensitivity))

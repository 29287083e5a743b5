"""The studies: one question each, one line each in the table."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping

from jaxopt_study.bench.case import Case
from jaxopt_study.studies.derivatives import DERIVATIVES
from jaxopt_study.studies.dictionary import DICTIONARY
from jaxopt_study.studies.experiment import Experiment, Study
from jaxopt_study.studies.hessian import HESSIAN
from jaxopt_study.studies.loops import LOOPS
from jaxopt_study.studies.minimizers import MINIMIZERS
from jaxopt_study.studies.newton import NEWTON
from jaxopt_study.studies.optimizers import OPTIMIZERS_STUDY
from jaxopt_study.studies.ranking import RANKING
from jaxopt_study.studies.spread import SPREAD
from jaxopt_study.studies.steps import STEPS_STUDY
from jaxopt_study.studies.timer import TIMER

__all__ = ["EVERY", "MAIN_JOB", "STUDIES", "Experiment", "Study", "experiment"]

STUDIES: dict[str, Study] = {
    "optimizers": OPTIMIZERS_STUDY,
    "spread": SPREAD,
    "ranking": RANKING,
    "loops": LOOPS,
    "derivatives": DERIVATIVES,
    "hessian": HESSIAN,
    "dictionary": DICTIONARY,
    "newton": NEWTON,
    "minimizers": MINIMIZERS,
    "timer": TIMER,
}
"""The studies that can be asked for by name."""

EVERY: Mapping[str, Study] = ChainMap(STUDIES, {"steps": STEPS_STUDY})
"""These, and the study of a user's steps, which `--experiment` asks for."""

MAIN_JOB = ("optimizers", "loops", "ranking", "derivatives", "hessian", "newton")
"""The studies that run when none is named; together they take one to one and a half minutes."""


def experiment(case: Case) -> Experiment:
    """Return the experiment that a case belongs to."""
    return next(e for e in EVERY[case.study].experiments if e.name == case.experiment)

"""When does Newton's method pay? It and its relatives race first-order methods to one penalized optimum."""

from jaxopt_study.studies.experiment import Study
from jaxopt_study.studies.newton.own_loss import OwnLoss
from jaxopt_study.studies.newton.race import Race
from jaxopt_study.studies.newton.regressions import Regressions

__all__ = ["NEWTON", "Race", "Regressions"]

NEWTON = Study(
    "Newton: when do second-order methods pay?",
    (Race(), OwnLoss(), Regressions()),
    "Newton's method, its relatives and first-order methods go from the same start to the same optimum; what counts is "
    "when each comes near it.",
)

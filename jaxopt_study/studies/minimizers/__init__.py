"""How many problems does `newton.minimize` solve, beside other people's minimizers, and with how much work?"""

from jaxopt_study.studies.experiment import Study
from jaxopt_study.studies.minimizers.cutest import Cutest

__all__ = ["MINIMIZERS"]

MINIMIZERS = Study(
    "Minimizers: how many problems of CUTEst does each solve, with how much work?",
    (Cutest(),),
    "Each begins at the problem's own start. What ours say of their ends is checked against the objective there.",
)

"""Is Adam better than other optimizers, at default learning rates and when each is tuned equally?"""

from jaxopt_study.studies.experiment import Study
from jaxopt_study.studies.ranking.alone import Alone
from jaxopt_study.studies.ranking.beforehand import Beforehand
from jaxopt_study.studies.ranking.diagnostics import Streams, Surfaces
from jaxopt_study.studies.ranking.overview import Overview
from jaxopt_study.studies.ranking.sweep import Sweep

__all__ = ["RANKING"]

RANKING = Study(
    "Ranking: is Adam better than other optimizers, untuned and tuned?",
    (Overview(), Beforehand(), Alone(), Sweep(), Surfaces(), Streams()),
    "Each optimizer trains from several initial parameters at each learning rate of a grid; the validation loss "
    "chooses, the test loss ranks.",
)

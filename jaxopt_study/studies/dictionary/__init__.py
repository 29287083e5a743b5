"""Is every torch.optim optimizer what the dictionary says it is in optax, on the versions installed?"""

from jaxopt_study.studies.dictionary.conventions import Conventions
from jaxopt_study.studies.dictionary.growth import Growth
from jaxopt_study.studies.dictionary.packages import Packages
from jaxopt_study.studies.dictionary.rows import Configurations
from jaxopt_study.studies.dictionary.upstream import Upstream
from jaxopt_study.studies.experiment import Study

__all__ = ["DICTIONARY"]

DICTIONARY = Study(
    "Dictionary: is every torch.optim optimizer what we say it is in optax?",
    (Configurations(), Growth(), Conventions(), Packages(), Upstream()),
    "Both optimizers are given the same gradients, and their parameters are compared step by step.",
)

"""A training step that a user wrote, in one framework or in both: do they train alike, and which way is faster?"""

from jaxopt_study.studies.experiment import Study
from jaxopt_study.studies.steps.check import Check
from jaxopt_study.studies.steps.times import Times

__all__ = ["STEPS_STUDY"]

STEPS_STUDY = Study(
    "Your step: do the frameworks train alike, and which way is faster?",
    (Check(), Times()),
    "The steps train on the same batches and are compared; then each is timed by every way to loop.",
)

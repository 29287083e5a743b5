"""Where does the time of a training step go: which loop, which clock, and how much of it is work?"""

from jaxopt_study.studies.experiment import Study
from jaxopt_study.studies.loops.calibration import Calibration
from jaxopt_study.studies.loops.growth import Growth
from jaxopt_study.studies.loops.headline import Headline
from jaxopt_study.studies.loops.ladder import Ladder

__all__ = ["LOOPS"]

LOOPS = Study(
    "Loops: where does the time of a step go, and how does the ratio fall to one?",
    (Headline(), Ladder(), Calibration(), Growth()),
    "The same training runs by each way to loop, and on networks and batches of growing size; losses are compared "
    "before times are shown.",
)

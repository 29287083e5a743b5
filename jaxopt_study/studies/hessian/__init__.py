"""What does a Hessian cost, by each method, in each framework, and how does the cost grow?

Every method is compared with a reference: on the workload, where all are measured in the same rounds, with the closed
form; on the networks of the cost curves, where each case has a process of its own, with differences of the gradient. On
a workload of another network there is no closed form, and methods are compared with each other.
"""

from __future__ import annotations

from jaxopt_study.studies.experiment import Study
from jaxopt_study.studies.hessian.curves import Curves
from jaxopt_study.studies.hessian.newton_step import NewtonStep
from jaxopt_study.studies.hessian.on_network import OnNetwork
from jaxopt_study.studies.hessian.on_workload import OnWorkload
from jaxopt_study.studies.hessian.sparse import Sparse

__all__ = ["HESSIAN"]

HESSIAN = Study(
    "Hessian: what does it cost, by each method, and how does that grow?",
    (OnWorkload(), OnNetwork(), Curves(), Sparse(), NewtonStep()),
    "Each method's second derivatives are compared with a closed form or with differences of the gradient, then timed "
    "in the same rounds.",
)

"""Newton's method and its relatives, for any tree of parameters, with guards: `minimize(fun, x0, *args)`.

Files: `minimize` (the door), `driver` (the loop, for all algorithms), a file for each algorithm (`exact`, `conjugate`,
`trust_region`, `lbfgs`), `linear` (closed forms), `line_search`, `problem` (the objective on vectors), `step`,
`checks`, `result`.
"""

from torch_reference.newton import peers
from torch_reference.newton.linear import logistic_hessian, softmax_system
from torch_reference.newton.minimize import METHODS, minimize
from torch_reference.newton.problem import Composite, System
from torch_reference.newton.result import Counts, Result, Status

__all__ = [
    "METHODS",
    "Composite",
    "Counts",
    "Result",
    "Status",
    "System",
    "logistic_hessian",
    "minimize",
    "peers",
    "softmax_system",
]

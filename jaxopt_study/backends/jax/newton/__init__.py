"""Newton's method and its relatives, for any tree of parameters, with guards: `minimize(fun, x0, *args)`.

Files: `minimize` (the door), `driver` (the loop, for all algorithms), a file for each algorithm (`exact`, `conjugate`,
`trust_region`, `lbfgs`), `linear` (closed forms), `line_search`, `problem` (the objective on vectors), `step`,
`checks`, `result`.
"""

from jaxopt_study.backends.jax.newton.linear import logistic_hessian, softmax_system
from jaxopt_study.backends.jax.newton.minimize import METHODS, many, minimize
from jaxopt_study.backends.jax.newton.problem import Composite, System
from jaxopt_study.backends.jax.newton.result import Counts, Result, Status

__all__ = [
    "METHODS",
    "Composite",
    "Counts",
    "Result",
    "Status",
    "System",
    "logistic_hessian",
    "many",
    "minimize",
    "softmax_system",
]

"""Newton's method and its relatives for any tree of parameters: `minimize(fun, x0, *args)`.

Files: `minimize` (the public function), `options`, `checks`, `result`; `driver` (the loop of all algorithms) and `step`
(one iteration); a file for each algorithm (`exact`, `conjugate`, `trust_region`, `lbfgs`); `subproblem`; `line_search`;
`problem` (the objective on vectors); `linear` (closed forms); `program` (functions known by what they compute);
`implicit` (the derivative of the solution).
"""

from jaxopt_study.backends.jax.newton.linear import logistic_hessian, softmax_system
from jaxopt_study.backends.jax.newton.minimize import METHODS, many, minimize
from jaxopt_study.backends.jax.newton.options import Composite, System
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

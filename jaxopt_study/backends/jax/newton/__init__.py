"""Newton's method and its relatives for any tree of parameters: `minimize(fun, x0, *args)`.

Files: `minimize` (the public function), `options`, `checks`, `result`; `driver` (the loop of all algorithms) and `step`
(one iteration); a file for each algorithm (`exact`, `conjugate`, `trust_region`, `lbfgs`); `subproblem`, `projected`
(a region with bounds); `line_search`; `bounds` (how a user gives them); `choice` (of algorithms, by default);
`problem` (the objective on vectors); `linear` (closed forms); `program` (functions known by what they compute);
`implicit` (the derivative of the solution); `auxiliary` (an objective that returns more than its value); `watch` (what
may end a run from outside). Beside `minimize`: `collection` (the problems of CUTEst), `peers` (other people's
minimizers).
"""

from jaxopt_study.backends.jax.newton import collection, peers
from jaxopt_study.backends.jax.newton.adapter import scipy_method
from jaxopt_study.backends.jax.newton.linear import logistic_hessian, softmax_system
from jaxopt_study.backends.jax.newton.minimize import METHODS, many, minimize
from jaxopt_study.backends.jax.newton.options import Composite, System
from jaxopt_study.backends.jax.newton.result import Counts, Result, Status
from jaxopt_study.backends.jax.newton.watch import Progress

__all__ = [
    "METHODS",
    "Composite",
    "Counts",
    "Progress",
    "Result",
    "Status",
    "System",
    "collection",
    "logistic_hessian",
    "many",
    "minimize",
    "peers",
    "scipy_method",
    "softmax_system",
]

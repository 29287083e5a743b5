"""Newton's method and its relatives for any tree of parameters: `minimize(fun, x0, *args)`.

Files: `minimize` (the public function), `options`, `checks`, `result`; `driver` (the loop of all algorithms) and `step`
(one iteration); a file for each algorithm (`exact`, `conjugate`, `trust_region`, `lbfgs`); `subproblem`, `projected`
(a region with bounds); `line_search`; `bounds` (how a user gives them); `choice` (of algorithms, by default);
`problem` (the objective on vectors); `linear` (closed forms); `implicit` (the derivative of the solution); `auxiliary`
(an objective that returns more than its value); `watch` (what may end a run from outside). Beside `minimize`: `peers`
(other people's minimizers).
"""

from torch_reference.newton import peers
from torch_reference.newton.adapter import scipy_method
from torch_reference.newton.linear import logistic_hessian, softmax_system
from torch_reference.newton.minimize import METHODS, minimize
from torch_reference.newton.options import Composite, System
from torch_reference.newton.result import Counts, Result, Status
from torch_reference.newton.watch import Progress

__all__ = [
    "METHODS",
    "Composite",
    "Counts",
    "Progress",
    "Result",
    "Status",
    "System",
    "logistic_hessian",
    "minimize",
    "peers",
    "scipy_method",
    "softmax_system",
]

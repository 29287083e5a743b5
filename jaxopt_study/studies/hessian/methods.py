"""The table of methods for second derivatives: the backends' functions, how they are called, what memory they take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxopt_study.backends import Backend
from jaxopt_study.data.problem import Problem
from jaxopt_study.data.workload import Array, ParameterTree, enumerate_params

BOTH = ("jax", "torch")


@dataclass(frozen=True)
class Method:
    """A way to a second derivative, or to what it is compared with.

    Attributes:
        module: The backend's module, and in it the function `name`.
        frameworks: Which backends have it.
        of: What the function takes: `loss`; `model` (predict and the loss of its outputs); `layers` (these, and the
            name of the last layer); or nothing, for a closed form, which is the function of (params, batch) itself, or
            its matrix products, the function of `rows`.
        result: `matrix`, `product` (with a vector), `diagonal`, `probed diagonal`, `gradient` or
            `products`, of the closed form.
        columns: How many columns of the matrix are under way at once: `all`, `some`, or `pairs` (all P x P of them).
        slow: Whether it is too slow on digits to be anyone's choice, so that it is measured once.
        since: The smallest run that has it: `overview`, `default` or `full`.
        compiler: Whether it needs a C++ compiler on a CPU.
    """

    module: str
    name: str
    frameworks: tuple[str, ...] = BOTH
    of: str = "loss"
    result: str = "matrix"
    columns: str = "some"
    slow: bool = False
    since: str = "default"
    compiler: bool = False

    @property
    def automatic(self) -> bool:
        """Whether it makes the dense Hessian by automatic differentiation."""
        return (self.of, self.result) == ("loss", "matrix")


_TABLE = (
    Method("derivatives", "hessian_forward_over_reverse", columns="all", since="overview"),
    Method("derivatives", "hessian_reverse_over_reverse", columns="all"),
    Method("derivatives", "hessian_forward_over_forward", columns="pairs", slow=True, since="full"),
    Method("derivatives", "hessian_functional", ("torch",), slow=True),
    Method("derivatives", "hessian_functional_vectorized", ("torch",), columns="all", slow=True),
    Method("derivatives", "hessian_functional_forward", ("torch",), columns="all", slow=True),
    Method("derivatives", "hessian_double_backward", ("torch",), slow=True),
    Method("derivatives", "hessian_compiled", ("torch",), columns="all", since="full", compiler=True),
    Method("blocks", "hessian_blocked", since="overview"),
    Method("blocks", "gauss_newton", of="model"),
    Method("last_layer", "hessian_last_layer", of="layers"),
    Method("closed_form", "hessian_closed_form", ("jax", "torch", "numpy"), of="nothing"),
    Method("derivatives", "gradient", result="gradient"),
    Method("derivatives", "hvp_forward_over_reverse", result="product"),
    Method("derivatives", "hvp_reverse_over_forward", result="product"),
    Method("derivatives", "hvp_reverse_over_reverse", result="product"),
    Method("blocks", "diagonal_exact", result="diagonal"),
    Method("blocks", "diagonal_hutchinson", result="probed diagonal"),
    Method("closed_form", "class_pair_products", of="rows", result="products"),
)

METHODS = {method.name: method for method in _TABLE}

OWN = "hessian_forward_over_reverse"
"""`jax.hessian` and `torch.func.hessian`: what a user would call."""

# Bytes for each activation and column under way, in units of the type's size. Measured: the compiler says 2.1 to 3.7
# for JAX, and a fresh process's peak 4 to 10 for PyTorch.
LIVE_COPIES = {"jax": 4, "torch": 8, "numpy": 2}
MOST_COLUMNS = 65
"""Columns under way at once in the larger of the backends' blocks."""


def short(method: str) -> str:
    """Return a method's name for the reader."""
    return method.removeprefix("hessian_").replace("_", " ")


def make(backend: Backend, method: Method, problem: Problem) -> Callable[..., Any]:
    """Return the backend's function of (params, batch[, vector or probes]) for this method."""
    function = getattr(getattr(backend, method.module), method.name)
    if method.of == "nothing":
        return function
    if method.of == "rows":
        return lambda *data: function(*data[2:])  # rows and weights come after params and batch
    model = backend.models.network(problem.widths)
    if method.of in ("model", "layers"):
        last = (f"layer{len(problem.widths) - 1}",) * (method.of == "layers")
        return function(backend.models.predict(model), backend.models.cross_entropy, *last)
    return function(backend.models.loss(model))


def estimate_bytes(method: Method, framework: str, problem: Problem, itemsize: int) -> int:
    """Return about how much memory the method takes beside what the process holds already."""
    size = problem.size
    columns = {"all": size, "pairs": size**2, "some": min(size, MOST_COLUMNS)}[method.columns]
    result = size**2 if method.result == "matrix" else size
    return itemsize * (2 * result + LIVE_COPIES[framework] * columns * problem.activations)


def places(backend: Backend, params: ParameterTree) -> Array:
    """Return where, in the backend's own order, each parameter stands, in the project's (`workload.ravel`)."""
    numbered = backend.runtime.params_from_numpy(enumerate_params(params))
    return np.argsort(backend.runtime.to_numpy(backend.runtime.ravel(numbered)))

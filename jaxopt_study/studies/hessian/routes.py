"""The table of routes to second derivatives: the backends' functions, how they are called, what memory they take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxopt_study.data.problem import Problem
from jaxopt_study.data.workload import ParameterTree, enumerate_params

BOTH = ("jax", "torch")


@dataclass(frozen=True)
class Route:
    """A way to a second derivative, or to what it is weighed by.

    Attributes:
        module: The backend's module, and in it the function `method`.
        frameworks: Which backends have it.
        of: What the function takes: `loss`, `model` (predict and the loss of its outputs), or nothing, for a closed
            form, which is the function of (params, batch) itself, or its matrix products, the function of `rows`.
        result: `matrix`, `product` (with a vector), `diagonal`, `probed diagonal`, `gradient` or
            `products`, of the closed form.
        columns: How many columns of the matrix are under way at once: `all`, `some`, or `pairs` (all P x P of them).
        slow: Whether it is too slow on digits to be anyone's choice, so that it is measured once.
    """

    module: str
    method: str
    frameworks: tuple[str, ...] = BOTH
    of: str = "loss"
    result: str = "matrix"
    columns: str = "some"
    slow: bool = False


ROUTES = (
    Route("derivatives", "hessian_forward_over_reverse", columns="all"),
    Route("derivatives", "hessian_reverse_over_reverse", columns="all"),
    Route("derivatives", "hessian_forward_over_forward", columns="pairs", slow=True),
    Route("derivatives", "hessian_functional", ("torch",), slow=True),
    Route("derivatives", "hessian_functional_vectorized", ("torch",), columns="all", slow=True),
    Route("derivatives", "hessian_functional_forward", ("torch",), columns="all", slow=True),
    Route("derivatives", "hessian_double_backward", ("torch",), slow=True),
    Route("derivatives", "hessian_compiled", ("torch",), columns="all"),
    Route("blocks", "hessian_blocked"),
    Route("blocks", "gauss_newton", of="model"),
    Route("closed_form", "hessian_closed_form", ("jax", "torch", "numpy"), of="nothing"),
)

PARTS = (
    Route("derivatives", "gradient", result="gradient"),
    Route("derivatives", "hvp_forward_over_reverse", result="product"),
    Route("derivatives", "hvp_reverse_over_forward", result="product"),
    Route("derivatives", "hvp_reverse_over_reverse", result="product"),
    Route("blocks", "diagonal_exact", result="diagonal"),
    Route("blocks", "diagonal_hutchinson", result="probed diagonal"),
    Route("closed_form", "class_pair_products", of="rows", result="products"),
)

BY_NAME = {route.method: route for route in (*ROUTES, *PARTS)}

# Bytes for each activation and column under way, in units of the type's size. Measured: the compiler says 2.1 to 3.7
# for JAX, and a fresh process's peak 4 to 10 for PyTorch.
LIVE_COPIES = {"jax": 4, "torch": 8, "numpy": 2}
MOST_COLUMNS = 65
"""Columns under way at once in the larger of the backends' blocks."""


def short(method: str) -> str:
    """Return a route's name for the reader."""
    return method.removeprefix("hessian_").replace("_", " ")


def make(backend: Any, route: Route, problem: Problem) -> Callable[..., Any]:
    """Return the backend's function of (params, batch[, vector or probes]) for this route."""
    function = getattr(getattr(backend, route.module), route.method)
    if route.of == "nothing":
        return function
    if route.of == "rows":
        return lambda *data: function(*data[2:])  # rows and weights come after params and batch
    model = backend.models.network(problem.widths)
    if route.of == "model":
        return function(backend.models.predict(model), backend.models.cross_entropy)
    return function(backend.models.loss(model))


def estimate_bytes(route: Route, framework: str, problem: Problem, itemsize: int) -> int:
    """Return about how much memory the route takes beside what the process holds already."""
    size = problem.size
    columns = {"all": size, "pairs": size**2, "some": min(size, MOST_COLUMNS)}[route.columns]
    result = size**2 if route.result == "matrix" else size
    return itemsize * (2 * result + LIVE_COPIES[framework] * columns * problem.activations)


def places(backend: Any, params: ParameterTree) -> np.ndarray:
    """Return where, in the backend's own order, each parameter stands, in the project's (`workload.ravel`)."""
    numbered = backend.runtime.params_from_numpy(enumerate_params(params))
    return np.argsort(backend.runtime.to_numpy(backend.runtime.ravel(numbered)))

"""What a method's value is compared with, in NumPy and float64: no reference uses automatic differentiation."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from jaxopt_study.backends.numpy import closed_form, derivatives
from jaxopt_study.data.problem import Problem
from jaxopt_study.data.workload import Array, ravel
from jaxopt_study.studies.hessian.methods import Method

DIRECTIONS = 3
PROBES = 4


def directions(size: int) -> Array:
    """Return the fixed directions of products, (`DIRECTIONS`, size)."""
    return np.random.default_rng(1).standard_normal((DIRECTIONS, size))


def vectors(method: Method, problem: Problem) -> Array | None:
    """Return what the method is called with, in the project's order: a vector, probes of random signs, or nothing."""
    if method.result == "product":
        return directions(problem.size)[0]
    if method.result == "probed diagonal":
        return np.random.default_rng(2).choice([-1.0, 1.0], (PROBES, problem.size))
    return None


def vector(method: Method, problem: Problem) -> Array:
    """Return the value, as one vector, of a method that makes no matrix."""
    if method.result == "gradient":
        return derivatives.gradient_network(problem.params, problem.batch)
    if method.result == "products":
        rows, weights = closed_form.rows_and_weights(problem.params, problem.batch)
        return np.einsum("ni,pn,nj->pij", rows, weights, rows, optimize=True).ravel()
    matrix, given = hessian(problem), vectors(method, problem)
    if given is None:
        return np.diag(matrix)
    return matrix @ given if given.ndim == 1 else np.mean([z * (matrix @ z) for z in given], axis=0)


def hessian(problem: Problem) -> Array:
    """Return the Hessian's closed form, read-only: one array for all cases of a problem."""
    return _hessian(_Key(problem.widths, ravel(problem.params).tobytes(), problem.batch[0].tobytes(), problem))


def products(problem: Problem) -> Array:
    """Return the Hessian's products with fixed directions, (P, `DIRECTIONS`), by differences of the gradient."""
    columns = [
        derivatives.hessian_product_by_differences(problem.params, problem.batch, v) for v in directions(problem.size)
    ]
    return np.stack(columns, axis=1)


def project(matrix: Array, places: Array, problem: Problem) -> dict[str, Array]:
    """Return a backend's matrix times the same directions, its asymmetry, and itself if it has a closed form.

    Args:
        matrix: In the backend's own order of parameters.
        places: Where in that order each parameter stands: see `methods.places`.
        problem: What the matrix is the Hessian of.
    """
    moved = np.empty((problem.size, DIRECTIONS))
    moved[places] = directions(problem.size).T
    value = {"products": (matrix @ moved.astype(matrix.dtype))[places], "asymmetry": np.array(_asymmetry(matrix))}
    return value | ({"matrix": matrix[np.ix_(places, places)]} if problem.linear else {})


@dataclass(frozen=True)
class _Key:
    """A problem, known by what it holds: each case makes its own."""

    widths: tuple[int, ...]
    params: bytes
    inputs: bytes
    problem: Problem = field(compare=False)


@lru_cache(maxsize=1)
def _hessian(key: _Key) -> Array:
    matrix = closed_form.hessian_closed_form(key.problem.params, key.problem.batch)
    matrix.flags.writeable = False
    return matrix


def _asymmetry(matrix: Array) -> float:
    """Return the largest |H - H'|, relative to the largest |H|, without a second matrix, which would count as peak."""
    differences = [np.abs(matrix[i : i + 256] - matrix[:, i : i + 256].T).max() for i in range(0, len(matrix), 256)]
    return float(max(differences) / np.maximum(matrix.max(), -matrix.min()))

"""Test functions of optimization, in arithmetic alone, so that any framework's arrays can be put in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class TestFunction:
    """A function to minimize.

    Attributes:
        value: value(x, *data), a scalar.
        starts: Where random starts lie, (low, high) in each coordinate.
        minima: Its minimizers, or the known ones, as rows.
        minimum: Its least value.
        data: Arrays that `value` takes.
    """

    __test__ = False  # not a test, whatever pytest thinks of its name

    value: Callable[..., Any]
    size: int
    starts: tuple[float, float]
    minima: Array
    minimum: float = 0.0
    data: tuple[Array, ...] = ()


def rosenbrock(x: Any) -> Any:
    """Return the sum of 100 (x[i+1] - x[i]^2)^2 + (1 - x[i])^2 (Rosenbrock, 1960): a bent, narrow valley.

    From 4 dimensions on it has a second, local minimum near (-1, 1, ..., 1).
    """
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def beale(x: Any) -> Any:
    """Return Beale's function (1958): flat far out, and steep beyond."""
    a, b = x[0], x[1]
    return (1.5 - a + a * b) ** 2 + (2.25 - a + a * b**2) ** 2 + (2.625 - a + a * b**3) ** 2


def himmelblau(x: Any) -> Any:
    """Return Himmelblau's function (1972): four minima, four saddles and a maximum."""
    a, b = x[0], x[1]
    return (a**2 + b - 11) ** 2 + (a + b**2 - 7) ** 2


def powell(x: Any) -> Any:
    """Return Powell's singular function (1962), summed over fours; at the minimum the Hessian has half its rank."""
    a, b, c, d = x[0::4], x[1::4], x[2::4], x[3::4]
    return ((a + 10 * b) ** 2 + 5 * (c - d) ** 2 + (b - 2 * c) ** 4 + 10 * (a - d) ** 4).sum()


def quadratic(x: Any, matrix: Any) -> Any:
    """Return (x - 1)' A (x - 1) / 2."""
    r = x - 1
    return (r * (matrix @ r)).sum() / 2


def saddle(x: Any) -> Any:
    """Return x^2 - y^2 + y^4 / 2: a saddle at the origin, minima at (0, 1) and (0, -1)."""
    return x[0] ** 2 - x[1] ** 2 + x[1] ** 4 / 2


def ill_conditioned(size: int = 12, condition: float = 1e12, seed: int = 0) -> Array:
    """Return a positive definite matrix with eigenvalues from condition^-1/2 to condition^1/2, in a random basis."""
    basis, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))
    matrix = basis * np.geomspace(condition**-0.5, condition**0.5, size) @ basis.T
    return (matrix + matrix.T) / 2


HIMMELBLAU = [[3, 2], [-2.805118086952745, 3.131312518250573], [-3.779310253377747, -3.283185991286170],
              [3.584428340330492, -1.848126526964404]]  # fmt: skip

TEST_FUNCTIONS: dict[str, TestFunction] = {
    "rosenbrock": TestFunction(rosenbrock, 2, (-2.0, 2.0), np.ones((1, 2))),
    "rosenbrock-12": TestFunction(rosenbrock, 12, (-2.0, 2.0), np.ones((1, 12))),
    "beale": TestFunction(beale, 2, (-4.5, 4.5), np.array([[3.0, 0.5]])),
    "himmelblau": TestFunction(himmelblau, 2, (-5.0, 5.0), np.array(HIMMELBLAU)),
    "powell": TestFunction(powell, 12, (-4.0, 4.0), np.zeros((1, 12))),
    "quadratic-1e12": TestFunction(quadratic, 12, (-2.0, 2.0), np.ones((1, 12)), data=(ill_conditioned(),)),
    "saddle": TestFunction(saddle, 2, (-2.0, 2.0), np.array([[0.0, 1.0], [0.0, -1.0]]), minimum=-0.5),
}

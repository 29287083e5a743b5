"""The surfaces that are drawn, by formula: those of JAX's `surfaces` of the same names."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["SURFACES"]

Array = npt.NDArray[np.floating]


def _quadratic(x: Array, y: Array) -> Array:
    return (x**2 + 1000 * y**2) / 2


def _rosenbrock(x: Array, y: Array) -> Array:
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


SURFACES: dict[str, Callable[[Array, Array], Array]] = {"quadratic": _quadratic, "rosenbrock": _rosenbrock}

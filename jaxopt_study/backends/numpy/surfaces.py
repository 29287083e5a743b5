"""The surfaces that are drawn, by formula: those of JAX's `surfaces` of the same names."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["LEVEL_SETS", "SURFACES"]

Array = npt.NDArray[np.floating]


def _quadratic(x: Array, y: Array) -> Array:
    return (x**2 + 1000 * y**2) / 2


def _rosenbrock(x: Array, y: Array) -> Array:
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


SURFACES: dict[str, Callable[[Array, Array], Array]] = {"quadratic": _quadratic, "rosenbrock": _rosenbrock}


def _quadratic_level(height: float, angles: Array) -> tuple[Array, Array]:
    return np.sqrt(2 * height) * np.cos(angles), np.sqrt(2 * height / 1000) * np.sin(angles)


def _rosenbrock_level(height: float, angles: Array) -> tuple[Array, Array]:
    x = 1 + np.sqrt(height) * np.cos(angles)
    return x, x**2 + np.sqrt(height / 100) * np.sin(angles)


LEVEL_SETS: dict[str, Callable[[float, Array], tuple[Array, Array]]] = {
    "quadratic": _quadratic_level,
    "rosenbrock": _rosenbrock_level,
}
"""Surface -> the points (x, y) at which it has a height, once around by the angle from 0 to 2 pi."""

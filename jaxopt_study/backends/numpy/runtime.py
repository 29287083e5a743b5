"""Conversion to and from this backend, which works on NumPy arrays; most functions return what they are given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "Array",
    "ParameterTree",
    "compilations",
    "configure",
    "describe",
    "from_numpy",
    "is_ready",
    "params_from_numpy",
    "params_to_numpy",
    "preload",
    "ravel",
    "temporary_memory",
    "to_numpy",
    "wait",
]

Array = npt.NDArray[Any]
ParameterTree = dict[str, dict[str, Array]]
"""Layer -> {kernel (inputs, outputs), bias (outputs,)}: flax's layout."""

_float_type = np.dtype(np.float64)


def configure(dtype: str, device: str, threads: int) -> None:
    """Set the floating point type. NumPy runs on the CPU only, and its BLAS set its threads when it was loaded."""
    global _float_type
    del device, threads
    _float_type = np.dtype(dtype)


def preload() -> None:
    """Do nothing: NumPy loads nothing lazily."""


def describe() -> dict[str, str]:
    """Return the versions and settings in force, as text."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # type: ignore[index, call-overload]
    return {"numpy": np.__version__, "blas": f"{blas['name']} {blas['version']}", "dtype": str(_float_type)}


def from_numpy(array: Array) -> Array:
    """Return `array`: floats in the type set by `configure`, integers as integers."""
    array = np.asarray(array)
    return array.astype(_float_type) if array.dtype.kind == "f" else array


def params_from_numpy(tree: Any) -> Any:
    """Return the tree with its leaves converted by `from_numpy`; the layout stays."""
    return {layer: {name: from_numpy(leaf) for name, leaf in leaves.items()} for layer, leaves in tree.items()}


def to_numpy(array: Array) -> Array:
    """Return `array`."""
    return array


def ravel(params: Mapping[str, Any]) -> Array:
    """Return the leaves as one vector, in the order in which this project counts parameters: by sorted names."""
    return np.concatenate(
        [ravel(node) if isinstance(node, Mapping) else np.ravel(node) for _, node in sorted(params.items())]
    )


def params_to_numpy(params: Any) -> Any:
    """Return the tree as it is."""
    return params


def wait(output: Any) -> Any:
    """Return `output`: NumPy returns only computed arrays."""
    return output


def is_ready(output: Any) -> bool:
    """Return True: NumPy returns only computed arrays."""
    del output
    return True


def compilations() -> int:
    """Return 0: nothing is compiled behind a call."""
    return 0


def temporary_memory(function: Any, *arguments: Any) -> int | None:
    """Return None: the memory that a NumPy function takes is not known beforehand."""
    del function, arguments
    return None

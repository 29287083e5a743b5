"""The border of the NumPy baseline: there is little to cross."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from jaxopt_study.data import workload

_float_type = np.dtype(np.float64)


def configure(dtype: str, device: str, threads: int) -> None:
    """Set the floating point type; NumPy knows the CPU alone, and its BLAS read its threads when it was loaded."""
    global _float_type
    del device, threads
    _float_type = np.dtype(dtype)


def preload() -> None:
    """Load what is loaded lazily: nothing."""


def describe() -> dict[str, str]:
    """Return the versions and settings in force, as text."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # type: ignore[index, call-overload]
    return {"numpy": np.__version__, "blas": f"{blas['name']} {blas['version']}", "dtype": str(_float_type)}


def from_numpy(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return `array`: floats in the type set by `configure`, integers as integers."""
    array = np.asarray(array)
    return array.astype(_float_type) if array.dtype.kind == "f" else array


def params_from_numpy(tree: Any) -> Any:
    """Return the tree with its leaves through `from_numpy`: the layout stays flax's."""
    return {layer: {name: from_numpy(leaf) for name, leaf in leaves.items()} for layer, leaves in tree.items()}


def to_numpy(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return `array`."""
    return array


def ravel(params: Any) -> npt.NDArray[Any]:
    """Return the parameters as one vector, in the order of `workload.ravel`."""
    return workload.ravel(params)


def params_to_numpy(params: Any) -> Any:
    """Return the tree as it is."""
    return params


def wait(output: Any) -> Any:
    """Return `output`: NumPy waits by itself."""
    return output


def is_ready(output: Any) -> bool:
    """Say that `output` is computed: NumPy waits by itself."""
    del output
    return True


def compilations() -> int:
    """Return 0: nothing is compiled behind a call."""
    return 0


def temporary_memory(function: Any, *arguments: Any) -> int | None:
    """Return None: NumPy does not foresee what memory a function takes."""
    del function, arguments
    return None

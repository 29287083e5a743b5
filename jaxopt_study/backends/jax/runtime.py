"""Conversion to and from NumPy, and the settings of the framework: type, device, threads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.flatten_util import ravel_pytree

__all__ = [
    "compilation",
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

NumpyTree = Mapping[str, Mapping[str, npt.NDArray[Any]]]


def configure(dtype: str, device: str, threads: int) -> None:
    """Set the floating point type and the device of all later computations.

    Call it before any array is made. Matrix products use the full precision of the type (no TF32), as in the other
    backend.

    Args:
        dtype: `float32` or `float64`.
        device: `cpu` or `gpu`.
        threads: Not used: XLA starts as many threads as the process has CPUs in its affinity mask.

    Raises:
        RuntimeError: JAX finds no such device.
    """
    del threads
    jax.config.update("jax_enable_x64", dtype == "float64")
    jax.config.update("jax_default_matmul_precision", "highest")
    _compilation_seconds()
    jax.config.update("jax_platforms", {"cpu": "cpu", "gpu": "cuda"}[device])
    try:
        jax.devices()
    except Exception as error:  # the exception's type depends on the missing part: a plugin, a driver or a card
        reason = f"JAX finds no {device.upper()} (jax.devices() raised {type(error).__name__})"
        needs = "; it needs a driver and the plugin of jax[cuda12] or jax[cuda13]" if device == "gpu" else ""
        raise RuntimeError(reason + needs) from None


def preload() -> None:
    """Do nothing: JAX loads nothing lazily that takes time."""


def describe() -> dict[str, str]:
    """Return the versions, the device and the settings in force, as text."""
    import flax  # only for its version
    import optax

    return {
        "jax": jax.__version__,
        "jaxlib": jax.lib.__version__,
        "flax": flax.__version__,
        "optax": optax.__version__,
        "device": jax.devices()[0].device_kind,
        "dtype": str(_float_type()),
        "matmul precision": str(jax.config.jax_default_matmul_precision),
        "subnormals": "flushed to zero by XLA",
    }


def from_numpy(array: npt.NDArray[Any]) -> jax.Array:
    """Return `array` on the device: floats in the type set by `configure`, integers as integers."""
    array = np.asarray(array)
    return jnp.asarray(array.astype(_float_type()) if array.dtype.kind == "f" else array)


def to_numpy(array: jax.Array) -> npt.NDArray[Any]:
    """Return `array` as NumPy, in its own type."""
    return np.asarray(array)


def params_from_numpy(tree: NumpyTree) -> dict[str, dict[str, jax.Array]]:
    """Return the parameters of a network from flax's layout, in which a kernel is (inputs, outputs).

    In this backend's networks a kernel is (outputs, inputs), see `models`.
    """
    return {
        layer: {name: from_numpy(_transpose(name, leaf)) for name, leaf in leaves.items()}
        for layer, leaves in tree.items()
    }


def params_to_numpy(params: Mapping[str, Mapping[str, jax.Array]]) -> dict[str, dict[str, npt.NDArray[Any]]]:
    """Return `params` in flax's layout, in which a kernel is (inputs, outputs)."""
    return {
        layer: {name: _transpose(name, to_numpy(leaf)) for name, leaf in leaves.items()}
        for layer, leaves in params.items()
    }


def ravel(params: Any) -> jax.Array:
    """Return the parameters as one vector, in the order of the rows of this backend's Hessians."""
    return ravel_pytree(params)[0]


def wait(output: Any) -> Any:
    """Wait until every array in `output` is computed, and return it."""
    return jax.block_until_ready(output)


def is_ready(output: Any) -> bool:
    """Return whether every array in `output` is computed already."""
    return all(leaf.is_ready() for leaf in jax.tree.leaves(output) if isinstance(leaf, jax.Array))


def compilation(function: Any, *arguments: Any) -> Iterator[str]:
    """Compile a jitted function for these arguments, and yield each stage's name when it is done.

    The next call of `function` with such arguments runs the code that is compiled here.
    """
    traced = function.trace(*arguments)
    yield "trace"
    lowered = traced.lower()
    yield "lower"
    lowered.compile()
    yield "compile"


def compilations() -> int:
    """Return how many functions XLA has compiled since `configure` was called."""
    return len(_compilation_seconds())


def temporary_memory(function: Any, *arguments: Any) -> int | None:
    """Return the bytes that the compiler reserves for temporary arrays, without the result; None if it does not say.

    Args:
        function: A function made by this backend's `derivatives`, `blocks` or `closed_form`. It is compiled unless it
            was called before.
        arguments: The arguments of its calls.
    """
    compiled = getattr(function, "compiled", function)
    if not hasattr(compiled, "lower"):
        return None
    analysis = compiled.lower(*arguments).compile().memory_analysis()
    return None if analysis is None else int(analysis.temp_size_in_bytes)


@cache
def _compilation_seconds() -> list[float]:
    """Start to listen, once; return the list to which each compilation adds its seconds."""
    seconds: list[float] = []

    def listen(event: str, duration: float, **_: Any) -> None:
        if event.endswith("backend_compile_duration"):
            seconds.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    return seconds


def _float_type() -> np.dtype[Any]:
    return np.dtype("float64" if jax.config.jax_enable_x64 else "float32")


def _transpose(name: str, leaf: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Exchange the last two axes of a dense kernel; a first axis of three counts networks.

    A convolution's kernel has four axes, or five, and stays (height, width, inputs, outputs).
    """
    return np.ascontiguousarray(leaf.swapaxes(-1, -2)) if name == "kernel" and leaf.ndim < 4 else leaf

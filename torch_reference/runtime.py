"""The border of the PyTorch backend: NumPy in, NumPy out, and what the machine is told."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

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

# flax's names and PyTorch's for the leaves of a layer.
TORCH_NAMES = {"kernel": "weight", "bias": "bias"}
FLAX_NAMES = {torch_name: flax_name for flax_name, torch_name in TORCH_NAMES.items()}

# Set by `configure`. Not torch.set_default_device: that puts a Python hook on every torch call, and slows them all.
_device = torch.device("cpu")


def configure(dtype: str, device: str, threads: int) -> None:
    """Set the floating point type, the device and the threads of everything that follows.

    Call it before any tensor is made. Subnormal numbers are flushed to zero, as XLA does on CPU.

    Args:
        dtype: `float32` or `float64`; it becomes the default type, in which optimizers keep their scalars.
        device: `cpu` or `gpu`.
        threads: How many threads one operator may use.

    Raises:
        RuntimeError: There is no such device.
    """
    global _device
    if device == "gpu" and not torch.cuda.is_available():
        raise RuntimeError("PyTorch finds no GPU (torch.cuda.is_available() is False)")
    torch.set_default_dtype({"float32": torch.float32, "float64": torch.float64}[dtype])
    _device = torch.device({"cpu": "cpu", "gpu": "cuda"}[device])
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("highest")
    torch.set_flush_denormal(True)


def preload() -> None:
    """Load what PyTorch loads lazily: the rules of forward mode, at their first use, take it about two seconds."""
    torch.func.jvp(torch.func.grad(torch.exp), (torch.ones(()),), (torch.ones(()),))


def describe() -> dict[str, str]:
    """Return the versions, the device and the settings in force, as text."""
    return {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if _device.type == "cuda" else "cpu",
        "dtype": str(torch.get_default_dtype()).removeprefix("torch."),
        "threads": str(torch.get_num_threads()),
        "matmul precision": torch.get_float32_matmul_precision(),
        "subnormals": "flushed to zero by torch.set_flush_denormal(True)",
    }


def from_numpy(array: npt.NDArray[Any]) -> torch.Tensor:
    """Return `array` on the device: floats in the type set by `configure`, integers as integers."""
    tensor = torch.as_tensor(np.asarray(array), device=_device)
    return tensor.to(torch.get_default_dtype()) if tensor.is_floating_point() else tensor


def to_numpy(array: torch.Tensor) -> npt.NDArray[Any]:
    """Return `array` as NumPy, in its own type."""
    return array.detach().cpu().numpy()


def params_from_numpy(tree: NumpyTree) -> dict[str, torch.Tensor]:
    """Return the `state_dict` of a network from its flax layout, where a kernel is (inputs, outputs)."""
    return {
        f"{layer}.{TORCH_NAMES[name]}": from_numpy(_transpose(name, leaf))
        for layer, leaves in tree.items()
        for name, leaf in leaves.items()
    }


def params_to_numpy(params: Mapping[str, torch.Tensor]) -> dict[str, dict[str, npt.NDArray[Any]]]:
    """Return `params` in the flax layout, where a kernel is (inputs, outputs)."""
    tree: dict[str, dict[str, npt.NDArray[Any]]] = {}
    for path, leaf in params.items():
        layer, name = path.rsplit(".", 1)
        tree.setdefault(layer, {})[FLAX_NAMES[name]] = _transpose(FLAX_NAMES[name], to_numpy(leaf))
    return tree


def ravel(params: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the parameters as one vector, in the order in which this backend's derivatives count them."""
    return torch.cat([leaf.reshape(-1) for leaf in params.values()])


def wait(output: Any) -> Any:
    """Wait until every tensor is computed, and return `output`."""
    if _device.type == "cuda":
        torch.cuda.synchronize()
    return output


def is_ready(output: Any) -> bool:
    """Say whether everything in `output` is computed already: on a CPU it is."""
    del output
    return _device.type != "cuda" or torch.cuda.current_stream().query()


def compilation(function: Any, *arguments: Any) -> Iterator[str]:
    """Compile a function of `torch.compile` for these arguments, by a call, and yield the one stage's name.

    The arguments must be ones that may be used up.
    """
    block(function(*arguments))
    yield "compile"


def compilations() -> int:
    """Return how many graphs `torch.compile` has made; 0 as long as it was not loaded."""
    utils = sys.modules.get("torch._dynamo.utils")
    return int(utils.counters["stats"]["unique_graphs"]) if utils else 0


def temporary_memory(function: Any, *arguments: Any) -> int | None:
    """Return None: PyTorch does not foresee what memory a function takes."""
    del function, arguments
    return None


def _transpose(name: str, leaf: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Exchange the last two axes of a kernel; axes before them count networks."""
    return np.ascontiguousarray(leaf.swapaxes(-1, -2)) if name == "kernel" else leaf

"""Conversion to and from NumPy, and the settings of the framework: type, device, threads."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils import _pytree as pytree

__all__ = [
    "compilation",
    "compilations",
    "compiled",
    "configure",
    "describe",
    "from_numpy",
    "is_ready",
    "params_from_numpy",
    "params_to_numpy",
    "preload",
    "ravel",
    "ravel_tree",
    "temporary_memory",
    "to_numpy",
    "wait",
]

NumpyTree = Mapping[str, Mapping[str, npt.NDArray[Any]]]

# flax's names for the leaves of a layer, and PyTorch's. Back, a weight's name in flax is told by the layer's name.
TORCH_NAMES = {"kernel": "weight", "scale": "weight", "embedding": "weight", "bias": "bias"}
WEIGHTS = {"norm": "scale", "token_embedding": "embedding", "place_embedding": "embedding"}

# Set by `configure`. torch.set_default_device would add a Python hook to every torch call, and slow them all.
_device = torch.device("cpu")


def configure(dtype: str, device: str, threads: int) -> None:
    """Set the floating point type, the device and the threads of all later computations.

    Call it before any tensor is made. Matrix products use the full precision of the type (no TF32), as in the other
    backend. Subnormal numbers are flushed to zero, as XLA does on a CPU.

    Args:
        dtype: `float32` or `float64`; it becomes torch's default type, which optimizers also use for scalars.
        device: `cpu` or `gpu`.
        threads: The largest number of threads of one operator.

    Raises:
        RuntimeError: PyTorch finds no such device.
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
    """Load the rules of forward mode, which PyTorch loads at their first use, in about two seconds."""
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
    """Return the `state_dict` of a network from flax's layout, in which a kernel is (inputs, outputs)."""
    return {
        f"{layer}.{TORCH_NAMES[name]}": from_numpy(_to_torch(name, leaf))
        for layer, leaves in tree.items()
        for name, leaf in leaves.items()
    }


def params_to_numpy(params: Mapping[str, torch.Tensor]) -> dict[str, dict[str, npt.NDArray[Any]]]:
    """Return `params` in flax's layout, in which a kernel is (inputs, outputs)."""
    tree: dict[str, dict[str, npt.NDArray[Any]]] = {}
    for path, leaf in params.items():
        layer, name = path.rsplit(".", 1)
        flax_name = WEIGHTS.get(layer.rstrip("0123456789"), "kernel") if name == "weight" else name
        tree.setdefault(layer, {})[flax_name] = _to_flax(flax_name, to_numpy(leaf))
    return tree


def ravel(params: Any) -> torch.Tensor:
    """Return the parameters as one vector, in the order of the rows of this backend's Hessians."""
    return ravel_tree(params)[0]


def ravel_tree(tree: Any) -> tuple[torch.Tensor, Callable[[torch.Tensor], Any]]:
    """Return the leaves of a tree as one vector, in their own order, and the way back."""
    leaves, structure = pytree.tree_flatten(tree)
    sizes = [leaf.numel() for leaf in leaves]

    def unravel(vector: torch.Tensor) -> Any:
        pieces = zip(vector.split(sizes), leaves, strict=True)
        return pytree.tree_unflatten([piece.view(leaf.shape) for piece, leaf in pieces], structure)

    return torch.cat([leaf.reshape(-1) for leaf in leaves]), unravel


def wait(output: Any) -> Any:
    """Wait until every tensor in `output` is computed, and return it."""
    if _device.type == "cuda":
        torch.cuda.synchronize()
    return output


def is_ready(output: Any) -> bool:
    """Return whether every tensor in `output` is computed already; on a CPU it always is."""
    del output
    return _device.type != "cuda" or torch.cuda.current_stream().query()


def compilation(function: Any, *arguments: Any) -> Iterator[str]:
    """Compile a function of `torch.compile` by a call with these arguments, and yield the name of the one stage.

    The call may change the arguments in place.
    """
    wait(function(*arguments))
    yield "compile"


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Return `torch.compile(function, **options)`.

    Raises:
        NotImplementedError: There is no C++ compiler, or a variable of the environment makes PyTorch call `function`
            uncompiled, always or where compilation fails.
    """
    if options.get("backend") != "eager" and not any(shutil.which(name) for name in ("c++", "g++", "clang++")):
        raise NotImplementedError("torch.compile needs a C++ compiler: none of c++, g++, clang++ is found")
    made: Callable[..., Any] = torch.compile(function, **options)
    config = torch._dynamo.config
    switches = {
        "TORCHDYNAMO_DISABLE": made is function,
        "TORCH_COMPILE_DISABLE": config.disable,
        "TORCHDYNAMO_SUPPRESS_ERRORS": config.suppress_errors,
    }
    for name, on in switches.items():
        if on:
            raise NotImplementedError(f"torch.compile would leave functions uncompiled: {name} is set")
    return made


def compilations() -> int:
    """Return how many graphs `torch.compile` has made; 0 if it was never loaded."""
    utils = sys.modules.get("torch._dynamo.utils")
    return int(utils.counters["stats"]["unique_graphs"]) if utils else 0


def temporary_memory(function: Any, *arguments: Any) -> int | None:
    """Return None: the memory that a PyTorch function takes is not known beforehand."""
    del function, arguments
    return None


def _to_torch(name: str, leaf: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a kernel (..., inputs, outputs) as (outputs, inputs, ...); a convolution's has height and width.

    A first axis of three counts networks, and so does one of five.
    """
    if name != "kernel":
        return leaf
    spatial = leaf.ndim // 4 * 2  # 0 or 2 axes
    return np.ascontiguousarray(np.moveaxis(leaf, (-1, -2), (-2 - spatial, -1 - spatial)))


def _to_flax(name: str, leaf: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Do the opposite of `_to_torch`."""
    if name != "kernel":
        return leaf
    spatial = leaf.ndim // 4 * 2
    return np.ascontiguousarray(np.moveaxis(leaf, (-2 - spatial, -1 - spatial), (-1, -2)))

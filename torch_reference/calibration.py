"""Probes of the machine: kernels of known cost. And traps: kernels that a careless timer measures wrongly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, NamedTuple

import numpy as np
import torch

from torch_reference import onednn, runtime

__all__ = [
    "PROBES",
    "Probe",
    "asynchronous",
    "not_returned",
    "onednn_product",
    "recompiling",
    "transposed_product",
    "work",
]

SIZE = {"cpu": 768, "gpu": 4096}
"""Rows of the matrices: a product takes milliseconds on one core, or on a GPU."""

POWER_OF_TWO = {"cpu": 1024, "gpu": 4096}

COPIED = {"cpu": 2**22, "gpu": 2**29}
"""Numbers in a copy: more than fit the caches of a core or of a GPU."""


class Probe(NamedTuple):
    """A kernel whose cost is one number.

    Attributes:
        run: Runs the kernel and waits for the end.
        amount: The work of one run, in `unit`.
        unit: `call`, `iteration`, `FLOP` or `byte`.
    """

    run: Callable[[], Any]
    amount: float
    unit: str


def operator_call() -> Probe:
    """Call one operator on one number."""
    x = _ones(())
    return _probe(torch.neg, x, amount=1, unit="call")


def matrix_product() -> Probe:
    """Multiply two square matrices: 2 n^3 floating point operations."""
    size = _here(SIZE)
    return _probe(torch.matmul, *[_ones((size, size))] * 2, amount=2 * size**3, unit="FLOP")


def transposed_product() -> Probe:
    """Multiply A'B, as in the gradient of a dense layer's kernel: square matrices whose size is a power of two.

    Some libraries are slower at A'B than at AB, most of all where the row length is a power of two.
    """
    size = _here(POWER_OF_TWO)
    a, b = [_ones((size, size))] * 2
    return _probe(lambda a, b: a.T @ b, a, b, amount=2 * size**3, unit="FLOP")


def onednn_product() -> Probe:
    """Multiply the matrices of `matrix_product` by oneDNN.

    Raises:
        NotImplementedError: This PyTorch has no oneDNN, or the device is a GPU, or the type is float64.
    """
    onednn.need()
    size = _here(SIZE)
    a, b = [_ones((size, size))] * 2
    return _probe(lambda a, b: onednn.affine(a, b.T, None), a, b, amount=2 * size**3, unit="FLOP")


def copy() -> Probe:
    """Add one to an array in place: each byte is read once and written once, and no memory is allocated."""
    x = _ones((_here(COPIED),))
    return _probe(x.add_, 1, amount=2 * x.nbytes, unit="byte")


PROBES: dict[str, Callable[[], Probe]] = {
    "operator_call": operator_call,
    "matrix_product": matrix_product,
    "copy": copy,
}
"""The probes whose results are kept with every run's environment."""


def work(amount: int) -> Callable[[], Any]:
    """Return a kernel that makes `amount` small matrix products, one after the other, and waits for the end."""
    return lambda: runtime.wait(_products(amount))


def asynchronous(amount: int) -> Callable[[], Any]:
    """Return the kernel of `work` without the wait: it returns before its result is computed.

    Raises:
        NotImplementedError: The device is a CPU, on which PyTorch computes before it returns.
    """
    if not _ones(()).is_cuda:
        raise NotImplementedError("on a CPU PyTorch computes before it returns")
    return lambda: _products(amount)


def recompiling() -> Callable[[], Any]:
    """Return a kernel that is compiled again at each call, because a changing number is a constant of its code.

    Raises:
        NotImplementedError: Nothing would be compiled; see `runtime.compiled`.
    """
    runtime.compiled(torch.neg, backend="eager")
    x, numbers = _ones((8,)), count()

    def run() -> Any:
        number = next(numbers)
        return runtime.wait(torch.compile(lambda x: x + number, backend="eager", dynamic=False)(x))

    return run


def not_returned(amount: int) -> Callable[[], Any]:
    """Return a kernel that does not return its result, so a compiler may remove the work."""

    def run() -> None:
        runtime.wait(_products(amount))

    return run


def _here(sizes: Mapping[str, int]) -> int:
    """Return the size for the device in use."""
    return sizes["gpu" if _ones(()).is_cuda else "cpu"]


def _ones(shape: tuple[int, ...]) -> torch.Tensor:
    return runtime.from_numpy(np.ones(())).expand(shape).contiguous()


def _products(amount: int) -> torch.Tensor:
    x = _ones((64, 64)).diag().diag()
    y = x
    for _ in range(amount):
        y = x @ y
    return y


def _probe(function: Callable[..., Any], *arguments: Any, amount: float, unit: str) -> Probe:
    return Probe(lambda: runtime.wait(function(*arguments)), amount, unit)

"""A user's model and optimizer in PyTorch: make them, check them, draw parameters, convert them.

Parameters of a user's model are leaves by the names that PyTorch has for them: `fc1.weight`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from torch_reference import runtime
from torch_reference.models import predict
from torch_reference.optimizers import Optimizer

__all__ = ["draw", "maker", "model", "named", "optimizer", "outputs", "params_from_numpy", "params_to_numpy"]

Leaves = Mapping[str, npt.NDArray[Any]]


def maker(makers: Mapping[str, Any]) -> Any:
    """Return the user's function for this framework.

    Raises:
        NotImplementedError: There is none.
    """
    if "torch" not in makers:
        raise NotImplementedError("it is registered for JAX alone")
    return makers["torch"]


def model(make: Callable[[], Any]) -> nn.Module:
    """Return the module that a user's function makes, on the device.

    Raises:
        TypeError: It makes something else.
    """
    return _made(make, 0)  # the same buffers each time, also where they are random


def draw(make: Callable[[], Any], seed: int, inputs: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """Return initial parameters, drawn by the module itself.

    Args:
        make: The user's function.
        seed: The seed of PyTorch's generator.
        inputs: Rows of inputs, (batch, features).

    Raises:
        ValueError: A call of the module changes its buffers, or is random; a parameter is not trained, has another
            type than that of the run, or there is none.
    """
    made, rows = _made(make, seed), runtime.from_numpy(inputs)
    before = [leaf.clone() for leaf in made.buffers()]
    with torch.no_grad():
        first, second = made(rows), made(rows)
    if not all(torch.equal(old, new) for old, new in zip(before, made.buffers(), strict=True)):
        raise ValueError("a call changes its buffers, as batch normalization does; use --experiment")
    if not torch.equal(first, second):
        raise ValueError("two calls on the same rows differ: switch dropout off, by p=0 or .eval()")
    params = dict(made.named_parameters())
    if not params:
        raise ValueError("it has no parameters")
    for name, leaf in params.items():
        if not leaf.requires_grad:
            raise ValueError(f"{name} has requires_grad=False: make it a buffer, or use --experiment")
        if leaf.dtype != torch.get_default_dtype():
            wanted = str(torch.get_default_dtype()).removeprefix("torch.")
            raise ValueError(f"{name} has type {str(leaf.dtype).removeprefix('torch.')}, and the run {wanted}")
    return params_to_numpy(params)


def outputs(model: nn.Module, params: Mapping[str, torch.Tensor], inputs: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return what a user's model returns for rows of inputs, (batch, features)."""
    with torch.no_grad():
        return runtime.to_numpy(predict(model)(params, runtime.from_numpy(inputs)))


def _made(make: Callable[[], Any], seed: int) -> nn.Module:
    torch.manual_seed(seed)
    made = make()
    if not isinstance(made, nn.Module):
        raise TypeError(f"torch= made a {type(made).__name__}, and not a torch.nn.Module")
    return made.to(runtime.from_numpy(np.zeros(())).device)


def params_from_numpy(leaves: Leaves) -> dict[str, torch.Tensor]:
    """Return the parameters of a user's model on the device, from leaves by PyTorch's names."""
    return {name: runtime.from_numpy(leaf) for name, leaf in leaves.items()}


def params_to_numpy(params: Mapping[str, torch.Tensor]) -> dict[str, npt.NDArray[Any]]:
    """Return the parameters of a user's model as NumPy arrays, by PyTorch's names."""
    return {name: runtime.to_numpy(leaf).copy() for name, leaf in params.items()}


def named(name: str, options: Mapping[str, Any]) -> Callable[..., torch.optim.Optimizer]:
    """Return the class of `torch.optim` with these options."""
    return partial(getattr(torch.optim, name), **options)


def optimizer(make: Callable[..., torch.optim.Optimizer], learning_rate: float) -> Optimizer:
    """Return the optimizer that a user's function, or a class of `torch.optim`, makes of parameters."""
    return partial(make, lr=learning_rate)

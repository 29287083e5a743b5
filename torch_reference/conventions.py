"""Schedules, clipping and initializers, from code such as `lr_scheduler.StepLR(o, step_size=10)`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.optim import lr_scheduler

from torch_reference import runtime

__all__ = ["clipped", "drawn", "schedule"]

Array = npt.NDArray[Any]
KNOWN = {"torch": torch, "nn": nn, "lr_scheduler": lr_scheduler}


def schedule(code: str, steps: int) -> Array:
    """Return the learning rate of each of the first `steps` steps."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=0.1)
    rates = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SequentialLR calls its schedulers in a way that torch itself warns of
        scheduler = eval(code, KNOWN | {"o": optimizer})
        for number in range(steps):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if number + 1 < steps:
                scheduler.step()
    return np.array(rates)


def clipped(code: str, gradients: Mapping[str, Array]) -> dict[str, Array]:
    """Return the gradients, by name, after clipping."""
    leaves = {name: nn.Parameter(torch.zeros(leaf.shape)) for name, leaf in gradients.items()}
    for name, leaf in leaves.items():
        leaf.grad = runtime.from_numpy(gradients[name].copy())
    eval(code, KNOWN | {"p": list(leaves.values())})
    return {name: runtime.to_numpy(leaf.grad) for name, leaf in leaves.items()}  # type: ignore[arg-type]


def drawn(code: str, shape: tuple[int, int], seed: int) -> Array:
    """Return what an initializer draws for a weight of (inputs, outputs), as one vector."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        weight = torch.empty(shape[1], shape[0], dtype=torch.float32)
        result = eval(code, KNOWN | {"w": weight})
    return np.ravel(runtime.to_numpy(result))

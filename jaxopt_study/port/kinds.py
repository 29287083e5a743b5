"""What the class of a PyTorch module says of its parameters' layout."""

from __future__ import annotations

from typing import Any

import torch

from jaxopt_study.port.layouts import CONV, CONV_TRANSPOSE
from jaxopt_study.port.matching import LINEAR, NOTHING_KNOWN, Kinds


def kinds_of(model: Any) -> Kinds:
    """Return the kind of each module of a model; of a `state_dict` nothing is known."""
    if not isinstance(model, torch.nn.Module):
        return NOTHING_KNOWN
    return {name: _kind(module) for name, module in model.named_modules(remove_duplicate=False)}


def _kind(module: torch.nn.Module) -> str:
    if isinstance(module, torch.nn.modules.conv._ConvTransposeNd):
        return CONV_TRANSPOSE
    if isinstance(module, torch.nn.modules.conv._ConvNd):
        return CONV
    return LINEAR if isinstance(module, torch.nn.Linear) else type(module).__name__

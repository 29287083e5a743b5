"""Known defects of torch.optim, each with a probe that says whether it is there; and the optimizers installed."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch

__all__ = ["DEFECTS", "optimizers"]


def optimizers() -> list[str]:
    """Return the optimizer classes of the installed torch.optim by name."""
    base = torch.optim.Optimizer
    return sorted(
        f"torch.optim.{name}"
        for name, value in vars(torch.optim).items()
        if inspect.isclass(value) and issubclass(value, base) and value is not base
    )


def asgd_lags() -> float:
    """`torch.optim.ASGD` uses a changed learning rate one step late: it computes the next one before the change."""
    leaf = torch.nn.Parameter(torch.ones(()))
    optimizer = torch.optim.ASGD([leaf], lr=0.1, lambd=0.0)
    for rate in (0.1, 0.0):
        optimizer.param_groups[0]["lr"] = rate
        leaf.grad = torch.ones(())
        before = leaf.item()
        optimizer.step()
    return float(leaf.item() != before)


def nadam_keeps_default_dtype() -> float:
    """`torch.optim.NAdam` keeps its running product in the default type, float32 for float64 parameters as well."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        leaf = torch.nn.Parameter(torch.ones((), dtype=torch.float64))
        optimizer = torch.optim.NAdam([leaf])
        leaf.grad = torch.ones_like(leaf)
        optimizer.step()
        return float(optimizer.state[leaf]["mu_product"].dtype != leaf.dtype)
    finally:
        torch.set_default_dtype(default)


def adafactor_documents_another_decay() -> float:
    """`torch.optim.Adafactor` documents weight_decay 1e-2 by default, and has 0."""
    words = " ".join((torch.optim.Adafactor.__doc__ or "").split())
    default = torch.optim.Adafactor([torch.nn.Parameter(torch.ones(()))]).defaults["weight_decay"]
    return float("weight decay coefficient (default: 1e-2)" in words and default == 0)


DEFECTS: dict[str, Callable[[], float]] = {
    "asgd_lags": asgd_lags,
    "nadam_keeps_default_dtype": nadam_keeps_default_dtype,
    "adafactor_documents_another_decay": adafactor_documents_another_decay,
}

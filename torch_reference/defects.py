"""Known defects of PyTorch, each with a probe that says whether it is there; and the optimizers installed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree

from torch_reference import runtime
from torch_reference.inspection import Normalizations

__all__ = ["DEFECTS", "normalization_explains", "optimizers"]


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


def normalizations_lose_their_statistics() -> float:
    """`torch.func.hessian` takes the mean and the deviation of a LayerNorm for constants: vmap of its backward pass."""
    x, weight = torch.tensor([[1.0, 2.0, 4.0]], dtype=torch.float64), torch.ones(3, dtype=torch.float64)

    def loss(params: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        return (torch.nn.functional.layer_norm(batch * params[:3], (3,), params[3:]) ** 3).sum()

    params = torch.cat([weight, weight + 0.5])
    return float(normalization_explains(loss, params, x, torch.func.hessian(loss)(params, x)))


def normalization_explains(loss: Callable[[Any, Any], torch.Tensor], params: Any, batch: Any, matrix: Any) -> bool:
    """Return whether a Hessian by `torch.func` is wrong because the loss normalizes.

    It is if the loss calls a normalization, and a product of the matrix is far from differences of the gradient, ten
    times as far as one that no vmap made.
    """
    with torch.no_grad(), Normalizations() as normalizations:
        loss(params, batch)
    if not normalizations.found:
        return False
    vector, unravel = runtime.ravel_tree(pytree.tree_map(torch.Tensor.detach, params))
    slope = torch.func.grad(lambda v: loss(unravel(v), batch))
    signs = torch.where(torch.arange(len(vector), device=vector.device) % 3 == 0, -1.0, 1.0).to(vector.dtype)
    step = torch.finfo(vector.dtype).eps ** (1 / 3)
    differences = (slope(vector + step * signs) - slope(vector - step * signs)) / (2 * step)
    product = torch.func.vjp(slope, vector)[1](signs)[0]
    theirs, ours = ((found - differences).abs().max() for found in (matrix @ signs, product))
    return bool(theirs > 10 * ours)


DEFECTS: dict[str, Callable[[], float]] = {
    "asgd_lags": asgd_lags,
    "nadam_keeps_default_dtype": nadam_keeps_default_dtype,
    "adafactor_documents_another_decay": adafactor_documents_another_decay,
    "normalizations_lose_their_statistics": normalizations_lose_their_statistics,
}

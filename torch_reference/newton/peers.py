"""What other people's minimizers in PyTorch make of the same objectives: baselines, not part of `minimize`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torch_reference.runtime import ravel_tree

__all__ = ["Answer", "torch_lbfgs", "torchmin"]


class Answer(NamedTuple):
    """Where a baseline ended: a tree like the start, and how many iterations it reports."""

    x: Any
    iterations: int


def torchmin(
    fun: Callable[..., Tensor], x0: Any, *args: Any, method: str, tolerance: float, max_iterations: int
) -> Answer:
    """Minimize by pytorch-minimize, on one vector as it wants.

    Raises:
        ModuleNotFoundError: It is not installed.
    """
    from torchmin import minimize  # optional

    start, unravel = ravel_tree(x0)
    result = minimize(lambda x: fun(unravel(x), *args), start, method=method, max_iter=max_iterations, tol=tolerance)
    return Answer(unravel(result.x.detach()), int(result.nit))


def torch_lbfgs(fun: Callable[..., Tensor], x0: Any, *args: Any, tolerance: float, max_iterations: int) -> Answer:
    """Minimize by `torch.optim.LBFGS` with its strong Wolfe search, in one call."""
    start, unravel = ravel_tree(x0)
    leaf = start.detach().clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [leaf],
        max_iter=max_iterations,
        history_size=10,
        tolerance_grad=tolerance,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = fun(unravel(leaf), *args)
        value.backward()
        return value.detach()

    optimizer.step(closure)
    return Answer(unravel(leaf.detach()), int(optimizer.state[leaf]["n_iter"]))

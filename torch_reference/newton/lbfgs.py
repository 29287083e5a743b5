"""L-BFGS, as torch.optim has it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torch_reference.newton.problem import Point, Problem
from torch_reference.newton.result import Counts, Status
from torch_reference.newton.step import Method, Step, at_floor

__all__ = ["lbfgs"]


def lbfgs(problem: Problem, options: Any) -> Method:
    """Make `torch.optim.LBFGS` with its strong Wolfe search (Liu and Nocedal, 1989), a step at a time; ten pairs.

    The JAX wing has optax's, whose line search takes other lengths: their iterates differ.
    """
    del options

    def init(point: Point) -> torch.optim.Optimizer:
        return torch.optim.LBFGS(
            [point.x.clone().requires_grad_()],
            max_iter=1,
            max_eval=26,  # one before the line search, and 25 in it: with the default of 1.25 it cannot move
            history_size=10,
            tolerance_grad=0,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        )

    def step(point: Point, optimizer: torch.optim.Optimizer) -> Step:
        (leaf,) = optimizer.param_groups[0]["params"]
        leaf.data.copy_(point.x)
        evaluations = 0

        def closure() -> Tensor:
            nonlocal evaluations
            evaluations += 1
            here = problem.at(leaf.detach().clone())
            leaf.grad = here.gradient
            return torch.as_tensor(here.value, dtype=leaf.dtype)

        optimizer.step(closure)
        new = problem.at(leaf.detach().clone())
        hidden = 10 * torch.finfo(point.x.dtype).eps * abs(point.value)
        ok = new.finite and new.value <= point.value + hidden and bool((new.x != point.x).any())
        decrement = abs((point.gradient @ (new.x - point.x)).item())
        stuck = Status.FLOOR if at_floor(point, decrement) else Status.STALLED
        counts = Counts(evaluations + 1, evaluations + 1)
        return Step(new if ok else point, optimizer, counts, decrement, False, Status.RUNNING if ok else stuck)

    return Method(init, step)

"""L-BFGS, as torch.optim has it."""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import Tensor

from torch_reference.newton.options import Options
from torch_reference.newton.problem import Point, Problem
from torch_reference.newton.result import Counts, Status
from torch_reference.newton.step import Method, Step, at_rounding_level

__all__ = ["lbfgs"]


def lbfgs(problem: Problem, options: Options) -> Method:
    """Make `torch.optim.LBFGS` with its strong Wolfe search (Liu and Nocedal, 1989), a step at a time; ten pairs.

    The JAX backend has optax's, whose line search takes other lengths: their iterates differ.
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
        evaluations, outside = 0, point.value + 10 * (1 + abs(point.value))

        def closure() -> Tensor:
            nonlocal evaluations
            evaluations += 1
            here = problem.at(leaf.detach().clone())
            # torch's search interpolates values, and NaN would end it: outside the domain it gets a large one.
            leaf.grad = here.gradient if here.finite else torch.zeros_like(leaf)
            return torch.as_tensor(here.value if here.finite else outside, dtype=leaf.dtype)

        with suppress(IndexError):  # torch's search raises it where all trials are outside
            optimizer.step(closure)
        new = problem.at(leaf.detach().clone())
        hidden = 10 * torch.finfo(point.x.dtype).eps * abs(point.value)
        ok = new.finite and new.value <= point.value + hidden and bool((new.x != point.x).any())
        decrement = abs((point.gradient @ (new.x - point.x)).item())
        moved = bool((new.x != point.x).any())  # a search that found no length predicts nothing
        stuck = Status.ROUNDING if moved and at_rounding_level(point, decrement) else Status.STALLED
        counts = Counts(evaluations + 1, evaluations + 1)
        return Step(new if ok else point, optimizer, counts, decrement, False, False, Status.RUNNING if ok else stuck)

    return Method(init, step)

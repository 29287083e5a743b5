"""Trainings as paths of parameters: with gradients given (replay), or computed on the way (closed loop)."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from torch_reference import models, runtime

__all__ = ["make", "replay", "search", "train"]

Tree = Mapping[str, Mapping[str, npt.NDArray[Any]]]
Array = npt.NDArray[Any]
Optimizer = Callable[[Iterable[Tensor]], "Stepper"]


class Stepper:
    """A torch optimizer with the learning rate of each step.

    Args:
        optimizer: The optimizer.
        factors: What the learning rate of each step is multiplied by; nothing if not given.
        rest: The optimizer of leaves that the first cannot take; its learning rate is constant.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, factors: Array | None, rest: torch.optim.Optimizer | None = None
    ) -> None:
        self.optimizer = optimizer
        self._rates = [group["lr"] for group in optimizer.param_groups]
        self._factors = factors
        self._rest = rest
        self._made = 0

    @property
    def sparse(self) -> bool:
        """Whether the optimizer takes sparse gradients alone."""
        return isinstance(self.optimizer, torch.optim.SparseAdam)

    @property
    def calls_closure(self) -> bool:
        """Whether the optimizer computes the gradient itself, more than once per step."""
        return isinstance(self.optimizer, torch.optim.LBFGS)

    def step(self, closure: Callable[[], Tensor]) -> None:
        """Make one step, at the learning rate that a scheduler stepped after every one would have set."""
        if self._factors is not None:
            for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
                group["lr"] = rate * float(self._factors[self._made])
        self.optimizer.step(closure if self.calls_closure else None)  # type: ignore[arg-type]
        if self._rest is not None:
            self._rest.step()
        self._made += 1


def make(name: str, options: Mapping[str, Any], factors: Array | None = None) -> Optimizer:
    """Make `torch.optim.<name>` with these options; it is given its parameters later.

    Args:
        name: The torch.optim class, or one of another package with its module, `package.Class`. Muon takes matrices
            alone; other leaves get plain gradient descent.
        options: What differs from torch's defaults.
        factors: The learning rate of step t is `lr` times factors[t]; constant if not given.
    """
    module, _, kind_name = name.rpartition(".")
    kind = getattr(importlib.import_module(module or "torch.optim"), kind_name)

    def of(params: Iterable[Tensor]) -> Stepper:
        leaves = list(params)
        if name != "Muon":
            made = kind(leaves, **options)
            if hasattr(made, "train"):  # schedule-free ones keep two sets of parameters
                made.train()
            return Stepper(made, factors)
        muon = kind([leaf for leaf in leaves if leaf.ndim == 2], **options)
        others = [leaf for leaf in leaves if leaf.ndim != 2]
        return Stepper(muon, factors, torch.optim.SGD(others, lr=muon.defaults["lr"]) if others else None)

    return of


def replay(optimizer: Optimizer, params: Tree, gradients: Tree, kept: Sequence[int]) -> dict[str, Array]:
    """Return the parameters after each number of steps in `kept`, with these gradients at every step.

    Args:
        optimizer: What `make` returned.
        params: Initial parameters in flax's layout.
        gradients: For each leaf the gradients, with the steps as first axis.
        kept: Numbers of steps made.
    """
    # Copied, since steps are made in place and a tensor may share its memory with the NumPy array it came from.
    leaves = {name: nn.Parameter(leaf.clone()) for name, leaf in runtime.params_from_numpy(params).items()}
    given = runtime.params_from_numpy(gradients)
    stepper = optimizer(leaves.values())

    def step(number: int) -> None:
        for name, leaf in leaves.items():
            gradient = given[name][number]
            leaf.grad = _rows_alone(gradient) if stepper.sparse else gradient.clone()
        stepper.step(lambda: torch.zeros(()))

    return _path(leaves, step, kept)


def train(
    model: nn.Module, optimizer: Optimizer, params: Tree, data: tuple[Array, Array], order: Array, kept: Sequence[int]
) -> dict[str, Array]:
    """Return the parameters after each number of steps in `kept`, trained by cross-entropy.

    Args:
        model: What `models.network` returned.
        optimizer: What `make` returned.
        params: Initial parameters in flax's layout.
        data: Inputs (rows, features) and targets (rows,).
        order: The row, or rows, of each step.
        kept: Numbers of steps made.
    """
    trained = copy.deepcopy(model).to(torch.get_default_dtype())
    trained.load_state_dict(runtime.params_from_numpy(params))
    leaves = dict(trained.named_parameters())
    stepper = optimizer(leaves.values())
    inputs, targets = (runtime.from_numpy(array) for array in data)
    rows = torch.as_tensor(np.asarray(order))

    def step(number: int) -> None:
        def closure() -> Tensor:
            trained.zero_grad()
            loss = models.cross_entropy(trained(inputs[rows[number]]), targets[rows[number]])
            loss.backward()
            return loss

        if not stepper.calls_closure:
            closure()
        if stepper.sparse:
            for leaf in leaves.values():
                leaf.grad = _rows_alone(leaf.grad)  # type: ignore[arg-type]
        stepper.step(closure)

    return _path(leaves, step, kept)


def search(
    model: nn.Module, optimizer: Optimizer, params: Tree, data: tuple[Array, Array], iterations: int
) -> dict[str, Array]:
    """Minimize the loss of all rows by L-BFGS with a line search.

    Args:
        model: What `models.network` returned.
        optimizer: What `make` returned for `torch.optim.LBFGS` with a strong Wolfe line search.
        params: Initial parameters in flax's layout.
        data: Inputs (rows, features) and targets (rows,).
        iterations: How many are made, all in one step of the optimizer.

    Returns:
        Every loss that was computed, and how often it was computed up to there.
    """
    trained = copy.deepcopy(model).to(torch.get_default_dtype())
    trained.load_state_dict(runtime.params_from_numpy(params))
    inputs, targets = (runtime.from_numpy(array) for array in data)
    losses: list[float] = []

    def closure() -> Tensor:
        trained.zero_grad()
        loss = models.cross_entropy(trained(inputs), targets)
        loss.backward()
        losses.append(loss.item())
        return loss

    stepper = optimizer(trained.parameters())
    for group in stepper.optimizer.param_groups:
        group["max_iter"] = iterations
    stepper.step(closure)
    return {"losses": np.array(losses), "evaluations": np.arange(1, len(losses) + 1)}


def _rows_alone(gradient: Tensor) -> Tensor:
    """Return those rows that are not all zero, as `to_sparse(1)` does in thirty times the time."""
    (there,) = gradient.reshape(len(gradient), -1).any(dim=1).nonzero(as_tuple=True)
    return torch.sparse_coo_tensor(
        there[None], gradient[there], gradient.shape, is_coalesced=True, check_invariants=False
    )


def _path(leaves: Mapping[str, Tensor], step: Callable[[int], None], kept: Sequence[int]) -> dict[str, Array]:
    """Make the steps; return each leaf by name, with the numbers of steps as first axis."""
    trees = []
    for number in range(max(kept)):
        step(number)
        if number + 1 in kept:
            trees.append(runtime.params_to_numpy({name: leaf.detach().clone() for name, leaf in leaves.items()}))
    return {
        f"{layer}/{name}": np.stack([tree[layer][name] for tree in trees])
        for layer, node in trees[0].items()
        for name in node
    }

"""Trainings as paths of parameters: with gradients given (replay), or computed on the way (closed loop)."""

from __future__ import annotations

import copy
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
    """A torch optimizer, or several, with the learning rate of each step."""

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer], factors: Array | None) -> None:
        self.optimizers = optimizers
        self._rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
        self._factors = factors
        self._made = 0

    def step(self, closure: Callable[[], Tensor]) -> None:
        """Make one step, as a learning rate scheduler that is stepped after every one would have it."""
        for optimizer, rates in zip(self.optimizers, self._rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                if self._factors is not None:
                    group["lr"] = rate * float(self._factors[self._made])
            # LBFGS computes the gradient itself, more than once; the others have it.
            optimizer.step(closure if isinstance(optimizer, torch.optim.LBFGS) else None)  # type: ignore[arg-type]
        self._made += 1


def make(name: str, options: Mapping[str, Any], factors: Array | None = None) -> Optimizer:
    """Make `torch.optim.<name>` with these options; it is given its parameters later.

    Args:
        name: The torch.optim class. Muon takes matrices alone; other leaves get plain gradient descent.
        options: What differs from torch's defaults.
        factors: The learning rate of step t is `lr` times factors[t]; constant if not given.
    """
    kind = getattr(torch.optim, name)

    def of(params: Iterable[Tensor]) -> Stepper:
        leaves = list(params)
        if name != "Muon":
            return Stepper([kind(leaves, **options)], factors)
        muon = kind([leaf for leaf in leaves if leaf.ndim == 2], **options)
        rest = [leaf for leaf in leaves if leaf.ndim != 2]
        # A constant learning rate for the rest, as in the other backend.
        return Pair(muon, torch.optim.SGD(rest, lr=muon.defaults["lr"]), factors) if rest else Stepper([muon], factors)

    return of


class Pair(Stepper):
    """Muon for the matrices and gradient descent, at a constant learning rate, for the rest."""

    def __init__(self, muon: torch.optim.Optimizer, rest: torch.optim.Optimizer, factors: Array | None) -> None:
        super().__init__([muon], factors)
        self._rest = rest

    def step(self, closure: Callable[[], Tensor]) -> None:
        """Make one step of both."""
        super().step(closure)
        self._rest.step()


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
    sparse = isinstance(stepper.optimizers[0], torch.optim.SparseAdam)

    def step(number: int) -> None:
        for name, leaf in leaves.items():
            gradient = given[name][number]
            leaf.grad = _rows_alone(gradient) if sparse else gradient.clone()
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
    sparse = isinstance(stepper.optimizers[0], torch.optim.SparseAdam)
    inputs, targets = (runtime.from_numpy(array) for array in data)
    rows = torch.as_tensor(np.asarray(order))

    def step(number: int) -> None:
        def closure() -> Tensor:
            trained.zero_grad()
            loss = models.cross_entropy(trained(inputs[rows[number]]), targets[rows[number]])
            loss.backward()
            return loss

        if not isinstance(stepper.optimizers[0], torch.optim.LBFGS):
            closure()
        if sparse:
            for leaf in leaves.values():
                leaf.grad = _rows_alone(leaf.grad)  # type: ignore[arg-type]
        stepper.step(closure)

    return _path(leaves, step, kept)


def search(model: nn.Module, options: Mapping[str, Any], params: Tree, data: tuple[Array, Array]) -> dict[str, Array]:
    """Minimize the loss of all rows by L-BFGS with torch's strong Wolfe line search.

    Args:
        model: What `models.network` returned.
        options: Of `torch.optim.LBFGS`; `max_iter` is the number of iterations.
        params: Initial parameters in flax's layout.
        data: Inputs (rows, features) and targets (rows,).

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

    torch.optim.LBFGS(trained.parameters(), **options).step(closure)
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

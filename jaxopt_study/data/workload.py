"""What is trained on: data, initial parameters and batch order, drawn once, in NumPy, from a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jaxopt_study.data.networks import Array, Dense, Network, ParameterTree, draw_params

__all__ = [
    "LOSSES",
    "Array",
    "ParameterTree",
    "Rows",
    "Workload",
    "draw_order",
    "draw_params",
    "enumerate_params",
    "next_up",
    "ravel",
    "split",
    "stack_params",
    "standardize",
    "zero_params",
]

Rows = tuple[Array, Array]
"""Inputs (rows, features) in float64, or (rows, tokens) as integers; and targets (rows,)."""

LOSSES = {
    "cross_entropy": "a softmax cross-entropy",
    "binary_cross_entropy": "a binary loss",
    "squared_error": "a squared loss",
}
"""The values of `Workload.loss` -> in words."""


@dataclass(frozen=True)
class Workload:
    """Everything that two frameworks must share to make the same steps.

    Attributes:
        network: What is trained, see `networks`.
        train: The rows that are trained on. Targets are integers for a classification, floats for a regression.
        test: The rows held out.
        params: Initial parameters in flax's layout: layer -> {kernel (inputs, outputs), bias (outputs,)}, float64.
        order: The rows of each step: (epochs, steps) where a step has one row, or (epochs, steps, batch).
        loss: The function of the backends' `models` that makes a loss of outputs and targets: `cross_entropy` (several
            classes), `binary_cross_entropy` (two classes, one output) or `squared_error` (regression, one output); or
            the name of a loss that the user's plugin registers.
        validation: Rows that are neither trained on nor tested on, if any.
    """

    name: str
    network: Network
    train: Rows
    test: Rows
    params: ParameterTree
    order: npt.NDArray[np.int64]
    loss: str = "cross_entropy"
    validation: Rows | None = None

    @property
    def widths(self) -> tuple[int, ...]:
        """The widths of a network of dense layers; none of another."""
        return self.network.widths if isinstance(self.network, Dense) else ()

    @property
    def linear(self) -> bool:
        """Whether the network is one linear layer: then the Hessian has a closed form."""
        return len(self.widths) == 2

    @property
    def batch_size(self) -> int:
        """How many rows a step has."""
        return 1 if self.order.ndim == 2 else self.order.shape[2]

    @property
    def steps(self) -> npt.NDArray[np.int64]:
        """The rows of each step of all epochs: (steps,) or (steps, batch)."""
        return self.order.reshape(-1, *self.order.shape[2:])

    def fits(self, inputs: int, classes: int) -> bool:
        """Return whether a classification of so many numbers into so many classes can be trained on these rows."""
        mine = self.train[0].shape[1], self.network.outputs
        return mine == (inputs, classes) and self.loss == "cross_entropy" and self.train[0].dtype.kind == "f"

    @property
    def regression(self) -> bool:
        """Whether the targets are numbers and not classes."""
        return self.train[1].dtype.kind == "f"


def split(rows: Rows, generator: np.random.Generator) -> tuple[Rows, Rows, Rows]:
    """Return three parts of the rows, drawn at random: 60 % for training, 20 % for validation, the rest for testing."""
    inputs, targets = rows
    count = len(targets)
    parts = np.split(generator.permutation(count), [count * 3 // 5, count * 4 // 5])
    train, validation, test = ((inputs[part], targets[part]) for part in parts)
    return train, validation, test


def standardize(*parts: Array) -> tuple[Array, ...]:
    """Return the parts, shifted and scaled so that each column of the first has mean 0 and standard deviation 1.

    A column that is constant there is only shifted.
    """
    mean, deviation = parts[0].mean(axis=0), parts[0].std(axis=0)
    # The mean of a constant column is rounded, so its deviation can be a little more than 0. This bound on its error is
    # the one of scikit-learn's StandardScaler (Chan, Golub and LeVeque, 1983).
    rounding = len(parts[0]) * np.finfo(np.float64).eps * np.abs(mean)
    return tuple((part - mean) / np.where(deviation > rounding, deviation, 1.0) for part in parts)


def draw_order(
    rows: int, epochs: int, batch_size: int, generator: np.random.Generator | None = None
) -> npt.NDArray[np.int64]:
    """Return the rows of each step: (epochs, steps) where a step has one row, or (epochs, steps, batch_size).

    Each epoch has an order of its own, drawn by the generator; without one, all have the order of the data. Rows at the
    end of an epoch's order that fill no batch are left out of this epoch.
    """
    orders = [np.arange(rows) if generator is None else generator.permutation(rows) for _ in range(epochs)]
    steps = rows // batch_size
    shape = (epochs, steps) if batch_size == 1 else (epochs, steps, batch_size)
    return np.stack(orders)[:, : steps * batch_size].reshape(shape)


def zero_params(widths: Sequence[int]) -> ParameterTree:
    """Return parameters that are all 0, where convex problems are begun."""
    return {
        layer: {name: np.zeros_like(leaf) for name, leaf in leaves.items()}
        for layer, leaves in draw_params(widths, 0).items()
    }


def stack_params(trees: Sequence[ParameterTree]) -> ParameterTree:
    """Return one tree whose leaves have a leading axis that counts `trees`."""
    return {
        layer: {name: np.stack([tree[layer][name] for tree in trees]) for name in leaves}
        for layer, leaves in trees[0].items()
    }


def ravel(tree: Mapping[str, Any]) -> Array:
    """Return the leaves of a tree as one vector, by sorted names: the order in which this project counts parameters."""
    return np.concatenate(
        [ravel(node) if isinstance(node, Mapping) else np.ravel(node) for _, node in sorted(tree.items())]
    )


def enumerate_params(tree: ParameterTree) -> ParameterTree:
    """Return the tree with each parameter replaced by its own place in `ravel`, as a float."""
    places = np.split(np.arange(ravel(tree).size, dtype=float), _ends(tree))
    by_path = dict(zip(_paths(tree), places, strict=False))
    return {
        layer: {name: by_path[layer, name].reshape(leaf.shape) for name, leaf in leaves.items()}
        for layer, leaves in tree.items()
    }


def _paths(tree: ParameterTree) -> list[tuple[str, str]]:
    return [(layer, name) for layer in sorted(tree) for name in sorted(tree[layer])]


def _ends(tree: ParameterTree) -> list[int]:
    return np.cumsum([tree[layer][name].size for layer, name in _paths(tree)])[:-1].tolist()


def next_up(tree: ParameterTree, dtype: str) -> ParameterTree:
    """Return the tree with each entry moved up by one unit in the last place of `dtype`."""
    up = np.array(np.inf, dtype)
    return {
        layer: {name: np.nextafter(leaf.astype(dtype), up) for name, leaf in leaves.items()}
        for layer, leaves in tree.items()
    }

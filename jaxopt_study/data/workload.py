"""What is trained on: data, initial parameters and batch order, drawn once, in NumPy, from a seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
ParameterTree = dict[str, dict[str, Array]]


@dataclass(frozen=True)
class Workload:
    """Everything that two frameworks must share to make the same steps.

    Attributes:
        widths: The network's widths, from inputs to classes.
        train: Inputs (rows, features) in float64 and integer targets (rows,).
        test: The same for the rows held out.
        params: Initial parameters in flax's layout: layer -> {kernel (inputs, outputs), bias (outputs,)}, float64.
        order: The row of each step, (epochs, steps); the same in every epoch.
        loss: The function of the backends' `models` that makes the loss: `loss` (softmax cross-entropy of several
            classes) or `logistic_loss` (binary, one output).
    """

    name: str
    widths: tuple[int, ...]
    train: tuple[Array, Array]
    test: tuple[Array, Array]
    params: ParameterTree
    order: npt.NDArray[np.int64]
    loss: str = "loss"

    @property
    def linear(self) -> bool:
        """Whether the network is one linear layer: then the Hessian has a closed form."""
        return len(self.widths) == 2


def digits_linear(seed: int, epochs: int) -> Workload:
    """Return the notebook's job: scikit-learn's digits, first half for training, one linear layer, one row a step."""
    from sklearn.datasets import load_digits  # takes a second to load

    inputs, targets = load_digits(return_X_y=True)
    half = len(inputs) // 2
    widths = (64, 10)
    return Workload(
        name="digits-linear",
        widths=widths,
        train=(inputs[:half], targets[:half]),
        test=(inputs[half:], targets[half:]),
        params=draw_params(widths, seed),
        order=np.tile(np.arange(half), (epochs, 1)),
    )


def breast_cancer_raw(seed: int, epochs: int) -> Workload:
    """Return scikit-learn's breast cancer data: 569 rows of 30 measures, whose sizes differ by a factor of 1e5.

    All rows are for training; those for testing are the same.
    """
    from sklearn.datasets import load_breast_cancer

    inputs, targets = load_breast_cancer(return_X_y=True)
    rows, widths = (inputs, targets), (30, 1)
    order = np.tile(np.arange(len(inputs)), (epochs, 1))
    return Workload("breast-cancer-raw", widths, rows, rows, draw_params(widths, seed), order, loss="logistic_loss")


def breast_cancer_standardized(seed: int, epochs: int) -> Workload:
    """Return the same with each measure shifted and scaled to mean 0 and deviation 1."""
    raw = breast_cancer_raw(seed, epochs)
    inputs, targets = raw.train
    rows = ((inputs - inputs.mean(axis=0)) / inputs.std(axis=0), targets)
    return replace(raw, name="breast-cancer-standardized", train=rows, test=rows)


WORKLOADS: dict[str, Callable[[int, int], Workload]] = {
    "digits-linear": digits_linear,
    "breast-cancer-raw": breast_cancer_raw,
    "breast-cancer-standardized": breast_cancer_standardized,
}
"""Name -> function of (seed, epochs)."""


def draw_params(widths: Sequence[int], seed: int) -> ParameterTree:
    """Draw initial parameters as `torch.nn.Linear` does: uniform in +-1/sqrt(inputs), kernels and biases."""
    generator = np.random.default_rng(seed)

    def uniform(inputs: int, *shape: int) -> Array:
        return generator.uniform(-1, 1, shape) / np.sqrt(inputs)

    return {
        f"layer{number}": {"kernel": uniform(inputs, inputs, outputs), "bias": uniform(inputs, outputs)}
        for number, (inputs, outputs) in enumerate(pairwise(widths), start=1)
    }


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

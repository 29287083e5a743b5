"""A loss to differentiate: a workload's, or that of a network by name, `64-27-10 x 898`: widths and rows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from jaxopt_study.data.workload import Array, ParameterTree, Workload, draw_params


@dataclass(frozen=True)
class Problem:
    """A mean cross-entropy to differentiate.

    Attributes:
        params: Initial parameters in flax's layout, float64.
        batch: Inputs (rows, widths[0]) in float64 and integer targets (rows,).
        random: Whether the batch was drawn at random, since the workload's does not fit the widths.
    """

    widths: tuple[int, ...]
    params: ParameterTree
    batch: tuple[Array, Array]
    random: bool = False

    @property
    def size(self) -> int:
        """How many parameters it has."""
        return _size(self.widths)

    @property
    def linear(self) -> bool:
        """Whether the network is one linear layer: then the Hessian has a closed form."""
        return len(self.widths) == 2

    @property
    def activations(self) -> int:
        """How many numbers the layers put out for all rows together."""
        return len(self.batch[0]) * sum(self.widths[1:])


def name_of(widths: tuple[int, ...], rows: int) -> str:
    """Return the problem's name."""
    return f"{'-'.join(map(str, widths))} x {rows}"


def size_of(name: str) -> int:
    """Return how many parameters the problem of that name has."""
    return _size(_parts(name)[0])


def rows_of(name: str) -> int:
    """Return how many rows the problem of that name has."""
    return _parts(name)[1]


def whole(workload: Workload) -> Problem:
    """Return the workload's own problem: its initial parameters and all its training rows."""
    return Problem(workload.widths, workload.params, workload.train)


def make(name: str, workload: Workload, seed: int) -> Problem:
    """Return the problem of that name: on the workload's rows, repeated as need be, where the widths fit it.

    Other widths get inputs drawn from a normal distribution and targets drawn evenly.
    """
    widths, rows = _parts(name)
    params = workload.params if widths == workload.widths else draw_params(widths, seed)
    if workload.fits(widths[0], widths[-1]):
        inputs, targets = (np.resize(array, (rows, *array.shape[1:])) for array in workload.train)
        return Problem(widths, params, (inputs, targets))
    generator = np.random.default_rng(seed)
    inputs, targets = generator.standard_normal((rows, widths[0])), generator.integers(0, widths[-1], rows)
    return Problem(widths, params, (inputs, targets), random=True)


def _parts(name: str) -> tuple[tuple[int, ...], int]:
    layers, count = name.split(" x ")
    return tuple(map(int, layers.split("-"))), int(count)


def _size(widths: tuple[int, ...]) -> int:
    return sum((inputs + 1) * outputs for inputs, outputs in pairwise(widths))

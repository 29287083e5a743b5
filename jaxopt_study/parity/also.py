"""What is recorded of a step beside the parameters, as leaves of its tree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxopt_study.parity.quantities import BATCH, QUANTITIES, digest
from jaxopt_study.parity.trees import ACTIVATIONS, Leaf, Leaves, flatten


class Also:
    """Names the quantities of each step, and digests the rows of batches and outputs.

    A file has one name and one shape for each leaf: those of the first step. What a later step lacks is NaN, and what
    it has besides is not recorded: a training must not end because of it.
    """

    def __init__(self) -> None:
        self._shapes: dict[str, tuple[int, ...]] = {}

    def leaves(self, quantities: Mapping[str, Any]) -> Leaves:
        """Return the leaves of some quantities of a step.

        Raises:
            ValueError: They are no mapping, or a name is not known.
        """
        if not isinstance(quantities, Mapping):
            kind = type(quantities).__name__
            raise ValueError(f'`also` returned a {kind}: give a dict, such as {{"loss": loss}}')  # noqa: TRY004
        found: Leaves = {}
        for name, value in quantities.items():
            quantity = f"@{name}"
            if quantity not in QUANTITIES:
                known = ", ".join(each[1:] for each in QUANTITIES)
                raise ValueError(f"{name!r} cannot be recorded: choose from {known}")
            if quantity in (BATCH, ACTIVATIONS):
                found |= _digests(flatten({quantity: value}))
            else:
                found |= flatten({quantity: value})
        if not self._shapes:
            self._shapes = {name: leaf.shape for name, leaf in found.items()}
        return {name: _fixed(found.get(name), shape) for name, shape in self._shapes.items()}


def _digests(leaves: Leaves) -> Leaves:
    """Return the digests; the calls of one module are rows of one output."""
    calls: dict[str, list[Leaf]] = {}
    for name, leaf in leaves.items():
        calls.setdefault(_module(name), []).append(digest(leaf))
    return {name: np.concatenate(parts) for name, parts in calls.items()}


def _fixed(leaf: Leaf | None, shape: tuple[int, ...]) -> Leaf:
    if leaf is not None and leaf.shape == shape:
        return leaf
    found = np.full(shape, np.nan)
    if leaf is not None and leaf.ndim and leaf.shape[1:] == shape[1:]:
        found[: len(leaf)] = leaf[: shape[0]]
    return found


def _module(name: str) -> str:
    """Return the name of a module's output; flax's `intermediates/block/dense/__call__/0` becomes `block.dense`."""
    quantity, *path = name.split("/")
    if "__call__" not in path:
        return name
    path = path[1:] if path[0] == "intermediates" else path
    return f"{quantity}/{'.'.join(path[: path.index('__call__')])}"

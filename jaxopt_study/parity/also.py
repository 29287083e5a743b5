"""What is recorded of a step beside the parameters, as leaves of its tree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxopt_study.parity.quantities import BATCH, QUANTITIES, digest
from jaxopt_study.parity.trees import ACTIVATIONS, Leaf, Leaves, flatten


class Also:
    """Names the quantities of each step, and digests the rows of batches and outputs.

    A file has one shape for each leaf. So as many rows are kept as the first step had; missing ones are 0.
    """

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}

    def leaves(self, quantities: Mapping[str, Any]) -> Leaves:
        """Return the leaves of some quantities of a step.

        Raises:
            ValueError: A name is not known.
        """
        found: Leaves = {}
        for name, value in quantities.items():
            quantity = f"@{name}"
            if quantity not in QUANTITIES:
                known = ", ".join(each[1:] for each in QUANTITIES)
                raise ValueError(f"{name!r} cannot be recorded: choose from {known}")
            for leaf_name, leaf in flatten({quantity: value}).items():
                if quantity in (BATCH, ACTIVATIONS):
                    found[_module(leaf_name)] = self._fixed(leaf_name, digest(leaf))
                else:
                    found[leaf_name] = leaf
        return found

    def _fixed(self, name: str, rows: Leaf) -> Leaf:
        count = self._rows.setdefault(name, len(rows))
        if len(rows) == count:
            return rows
        found = np.zeros((count, *rows.shape[1:]))
        found[: len(rows)] = rows[:count]
        return found


def _module(name: str) -> str:
    """Return the name of a module's output; flax's `block/dense/__call__/0` becomes `block.dense`."""
    quantity, *path = name.split("/")
    if "__call__" not in path:
        return name
    return f"{quantity}/{'.'.join(path[: path.index('__call__')])}"

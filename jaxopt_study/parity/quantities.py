"""What may be recorded of a step beside the parameters, in the order in which a step computes it.

A name that begins with @ is no parameter: `{"w": ..., "@gradients": {"w": ...}, "@loss": ...}` is a step of which the
gradients and the loss were recorded as well.
"""

from __future__ import annotations

import numpy as np

from jaxopt_study.parity.trees import ACTIVATIONS, Leaf, Leaves

BATCH, LOSS = "@batch", "@loss"
GRADIENTS, CLIPPED, RATE = "@gradients", "@clipped", "@learning_rate"

QUANTITIES = {
    BATCH: "the batch, as digests of its rows",
    ACTIVATIONS: "the outputs of the modules, as digests of their rows",
    LOSS: "the loss",
    GRADIENTS: "the gradients before clipping",
    CLIPPED: "the gradients that the optimizer was given",
    RATE: "the learning rate",
}
"""What may be recorded, in the order in which it is computed."""


def split(leaves: Leaves) -> tuple[Leaves, dict[str, Leaves]]:
    """Return the parameters, and the other quantities by their names.

    Raises:
        ValueError: A name begins with @ and is none of `QUANTITIES`.
    """
    params: Leaves = {}
    found: dict[str, Leaves] = {}
    for name, leaf in leaves.items():
        if not name.startswith("@"):
            params[name] = leaf
            continue
        quantity, _, rest = name.partition("/")
        if quantity not in QUANTITIES:
            raise ValueError(f"{name}: a name that begins with @ must be one of {', '.join(QUANTITIES)}")
        found.setdefault(quantity, {})[rest] = leaf
    return params, found


def digest(array: Leaf) -> Leaf:
    """Return three numbers for each row of an array: their root mean square, mean, and a sum with fixed weights.

    They are the same whether images have their channels first or last. The third knows the order of the elements; it
    is 0 where the axis of the channels cannot be told.

    Args:
        array: Numbers, with the rows as the first axis; a number alone is one row.

    Example:
        >>> digest(np.array([[3.0, 4.0], [0.0, 0.0]])).round(3)
        array([[3.536, 3.5  , 6.162],
               [0.   , 0.   , 0.   ]])
    """
    rows = np.atleast_1d(np.asarray(array)).astype(float)
    ordered = rows if rows.ndim <= 3 else _channels_last(rows)
    flat = (rows if ordered is None else ordered).reshape(len(rows), -1)
    count = max(flat.shape[1], 1)
    weights = np.zeros(count) if ordered is None else np.sin(1.0 + np.arange(count))
    size = np.sqrt(np.sum(flat**2, axis=1) / count)
    return np.stack([size, flat.sum(axis=1) / count, flat @ weights], axis=1)


def _channels_last(rows: Leaf) -> Leaf | None:
    """Return square images with their channels last, or None where their axis cannot be told."""
    sizes = rows.shape[1:]
    if rows.ndim != 4 or sizes[0] == sizes[2]:
        return None
    if sizes[1] == sizes[2]:
        return np.moveaxis(rows, 1, -1)
    return rows if sizes[0] == sizes[1] else None

"""The parameters in a user's state, as a tree of arrays by flax's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax

__all__ = ["read"]


def read(state: Any, params: Callable[[Any], Any] | None = None) -> Any:
    """Return what params(state) returns; without `params`, the parameters that the state holds.

    These are `state.params`, or the first element of a tuple, or the whole state; of flax's variables the collection
    `params`. What is no array, such as an activation function, is left out.
    """
    if params is not None:
        return params(state)
    found = getattr(state, "params", state[0] if type(state) is tuple and state else state)
    if isinstance(found, Mapping) and "params" in found:
        found = found["params"]
    return jax.tree.map(lambda leaf: leaf if hasattr(leaf, "dtype") else None, found)

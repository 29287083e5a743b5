"""The start of a minimization as arrays: a user may give numbers and whole numbers, as to SciPy."""

from __future__ import annotations

from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["as_start"]


def as_start(x0: Any) -> Any:
    """Return the start as a tree of floating point arrays, where it is one of numbers.

    A list or tuple of numbers alone is a vector, as in SciPy. Numbers, and arrays of whole numbers, get the floating
    point type of the other leaves, or else JAX's default. What has no sensible conversion is left as it is.
    """
    if type(x0) in (list, tuple) and x0 and all(map(_is_number, x0)):
        return jnp.asarray(x0, jnp.result_type(float))
    arrays = [leaf for leaf in jax.tree.leaves(x0) if isinstance(leaf, jax.Array | np.ndarray)]
    types = {leaf.dtype for leaf in arrays if jnp.issubdtype(leaf.dtype, jnp.floating)}
    dtype = types.pop() if len(types) == 1 else jnp.result_type(float)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype) if _is_number(leaf) or _is_whole(leaf) else leaf, x0)


def _is_number(leaf: Any) -> bool:
    return isinstance(leaf, Real) and not isinstance(leaf, bool)


def _is_whole(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray) and jnp.issubdtype(leaf.dtype, jnp.integer)

"""The start of a minimization as tensors: a user may give numbers and whole numbers, as to SciPy."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

__all__ = ["as_start"]


def as_start(x0: Any) -> Any:
    """Return the start as a tree of floating point tensors, where it is one of numbers or NumPy's arrays.

    A list or tuple of numbers alone is a vector, as in SciPy. Numbers, and arrays of whole numbers, get the floating
    point type of the other leaves, or else PyTorch's default. What has no sensible conversion is left as it is.
    """
    if type(x0) in (list, tuple) and x0 and all(map(_is_number, x0)):
        return torch.tensor(x0, dtype=torch.get_default_dtype())
    x0 = pytree.tree_map_only(np.ndarray, torch.as_tensor, x0)
    leaves = [leaf for leaf in pytree.tree_leaves(x0) if isinstance(leaf, Tensor)]
    types = {leaf.dtype for leaf in leaves if leaf.is_floating_point()}
    dtype = types.pop() if len(types) == 1 else torch.get_default_dtype()
    return pytree.tree_map(
        lambda leaf: torch.as_tensor(leaf, dtype=dtype) if _is_number(leaf) or _is_whole(leaf) else leaf, x0
    )


def _is_number(leaf: Any) -> bool:
    return isinstance(leaf, Real) and not isinstance(leaf, bool)


def _is_whole(leaf: Any) -> bool:
    kinds = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
    return isinstance(leaf, Tensor) and leaf.dtype in kinds

"""Where a second derivative is not finite: entries by name, and operations at which a derivative is infinite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from torch_reference.inspection import inspect

__all__ = ["infinite_points", "name_entries", "why_not_finite"]

Params = Any

# The operation, which of its arguments, the value at which its derivative is infinite, and the words.
INFINITE = {
    "sqrt": (0, 0, "sqrt of 0"),
    "rsqrt": (0, 0, "rsqrt of 0"),
    "log": (0, 0, "log of 0"),
    "log2": (0, 0, "log2 of 0"),
    "log10": (0, 0, "log10 of 0"),
    "log1p": (0, -1, "log1p of -1"),
    "pow": (0, 0, "a power of 0"),
    "reciprocal": (0, 0, "a division by 0"),
    "div": (1, 0, "a division by 0"),
    "asin": (0, 1, "asin of 1"),
    "acos": (0, 1, "acos of 1"),
    "atanh": (0, 1, "atanh of 1"),
    "acosh": (0, 1, "acosh of 1"),
    "atan2": (0, 0, "atan2 of 0"),
}
# Operations whose derivative is infinite where their result is 0.
INFINITE_AT_ZERO = {
    "linalg_vector_norm": "norm of 0",
    "norm": "norm of 0",
    "std": "std of 0",
    "_cdist_forward": "cdist of equal points",
    "_euclidean_dist": "cdist of equal points",
    "_pdist_forward": "pdist of equal points",
}


def why_not_finite(found: Tensor, loss: Callable[..., Any], params: Params, *args: Any) -> str:
    """Say which entries of a Hessian, or of its diagonal, are not finite, and the likely cause; nothing if all are."""
    if bool(torch.isfinite(found).all()):
        return ""
    slopes, value = torch.func.grad_and_value(loss)(params, *args)
    if not bool(torch.isfinite(value)):
        return f"the loss is {float(value)} at params, and so its second derivative is not finite"
    slope = torch.cat([leaf.reshape(-1) for leaf in pytree.tree_leaves(slopes)])
    cause = _cause(loss, params, *args)
    if not bool(torch.isfinite(slope).all()):
        entries = (~torch.isfinite(slope)).nonzero()
        return f"the gradient of the loss is not finite at {name_entries(entries, params)}, where the loss is; {cause}"
    where = name_entries((~torch.isfinite(found)).nonzero(), params)
    return f"the second derivative is not finite at {where}, where the loss and its gradient are; {cause}"


def _cause(loss: Callable[..., Any], params: Params, *args: Any) -> str:
    points = infinite_points(loss, params, *args)
    if not points:
        return "no operation at an infinite derivative was found, so it may be an overflow"
    hidden = ", which a comparison does not hide: 0 times infinity is NaN, so choose the argument too"
    return f"likely cause: {', '.join(points)}{hidden if 'comparison' in inspect(loss, params, *args).kinks else ''}"


def name_entries(entries: Any, params: Params, name: str = "params") -> str:
    """Return one of some entries of a matrix over the parameters, by leaf and index, and how many more there are.

    It is the first on the diagonal: one infinite entry makes others of its row NaN, as 0 times infinity.

    Args:
        entries: Rows of numbers of parameters, in the order of `runtime.ravel`.
        params: The parameters.
        name: What to call them.
    """
    rows = [[int(place) for place in entry] for entry in entries]
    first = next((row for row in rows if row[0] == row[-1]), rows[0])
    names = ", ".join(_name(place, params, name) for place in first)
    others = len(entries) - 1
    more = f" and {others} more {'entry' if others == 1 else 'entries'}" if others else ""
    return f"({names}){more}"


def _name(place: int, params: Params, name: str) -> str:
    for path, leaf in pytree.tree_flatten_with_path(params)[0]:
        if place < leaf.numel():
            index = ", ".join(str(int(i)) for i in np.unravel_index(place, tuple(leaf.shape)))
            return f"{name}{pytree.keystr(path)}" + (f"[{index}]" if index else "")
        place -= leaf.numel()
    raise IndexError(f"{name} have no entry {place}")


def infinite_points(loss: Callable[..., Any], params: Params, *args: Any) -> list[str]:
    """Return what operations of a loss are, at these parameters, where their derivative is infinite: "sqrt of 0"."""
    with torch.no_grad(), Points() as points:
        loss(params, *args)
    return sorted(points.found)


class Points(TorchDispatchMode):
    """Notes the operations that are at an infinite derivative."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        """Call the operation, and look at its argument and its result."""
        result, name = func(*args, **(kwargs or {})), func.overloadpacket.__name__
        if name in INFINITE:
            place, value, words = INFINITE[name]
            if isinstance(args[place], Tensor) and bool((args[place] == value).any()):
                self.found.add(words)
        if name in INFINITE_AT_ZERO and bool((result == 0).any()):
            self.found.add(INFINITE_AT_ZERO[name])
        return result

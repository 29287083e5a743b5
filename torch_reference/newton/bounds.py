"""Bounds on the variables: how a user gives them, and where a point lies between them."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils import _pytree as pytree

from torch_reference.runtime import ravel_tree
from torch_reference.validation import check_params

__all__ = ["Box", "as_box", "on_face", "within"]

Vector = Float[Tensor, " P"]
FORM = "give (lower, upper), each None, a number or a tree like x0, or scipy.optimize.Bounds"


class Box(NamedTuple):
    """The points x with lower <= x <= upper; a variable without a bound has an infinite one."""

    lower: Vector
    upper: Vector

    def project(self, x: Vector) -> Vector:
        """Return the nearest point in the box."""
        return torch.minimum(torch.maximum(x, self.lower), self.upper)

    def free(self, x: Vector) -> Bool[Tensor, " P"]:
        """Say which variables lie strictly between their bounds."""
        return (self.lower < x) & (x < self.upper)

    def slope(self, x: Vector, gradient: Vector) -> Vector:
        """Return the projected gradient x - P(x - gradient): it is 0 where no step within the box goes down.

        Written so that it is the gradient itself inside, also where the gradient is below x's last place.
        """
        to_lower, to_upper = x - self.lower, x - self.upper
        return torch.where(gradient > 0, torch.minimum(gradient, to_lower), torch.maximum(gradient, to_upper))

    def open_along(self, x: Vector, way: Vector) -> bool:
        """Say whether a ray from x is bounded in no variable, except those that a bound holds already."""
        ahead = torch.where(way > 0, self.upper, torch.where(way < 0, self.lower, torch.inf))
        return bool((torch.isinf(ahead) | (ahead == x)).all())


def as_box(bounds: Any, x0: Any) -> Box | None:
    """Return bounds as vectors in the order of the start's.

    Args:
        bounds: (lower, upper), each None, a number or a tree like x0, whose leaves broadcast to the start's and may be
            infinite or None; or scipy.optimize.Bounds; or None.
        x0: The start.

    Raises:
        TypeError: They have another form, or the start has no floating point arrays.
        ValueError: A bound is NaN, or a lower one is above the upper one.
    """
    if bounds is None:
        return None
    check_params(x0, "x0")
    pair = (bounds.lb, bounds.ub) if hasattr(bounds, "lb") and hasattr(bounds, "ub") else bounds
    if type(pair) not in (tuple, list) or len(pair) != 2:
        raise TypeError(f"bounds {bounds!r} are no pair: {FORM}")
    box = Box(_vector("lower", pair[0], -np.inf, x0), _vector("upper", pair[1], np.inf, x0))
    _check(box.lower.detach().cpu().numpy(), box.upper.detach().cpu().numpy())
    return box


def within(box: Box | None, x0: Any) -> Any:
    """Return the nearest start that is within the bounds."""
    if box is None:
        return x0
    start, unravel = ravel_tree(x0)
    return unravel(box.project(start))


def on_face(product: Callable[[Vector], Vector], face: Bool[Tensor, " P"]) -> Callable[[Vector], Vector]:
    """Return v -> H v among the variables of a face of the box; of the others, the entries are 0.

    Args:
        product: v -> H v.
        face: Which variables no bound holds.
    """
    return lambda v: torch.where(face, product(torch.where(face, v, 0.0)), 0.0)


def _vector(name: str, bound: Any, absent: float, x0: Any) -> Vector:
    def filled(leaf: Tensor, given: Any) -> Tensor:
        if given is not None and not _is_array(given):
            raise TypeError(f"the {name} bound has a {type(given).__name__} where x0 has an array: {FORM}")
        given = torch.as_tensor(absent if given is None else given).to(leaf)
        if not _fits(tuple(given.shape), tuple(leaf.shape)):
            raise TypeError(f"the {name} bound has shape {tuple(given.shape)} where x0 has {tuple(leaf.shape)}: {FORM}")
        return given.expand(leaf.shape)

    everywhere = bound is None or (_is_array(bound) and np.ndim(bound) == 0)
    leaves, structure = pytree.tree_flatten(x0)
    try:
        given = [bound] * len(leaves) if everywhere else structure.flatten_up_to(bound)
        whole = [filled(*pair) for pair in zip(leaves, given, strict=True)]
    except ValueError:
        raise TypeError(f"the {name} bound {bound!r} is no tree like x0: {FORM}") from None
    return ravel_tree(pytree.tree_unflatten(whole, structure))[0]


def _fits(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Say whether an array of a shape broadcasts to another one."""
    return len(shape) <= len(other) and all(a in (1, b) for a, b in zip(shape[::-1], other[::-1], strict=False))


def _is_array(value: Any) -> bool:
    return hasattr(value, "dtype") or (isinstance(value, Real) and not isinstance(value, bool))


def _check(lower: np.ndarray, upper: np.ndarray) -> None:
    for name, bound in (("lower", lower), ("upper", upper)):
        if np.isnan(bound).any():
            raise ValueError(f"the {name} bound of variable {np.isnan(bound).argmax()} is NaN: use an infinite one")
    if (lower > upper).any():
        at = (lower > upper).argmax()
        raise ValueError(f"the lower bound {lower[at]:g} of variable {at} is above the upper one, {upper[at]:g}")

"""The options of `minimize`, and the forms of an objective and of Newton equations that are not plain functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

__all__ = ["Composite", "Limits", "Options", "System"]


@dataclass(frozen=True)
class Composite:
    """An objective outer(inner(x)) with a convex `outer`: a model's outputs and the loss on them.

    Both take the objective's further arguments: inner(x, *args) is a tensor, outer(outputs, *args) a scalar.
    """

    inner: Callable[..., Tensor]
    outer: Callable[..., Tensor]

    def __call__(self, x: Any, *args: Any) -> Tensor:
        """Return the objective."""
        return self.outer(self.inner(x, *args), *args)


class System(NamedTuple):
    """Newton equations that are built and solved in another way than by a dense matrix of all parameters.

    Attributes:
        build: build(prepared, x, *args) is what `solve` needs of the Hessian at x, a tree like the start.
        solve: solve(built, gradient, damping) is (d, ok): the solution of (H + damping s I) d = -gradient, a tree like
            the start, and whether the damped matrix is positive definite. The scale s is the system's own, its largest
            entry.
        prepare: prepare(*args) is the part that does not depend on x; it is computed once for a run.
    """

    build: Callable[..., Any]
    solve: Callable[[Any, Any, float], tuple[Any, bool]]
    prepare: Callable[..., Any] = lambda *_: None


@dataclass(frozen=True)
class Options:
    """The options of `minimize` that say what is computed."""

    method: str
    hessian: Callable[..., Any] | System | None
    block_size: int | None
    line_search: str
    keep_path: bool


class Limits(NamedTuple):
    """The options of `minimize` that say when a run ends."""

    tolerance: float | None
    decrement_tolerance: float | None
    max_iterations: int

"""The options of `minimize`, and the forms of an objective and of Newton equations that are not plain functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from jaxtyping import Array

__all__ = ["Composite", "Limits", "Options", "System"]


@dataclass(frozen=True)
class Composite:
    """An objective outer(inner(x)) with a convex `outer`: a model's outputs and the loss on them.

    Both take the objective's further arguments: inner(x, *args) is an array, outer(outputs, *args) a scalar.
    """

    inner: Callable[..., Array]
    outer: Callable[..., Array]

    def __call__(self, x: Any, *args: Any) -> Array:
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
    solve: Callable[[Any, Any, Array], tuple[Any, Array]]
    prepare: Callable[..., Any] = lambda *_: None


@dataclass(frozen=True)
class Options:
    """The options of `minimize` that say what is computed; another value compiles anew.

    Attributes:
        rows: Of the path; None if it is not kept.
    """

    method: str
    hessian: Callable[..., Any] | System | None
    block_size: int | None
    line_search: str
    rows: int | None


class Limits(NamedTuple):
    """The options of `minimize` that say when a run ends; they are data of the compiled run.

    Attributes:
        tolerance: NaN for the default.
        decrement_tolerance: Negative where it is not used.
    """

    tolerance: Any
    decrement_tolerance: Any
    max_iterations: Any

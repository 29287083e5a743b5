"""An objective that returns more than its value, as `torch.func.grad_and_value` takes it with `has_aux=True`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch_reference.newton.options import Composite
from torch_reference.newton.result import Result
from torch_reference.validation import describe

__all__ = ["with_aux"]


def with_aux(
    minimize: Callable[..., Result], fun: Any, x0: Any, args: tuple[Any, ...], options: dict[str, Any]
) -> Result:
    """Minimize the first part of what `fun` returns, and compute the second once, at the last point.

    Raises:
        TypeError: `fun` is a `Composite`, or does not return a pair.
    """
    if isinstance(fun, Composite):
        raise TypeError("has_aux=True is for a function that returns (value, aux), and not for a Composite")
    result = minimize(_Part(fun, 0), x0, *args, **options | {"has_aux": False})
    return result._replace(aux=_Part(fun, 1)(result.x, *args))


@dataclass(frozen=True)
class _Part:
    """One part of the pair that a function returns."""

    fun: Callable[..., Any]
    place: int

    def __call__(self, x: Any, *args: Any) -> Any:
        pair = self.fun(x, *args)
        if not (isinstance(pair, tuple | list) and len(pair) == 2):
            raise TypeError(f"has_aux=True: the objective must return (value, aux), this one returns {describe(pair)}")
        return pair[self.place]

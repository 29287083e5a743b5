"""Where a second derivative is not finite: entries by name, and operations at which a derivative is infinite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal
from jax.flatten_util import ravel_pytree

from jaxopt_study.backends.jax.inspection import inspect, is_smooth, programs_inside

__all__ = ["infinite_points", "name_entries", "why_not_finite"]

Params = Any

# The operation, which of its arguments, the value at which its derivative is infinite, and the words.
INFINITE = (
    ("sqrt", 0, 0, "sqrt of 0"),
    ("rsqrt", 0, 0, "rsqrt of 0"),
    ("cbrt", 0, 0, "cbrt of 0"),
    ("log", 0, 0, "log of 0"),
    ("log1p", 0, -1, "log1p of -1"),
    ("pow", 0, 0, "a power of 0"),
    ("div", 1, 0, "a division by 0"),
    ("asin", 0, 1, "asin of 1"),
    ("acos", 0, 1, "acos of 1"),
    ("atanh", 0, 1, "atanh of 1"),
    ("acosh", 0, 1, "acosh of 1"),
    ("atan2", 0, 0, "atan2 of 0"),
)


def why_not_finite(found: Any, loss: Callable[..., Any], params: Params, *args: Any) -> str:
    """Say which entries of a Hessian, or of its diagonal, are not finite, and the likely cause; nothing if all are."""
    if isinstance(found, jax.core.Tracer) or bool(jnp.isfinite(found).all()):
        return ""
    value, slope = jax.value_and_grad(loss)(params, *args)
    if not bool(jnp.isfinite(value)):
        return f"the loss is {float(value)} at params, and so its second derivative is not finite"
    slope, cause = ravel_pytree(slope)[0], _cause(loss, params, *args)
    if not bool(jnp.isfinite(slope).all()):
        entries = np.argwhere(~np.isfinite(np.asarray(slope)))
        return f"the gradient of the loss is not finite at {name_entries(entries, params)}, where the loss is; {cause}"
    entries = np.argwhere(~np.isfinite(np.asarray(found)))
    where = name_entries(entries, params)
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
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if place < jnp.size(leaf):
            index = ", ".join(str(int(i)) for i in np.unravel_index(place, jnp.shape(leaf)))
            return f"{name}{jax.tree_util.keystr(path)}" + (f"[{index}]" if index else "")
        place -= jnp.size(leaf)
    raise IndexError(f"{name} have no entry {place}")


def infinite_points(loss: Callable[..., Any], params: Params, *args: Any) -> list[str]:
    """Return what operations of a loss are, at these parameters, where their derivative is infinite: "sqrt of 0"."""
    closed = jax.make_jaxpr(loss)(params, *args)
    found: set[str] = set()
    _evaluate(closed.jaxpr, closed.consts, jax.tree.leaves((params, args)), found)
    return sorted(found)


def _evaluate(jaxpr: Any, consts: Sequence[Any], given: Sequence[Any], found: set[str]) -> list[Any]:
    """Compute a program operation by operation, and note which of them are at an infinite derivative."""
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *given), strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.eqns:
        inputs, name = [read(atom) for atom in equation.invars], equation.primitive.name
        for operation, place, value, words in INFINITE:
            if operation == name and bool(jnp.any(jnp.asarray(inputs[place]) == value)):
                found.add(words)
        inner = [] if is_smooth(equation) else list(programs_inside(equation.params))
        if len(inner) == 1 and name != "scan" and len(inner[0][0].invars) == len(inputs):
            outputs = _evaluate(*inner[0], inputs, found)
        else:
            outputs = equation.primitive.bind(*inputs, **equation.primitive.get_bind_params(equation.params))
            outputs = outputs if equation.primitive.multiple_results else [outputs]
        values |= zip(equation.outvars, outputs, strict=True)
    return [read(atom) for atom in jaxpr.outvars]

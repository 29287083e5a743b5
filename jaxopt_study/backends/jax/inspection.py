"""What one call of a loss shows: its value, its kinks, and how much memory a derivative keeps.

A kink is an operation that depends on the parameters, has a jump in a derivative, and reaches the loss. What passes
`jax.lax.stop_gradient` does not count. An operation inside `jit`, `cond` or `scan` counts as one outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Literal

__all__ = ["Inspection", "inspect", "kept_bytes"]

COMPARISONS = {"gt", "ge", "lt", "le", "eq", "ne"}
# Operations whose second derivative does not exist everywhere, and the reader's words for them. Automatic
# differentiation takes the derivative of one side there.
KINKS = {
    "abs": "abs", "max": "max", "min": "min", "sign": "sign", "floor": "floor", "ceil": "ceil", "round": "round",
    "clamp": "clamp", "rem": "remainder", "reduce_max": "max", "reduce_min": "min", "argmax": "argmax",
    "argmin": "argmin", "cummax": "cummax", "cummin": "cummin", "reduce_window_max": "max pooling",
    "reduce_window_min": "min pooling", "sort": "sort", "top_k": "top_k", "comparison": "comparison",
}  # fmt: skip
SMOOTH = {"logaddexp", "logaddexp2", "xlogy", "xlog1py", "sinc", "hypot", "_slogdet_lu", "_slogdet_qr"}
"""JAX's own functions that are smooth, though they compare and select."""
SQUARED = {"log", "integer_pow", "square"}
"""After `abs` these are smooth: log|x| and |x|^2."""


class Inspection(NamedTuple):
    """What one call of a loss shows.

    Attributes:
        value: What it returns; in JAX its shape and type.
        kinks: The operations that have no second derivative somewhere.
        kept_bytes: About how many bytes of intermediate values a derivative keeps for each vector.
    """

    value: Any
    kinks: list[str]
    kept_bytes: int


def inspect(loss: Callable[..., Any], params: Any, *args: Any) -> Inspection:
    """Trace a loss, and return what is seen."""
    closed, value = jax.make_jaxpr(loss, return_shape=True)(params, *args)
    return Inspection(value, _kinks(closed.jaxpr, len(jax.tree.leaves(params))), _bytes(closed.jaxpr))


def kept_bytes(loss: Callable[..., Any], params: Any, *args: Any) -> int:
    """Return about how many bytes of intermediate values a derivative keeps for each vector; the loss is traced."""
    return _bytes(jax.make_jaxpr(loss)(params, *args).jaxpr)


def programs_inside(value: Any) -> Iterator[tuple[Any, Sequence[Any]]]:
    """Yield the programs in the parameters of an operation, and the arrays that each closes over."""
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        for item in value:
            yield from programs_inside(item)
    elif hasattr(value, "eqns"):
        yield getattr(value, "jaxpr", value), getattr(value, "consts", ())


def is_smooth(equation: Any) -> bool:
    """Return whether an operation is a function of JAX's own that is smooth."""
    name = equation.params.get("name")
    program = getattr(equation.params.get("call_jaxpr"), "jaxpr", None)  # of a function with a derivative of its own
    return (getattr(program.debug_info, "func_name", name) if program is not None else name) in SMOOTH


def _bytes(jaxpr: Any) -> int:
    """Return the bytes of all values of a program; a loop keeps those of each of its steps."""
    total = 0
    for equation in jaxpr.eqns:
        inside = sum(_bytes(inner) for inner, _ in programs_inside(equation.params))
        total += inside * equation.params.get("length", 1) if equation.primitive.name == "scan" else inside
        total += 0 if inside else sum(v.aval.size * v.aval.dtype.itemsize for v in equation.outvars)
    return total


class Node(NamedTuple):
    """An operation, with numbers for the values that it takes and makes."""

    name: str
    inputs: Sequence[int]
    outputs: Sequence[int]


def _kinks(jaxpr: Any, parameters: int) -> list[str]:
    """Return the kinks of a program, whose first arguments are the parameters."""
    fresh, nodes = count(), list[Node]()
    inputs = [next(fresh) for _ in jaxpr.invars]
    outputs = _add(jaxpr, inputs, nodes, fresh)
    passing = [node for node in nodes if node.name != "stop_gradient"]
    dependent = _reached(set(inputs[:parameters]), [(node.inputs, node.outputs) for node in passing])
    live = _reached(set(outputs), [(node.outputs, node.inputs) for node in passing])
    after: dict[int, set[str]] = {}
    for node in passing:
        for number in node.inputs:
            after.setdefault(number, set()).update([node.name] if live & set(node.outputs) else [])
    return sorted(
        {
            KINKS[node.name]
            for node in passing
            if node.name in KINKS and dependent & set(node.inputs) and live & set(node.outputs)
            if node.name != "abs" or not after.get(node.outputs[0], {""}) <= SQUARED
        }
    )


def _add(jaxpr: Any, inputs: Sequence[int], nodes: list[Node], fresh: Iterator[int]) -> list[int]:
    """Add the operations of a program, and return the numbers of its outputs."""
    numbers = dict(zip(jaxpr.invars, inputs, strict=True))

    def number(atom: Any) -> int:
        return next(fresh) if isinstance(atom, Literal) else numbers.setdefault(atom, next(fresh))

    makers = {variable: equation for equation in jaxpr.eqns for variable in equation.outvars}
    for equation in jaxpr.eqns:
        given, made = [number(a) for a in equation.invars], [number(v) for v in equation.outvars]
        inner = [] if is_smooth(equation) else [program for program, _ in programs_inside(equation.params)]
        if not inner:
            nodes.append(Node("" if _is_variance(equation, makers) else _word(equation), given, made))
        for program in inner:
            _addprograms_inside(equation, program, given, made, nodes, fresh)
    return [number(atom) for atom in jaxpr.outvars]


def _addprograms_inside(
    equation: Any, program: Any, given: Sequence[int], made: Sequence[int], nodes: list[Node], fresh: Iterator[int]
) -> None:
    """Add a program inside an operation; where its arguments cannot be paired, each may depend on all."""
    if equation.primitive.name == "cond":
        nodes.append(Node("choose", given[:1], made))
        given = given[1:]
    begin = [next(fresh) for _ in program.invars]
    end = _add(program, begin, nodes, fresh)
    for several, others in ((given, begin), (end, made)):
        pairs = zip(several, others, strict=True) if len(several) == len(others) else ()
        nodes += [Node("pass", [a], [b]) for a, b in pairs] or [Node("pass", several, others)]
    if equation.primitive.name == "scan":
        first, carried = equation.params["num_consts"], equation.params["num_carry"]
        nodes += [Node("pass", [a], [b]) for a, b in zip(end, begin[first : first + carried], strict=False)]


def _word(equation: Any) -> str:
    """Return the name of an operation; one of whole numbers has none, since those are indices."""
    if not (equation.invars and jnp.issubdtype(equation.invars[0].aval.dtype, jnp.floating)):
        return "stop_gradient" if equation.primitive.name == "stop_gradient" else ""
    return "comparison" if equation.primitive.name in COMPARISONS else equation.primitive.name


def _is_variance(equation: Any, makers: dict[Any, Any]) -> bool:
    """Return whether this is max(0, mean of x^2 - square of the mean of x), as in flax's normalizations.

    The difference is never negative but for rounding, so that the maximum is no kink.
    """

    def maker(atom: Any, name: str) -> Any:
        """Return the operation of this name that made a value, or None."""
        made = None if isinstance(atom, Literal) else makers.get(atom)
        return made if made is not None and made.primitive.name == name else None

    def arguments(atom: Any, name: str) -> Any:
        made = maker(atom, name)
        return made.invars if made else [None, None]

    def mean(atom: Any) -> tuple[Any, Any, Any]:
        """Return what a value is the mean of, over which axes, divided by what number."""
        total, count = arguments(atom, "div")
        summed = maker(total, "reduce_sum")
        return (summed.invars[0], summed.params["axes"], getattr(count, "val", None)) if summed else (None, None, None)

    literals = [atom.val for atom in equation.invars if isinstance(atom, Literal)]
    if equation.primitive.name != "max" or literals != [0]:
        return False
    (difference,) = (atom for atom in equation.invars if not isinstance(atom, Literal))
    of_squares, squared_mean = arguments(difference, "sub")
    squares, *first = mean(of_squares)
    values, *second = mean(arguments(squared_mean, "square")[0])
    return values is not None and arguments(squares, "square")[0] is values and first == second and None not in first


def _reached(start: set[int], edges: Sequence[tuple[Sequence[int], Sequence[int]]]) -> set[int]:
    """Return all numbers that can be reached along edges."""
    after: dict[int, list[int]] = {}
    for one, other in edges:
        for number in one:
            after.setdefault(number, []).extend(other)
    found, rest = set(start), list(start)
    while rest:
        new = set(after.get(rest.pop(), ())) - found
        found |= new
        rest += new
    return found

"""A function as the program that JAX traces of it: known by what it computes, and not by its object.

A compiled run is found again by its program. So a lambda that is written anew does not compile anew, a function that
cannot be hashed can be minimized, and arrays that a function closes over are data.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun

from jaxopt_study.backends.jax.compiling import operations
from jaxopt_study.backends.jax.newton.bounds import Box
from jaxopt_study.backends.jax.newton.options import Composite, Options, System

__all__ = ["Data", "Program", "bind", "hashable", "trace", "traced"]


class Data(NamedTuple):
    """What a compiled run is given, beside its start and its limits.

    Attributes:
        arrays: Those that the functions close over.
        args: The further arguments of the functions.
        box: The bounds, if there are any.
    """

    arrays: Any
    args: tuple[Any, ...]
    box: Box | None


class Program:
    """A traced function of trees, without the arrays that it closes over; equal to any that computes the same."""

    def __init__(self, jaxpr: Any, out_tree: Any) -> None:
        self.jaxpr, self.out_tree = jaxpr, out_tree
        self.operations = operations(jaxpr)
        self.key = (_encoded(jaxpr), out_tree)
        self.hash = hash(self.key)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Program) and (self is other or (self.hash == other.hash and self.key == other.key))

    def bind(self, arrays: Any) -> Callable[..., Any]:
        """Return the function with these arrays in the places of those that it closed over."""
        run = jaxpr_as_fun(ClosedJaxpr(self.jaxpr, arrays))
        return lambda *trees: jax.tree.unflatten(self.out_tree, run(*jax.tree.leaves(trees)))


def trace(fun: Any, x0: Any, args: tuple[Any, ...], options: Options) -> tuple[Any, Options, Any]:
    """Return the objective and the options with programs for functions, and the arrays that these close over."""
    if isinstance(fun, Composite):
        inner, arrays, outputs = traced(fun.inner, x0, *args)
        outer, others, _ = traced(fun.outer, outputs, *args)
        program, closed = Composite(inner, outer), (arrays, others)
    else:
        program, closed, _ = traced(fun, x0, *args)
    if options.hessian is None or isinstance(options.hessian, System):
        return program, options, (closed, ())
    hessian, arrays, _ = traced(options.hessian, x0, *args)
    return program, replace(options, hessian=hessian), (closed, arrays)


def bind(program: Any, options: Options, arrays: Any) -> tuple[Any, Options]:
    """Return the functions that `trace` made programs of."""
    closed, others = arrays
    if isinstance(program, Composite):
        inner, outer = program.inner.bind(closed[0]), program.outer.bind(closed[1])  # type: ignore[attr-defined]
        fun: Any = Composite(inner, outer)
    else:
        fun = program.bind(closed)
    if isinstance(options.hessian, Program):
        options = replace(options, hessian=options.hessian.bind(others))
    return fun, options


def hashable(fun: Any) -> Any:
    """Return a function that JAX can trace; an object that cannot be hashed is put into a new one."""
    if isinstance(fun, Composite):
        return Composite(hashable(fun.inner), hashable(fun.outer))
    try:
        hash(fun)
    except TypeError:
        return lambda *args: fun(*args)
    return fun


def traced(fun: Any, *args: Any) -> tuple[Any, Any, Any]:
    """Return a function as a program, the arrays that it closes over, and the shapes that it returns."""
    closed, shape = jax.make_jaxpr(fun, return_shape=True)(*args)
    return _program(closed.jaxpr, jax.tree.structure(shape)), closed.consts, shape


@lru_cache(maxsize=512)  # tracing the same function again gives the same object
def _program(jaxpr: Any, out_tree: Any) -> Program:
    return Program(jaxpr, out_tree)


def _encoded(jaxpr: Any) -> tuple[Hashable, ...]:
    """Return all that a program computes, with its variables numbered in the order in which they appear."""
    numbers: dict[Any, int] = {}

    def name(variable: Any) -> Hashable:
        if isinstance(variable, Literal):
            value = np.asarray(variable.val)
            return variable.aval, value.dtype, value.tobytes()
        return numbers.setdefault(variable, len(numbers)), variable.aval

    def names(variables: Any) -> tuple[Hashable, ...]:
        return tuple(map(name, variables))

    begin = names(jaxpr.constvars), names(jaxpr.invars)
    equations = tuple(
        (e.primitive, names(e.invars), names(e.outvars), _parameter(e.params), frozenset(e.effects))
        for e in jaxpr.eqns
    )  # fmt: skip
    return (*begin, equations, names(jaxpr.outvars))


def _parameter(value: Any) -> Hashable:
    if isinstance(value, ClosedJaxpr):
        return _encoded(value.jaxpr), tuple(map(_Same, value.consts))
    if isinstance(value, Jaxpr):
        return _encoded(value)
    if isinstance(value, dict):
        return tuple((key, _parameter(value[key])) for key in sorted(value))
    if isinstance(value, tuple | list):
        return type(value), tuple(map(_parameter, value))
    try:
        hash(value)
    except TypeError:
        return _Same(value)
    return type(value), value


class _Same:
    """Equal to the same object alone."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

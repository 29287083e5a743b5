"""Small loops as one native function: what XLA on a CPU makes of a loop whose steps have little work.

By default XLA makes one kernel for each fused operator, and an interpreter calls the kernels. For a step on a few
numbers these calls take several times as long as the arithmetic. XLA compiles a loop on less than a kilobyte of data
into one native function; here two attributes request the same for any function. They are internal to XLA and not
documented; jax 0.10.2 knows them. Inside `jax.jit`, where no options can be set, a native function can hold no scatter
of several indices, and no product of two matrices either.

This is faster only for small steps, because matrix products become plain loops instead of library calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, wraps
from typing import Any

import jax
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.core import ClosedJaxpr, Jaxpr

from jaxopt_study.backends.jax.compiling import known, wide_options

__all__ = ["is_traced", "marked", "native", "scan", "suspects"]

OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "", "xla_cpu_use_fusion_emitters": False}
"""What a native function cannot hold, XLA makes otherwise then: a product of two matrices by its library, a scatter."""

EMPTY = "array without elements"
CALLS = {
    EMPTY: "XLA would end the process",
    "approx_top_k": "a call of XLA's library",
    "cholesky": "LAPACK",
    "custom_call": "a call of foreign code",
    "debug_callback": "a call of Python",
    "debug_print": "a call of Python",
    "eig": "LAPACK",
    "eigh": "LAPACK",
    "ffi_call": "a call of foreign code",
    "fft": "a call of XLA's library",
    "geqp3": "LAPACK",
    "geqrf": "LAPACK",
    "hessenberg": "LAPACK",
    "householder_product": "LAPACK",
    "io_callback": "a call of Python",
    "lu": "LAPACK",
    "pure_callback": "a call of Python",
    "qr": "LAPACK",
    "schur": "LAPACK",
    "sort": "a call of XLA's library",
    "svd": "LAPACK",
    "top_k": "a call of XLA's library",
    "triangular_solve": "LAPACK",
    "tridiagonal": "LAPACK",
    "tridiagonal_solve": "LAPACK",
}
"""Primitives, and arrays, that a native function cannot hold, and why."""


def marked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, of which XLA makes one native function on a CPU. It is called inside `jax.jit`.

    On other devices the function stays as it is.
    """
    if jax.default_backend() != "cpu":
        return function
    inner = jax.jit(function)

    @wraps(function)
    def of_one_piece(*arguments: Any, **named: Any) -> Any:
        results = inner(*arguments, **named)
        if not jax.tree.leaves(results):  # nothing to mark
            return results
        return set_xla_metadata(results, inlineable="false", xla_cpu_small_call="true")

    return of_one_piece


def scan(step: Callable[[Any, Any], tuple[Any, Any]], state: Any, inputs: Any) -> tuple[Any, Any]:
    """Return `jax.lax.scan(step, state, inputs)`, of which XLA makes one native function on a CPU."""
    return marked(lambda state, inputs: jax.lax.scan(step, state, inputs))(state, inputs)


def native(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function of arrays, as `jax.jit` does, into one native function on a CPU; elsewhere it is `jax.jit`.

    Args:
        function: A function of arrays or trees of arrays, with loops inside (`lax.scan`, `lax.while_loop`).

    Returns:
        The compiled function. Its results may differ from those of `jax.jit` by rounding. Inside `jax.jit` and other
        transformations it is a native function as well, but nothing can be refused there: XLA's own error comes.

    Raises:
        NotImplementedError: At a call: a native function cannot hold this; the words name the primitives, or have
            XLA's reason.
    """

    @wraps(function)
    def checked(*arguments: Any, **named: Any) -> Any:
        """Refuse while tracing, once for each shape and type: XLA would write of it to standard error."""
        found = suspects(function, *arguments, **named) if jax.default_backend() == "cpu" else []
        if found:
            raise _NotHeldError(found)
        return function(*arguments, **named)

    @cache
    def outermost() -> Callable[..., Any]:  # at the first call: who only defines a function starts no device
        return jax.jit(marked(checked), compiler_options=_options())

    @wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        if is_traced((arguments, named)):
            return marked(function)(*arguments, **named)
        try:
            return outermost()(*arguments, **named)
        except _NotHeldError as error:
            words = f"a native function cannot hold {', '.join(error.found)}: mode='auto' takes jax.jit"
            raise NotImplementedError(words) from None
        except jax.errors.JaxRuntimeError as error:
            reason = str(error).splitlines()[0]
            raise NotImplementedError(f"XLA makes no native function of {function.__name__}: {reason}") from None

    return call


class _NotHeldError(Exception):
    """What was found on the way through `jax.jit`, which adds lines to a message."""

    def __init__(self, found: list[str]) -> None:
        self.found = found


def is_traced(arguments: Any) -> bool:
    """Whether this is a call inside `jax.jit` or another transformation."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(arguments))


def suspects(function: Callable[..., Any], *arguments: Any, **named: Any) -> list[str]:
    """Return what in a function keeps it from being native, as `primitive (why)`, each once.

    A function without any may still be refused: only XLA knows. `custom_jvp` and the like are looked into.
    """
    names = dict.fromkeys(_primitives(jax.make_jaxpr(function)(*arguments, **named).jaxpr))
    return [f"{name} ({CALLS[name]})" for name in names if name in CALLS]


def _primitives(jaxpr: Jaxpr) -> Iterator[str]:
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        if any(getattr(v.aval, "size", 1) == 0 for v in (*equation.invars, *equation.outvars)):
            yield EMPTY
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                if isinstance(inner, ClosedJaxpr | Jaxpr):
                    yield from _primitives(inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner)


@cache
def _options() -> dict[str, Any]:
    return known(OPTIONS) | wide_options() if jax.default_backend() == "cpu" else {}

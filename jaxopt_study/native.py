"""Small loops in JAX as one native function on a CPU, for any function of arrays: see docs/native.md."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from jaxopt_study.backends.jax.native import is_traced, suspects
from jaxopt_study.backends.jax.native import native as compiled_natively
from jaxopt_study.bench.timing import seconds_of

__all__ = ["MODES", "native", "suspects"]

MODES = ("always", "auto")
ROUNDS = 5
LONG = 0.5
"""Where the calls of a way took so many seconds, no further round is made."""


def native(function: Callable[..., Any], mode: str = "always") -> Callable[..., Any]:
    """Compile a function of arrays into one native function on a CPU; on other devices as `jax.jit` does.

    The results may differ from those of `jax.jit` by rounding. Inside `jax.jit` and other transformations nothing can
    be measured or refused: mode `auto` is the plain function there, and `always` is a native function.

    Args:
        function: A function of arrays or trees of arrays, with loops inside (`lax.scan`, `lax.while_loop`).
        mode: `always`, or `auto`: at the first call with arguments of these shapes and types, both ways are measured
            by up to six calls each, and the faster one is taken.

    Returns:
        The compiled function. In mode `auto` its attribute `choices` says in words what was chosen for which shapes.

    Raises:
        TypeError: There is no function.
        ValueError: There is no such mode.
        NotImplementedError: At a call in mode `always`: a native function cannot hold this; the words name the
            primitives, or have XLA's reason.

    >>> import jax, jax.numpy as jnp
    >>> kepler = native(lambda m: jax.lax.fori_loop(0, 9, lambda _, e: m + 0.1 * jnp.sin(e), m))
    >>> print(f"{kepler(jnp.float32(1.0)):.4f}")
    1.0886
    """
    if not callable(function):
        raise TypeError(f"{function!r} is no function")
    if mode not in MODES:
        raise ValueError(f"mode {mode!r} is none of {', '.join(MODES)}")
    return Chosen(function) if mode == "auto" else compiled_natively(function)


class Chosen:
    """A function under `jax.jit`, native for arguments with which that is faster.

    Attributes:
        choices: By the shapes and types of the arguments, what was chosen, in words.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._plain, self._native = jax.jit(function), compiled_natively(function)
        self._ways: dict[Any, Callable[..., Any]] = {}
        self.choices: dict[str, str] = {}

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Return what the function returns."""
        leaves, structure = jax.tree.flatten((arguments, named))
        # Looked up at each call, so it is made of what is read quickly; a tracer has a type of its own.
        key = (structure, *[(type(x), getattr(x, "shape", None), getattr(x, "dtype", None)) for x in leaves])
        way = self._ways.get(key)
        if way is None:
            if is_traced(leaves):
                return self._plain(*arguments, **named)
            way, words = self._choose(arguments, named)
            self._ways[key] = way
            self.choices[", ".join(str(jax.typeof(x)) for x in leaves)] = words
        return way(*arguments, **named)

    def _choose(self, arguments: Any, named: Any) -> tuple[Callable[..., Any], str]:
        if found := suspects(self._function, *arguments, **named):  # not tried: XLA would write of it to standard error
            return self._plain, f"jax.jit: a native function cannot hold {', '.join(found)}"
        try:
            jax.block_until_ready(self._native(*arguments, **named))
        except NotImplementedError as error:
            return self._plain, f"jax.jit: {error}"
        jax.block_until_ready(self._plain(*arguments, **named))
        plain, whole = (_least(partial(way, *arguments, **named)) for way in (self._plain, self._native))
        words = f"native takes {whole / plain:.2g} of the time of jax.jit"
        return (self._native, f"native: {words}") if whole < plain else (self._plain, f"jax.jit: {words}")


def _least(call: Callable[[], Any]) -> float:
    """Return the least seconds of several calls; what is called has been compiled."""
    times: list[float] = []
    while len(times) < ROUNDS and sum(times) < LONG:
        times.append(seconds_of(lambda: jax.block_until_ready(call()))[1])
    return min(times)

"""Kernels of known cost, by which one machine or version can be told from another; and three that deceive a timer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_study.backends.jax import runtime

__all__ = ["PROBES", "Probe", "asynchronous", "not_returned", "recompiling", "transposed_product", "work"]

SIZE = {"cpu": 768, "gpu": 4096}
"""Rows of the matrices: a product takes milliseconds on one core, or on a GPU."""

POWER_OF_TWO = {"cpu": 1024, "gpu": 4096}

ITERATIONS = 10_000
COPIED = {"cpu": 2**22, "gpu": 2**29}
"""Numbers in a copy: more than fit the caches near a core, or a GPU's."""


class Probe(NamedTuple):
    """Something whose cost is one number.

    Attributes:
        run: Do it, and wait for the end.
        amount: How much of `unit` one run is.
        unit: `call`, `iteration`, `FLOP` or `byte`.
    """

    run: Callable[[], Any]
    amount: float
    unit: str


def empty_call() -> Probe:
    """Dispatch a compiled function that does nothing."""
    x = jnp.zeros(())
    return _probe(jax.jit(lambda x: x), x, amount=1, unit="call")


def empty_scan() -> Probe:
    """Go through a compiled loop that does nothing but carry one number."""
    turn = jax.jit(lambda x: jax.lax.scan(lambda c, _: (c + 1, None), x, None, length=ITERATIONS)[0])
    return _probe(turn, jnp.zeros(()), amount=ITERATIONS, unit="iteration")


def matrix_product() -> Probe:
    """Multiply two square matrices: 2 n^3 floating point operations."""
    size = _here(SIZE)
    return _probe(jax.jit(jnp.matmul), *[jnp.ones((size, size))] * 2, amount=2 * size**3, unit="FLOP")


def transposed_product() -> Probe:
    """Multiply A'B, as the gradient of a dense layer's kernel does over a batch, each matrix square, a power of two.

    Not every library is as quick at it as at AB, least of all where rows are a power of two apart.
    """
    size = _here(POWER_OF_TWO)
    a, b = [jnp.ones((size, size))] * 2
    return _probe(jax.jit(lambda a, b: a.T @ b), a, b, amount=2 * size**3, unit="FLOP")


def copy() -> Probe:
    """Add one to an array where it lies: each byte is read once and written once, and no memory is asked for."""
    held = [jnp.ones(_here(COPIED))]
    add = jax.jit(lambda x: x + 1, donate_argnums=0)

    def run() -> Any:
        held.append(runtime.wait(add(held.pop())))
        return held[0]

    return Probe(run, 2 * held[0].nbytes, "byte")


PROBES: dict[str, Callable[[], Probe]] = {
    "empty_call": empty_call,
    "empty_scan": empty_scan,
    "matrix_product": matrix_product,
    "copy": copy,
}
"""What every run's environment has."""


def work(amount: int) -> Callable[[], Any]:
    """Return a kernel that does `amount` small matrix products, one after the other, and waits for the end."""
    x = jnp.eye(64)
    turn = jax.jit(lambda x: jax.lax.fori_loop(0, amount, lambda _, c: x @ c, x))
    return lambda: runtime.wait(turn(x))


def asynchronous(amount: int) -> Callable[[], Any]:
    """Return the same kernel, but for the wait: it hands out its result before it is computed."""
    x = jnp.eye(64)
    return partial(jax.jit(lambda x: jax.lax.fori_loop(0, amount, lambda _, c: x @ c, x)), x)


def recompiling() -> Callable[[], Any]:
    """Return a kernel that is compiled anew at each call: a number that changes is a constant of its code."""
    x, numbers = jnp.ones(8), count()

    def run() -> Any:
        number = next(numbers)
        return runtime.wait(jax.jit(lambda x: x + number)(x))

    return run


def not_returned(amount: int) -> Callable[[], Any]:
    """Return a kernel whose result is not handed out, so that the compiler leaves the work out."""
    x = jnp.eye(64)

    @jax.jit
    def turn(x: jax.Array) -> None:
        jax.lax.fori_loop(0, amount, lambda _, c: x @ c, x)

    return lambda: runtime.wait(turn(x))


def _here(sizes: Mapping[str, int]) -> int:
    """Return the size for the device in use."""
    return sizes[jax.default_backend()]


def _probe(function: Callable[..., Any], *arguments: Any, amount: float, unit: str) -> Probe:
    return Probe(lambda: runtime.wait(function(*arguments)), amount, unit)

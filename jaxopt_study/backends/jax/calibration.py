"""Probes of the machine: kernels of known cost. And traps: kernels that a careless timer measures wrongly."""

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
"""Numbers in a copy: more than fit the caches of a core or of a GPU."""


class Probe(NamedTuple):
    """A kernel whose cost is one number.

    Attributes:
        run: Runs the kernel and waits for the end.
        amount: The work of one run, in `unit`.
        unit: `call`, `iteration`, `FLOP` or `byte`.
    """

    run: Callable[[], Any]
    amount: float
    unit: str


def empty_call() -> Probe:
    """Call a compiled function that does nothing."""
    x = jnp.zeros(())
    return _probe(jax.jit(lambda x: x), x, amount=1, unit="call")


def empty_scan() -> Probe:
    """Run a compiled loop that only counts."""
    loop = jax.jit(lambda x: jax.lax.scan(lambda c, _: (c + 1, None), x, None, length=ITERATIONS)[0])
    return _probe(loop, jnp.zeros(()), amount=ITERATIONS, unit="iteration")


def matrix_product() -> Probe:
    """Multiply two square matrices: 2 n^3 floating point operations."""
    size = _here(SIZE)
    return _probe(jax.jit(jnp.matmul), *[jnp.ones((size, size))] * 2, amount=2 * size**3, unit="FLOP")


def transposed_product() -> Probe:
    """Multiply A'B, as in the gradient of a dense layer's kernel: square matrices whose size is a power of two.

    Some libraries are slower at A'B than at AB, most of all where the row length is a power of two.
    """
    size = _here(POWER_OF_TWO)
    a, b = [jnp.ones((size, size))] * 2
    return _probe(jax.jit(lambda a, b: a.T @ b), a, b, amount=2 * size**3, unit="FLOP")


def copy() -> Probe:
    """Add one to an array in place: each byte is read once and written once, and no memory is allocated."""
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
"""The probes whose results are kept with every run's environment."""


def work(amount: int) -> Callable[[], Any]:
    """Return a kernel that makes `amount` small matrix products, one after the other, and waits for the end."""
    kernel = asynchronous(amount)
    return lambda: runtime.wait(kernel())


def asynchronous(amount: int) -> Callable[[], Any]:
    """Return the kernel of `work` without the wait: it returns before its result is computed."""
    x = jnp.eye(64)
    return partial(jax.jit(lambda x: jax.lax.fori_loop(0, amount, lambda _, c: x @ c, x)), x)


def recompiling() -> Callable[[], Any]:
    """Return a kernel that is compiled again at each call, because a changing number is a constant of its code."""
    x, numbers = jnp.ones(8), count()

    def run() -> Any:
        number = next(numbers)
        return runtime.wait(jax.jit(lambda x: x + number)(x))

    return run


def not_returned(amount: int) -> Callable[[], Any]:
    """Return a kernel that does not return its result, so the compiler removes the work."""
    x = jnp.eye(64)

    @jax.jit
    def kernel(x: jax.Array) -> None:
        jax.lax.fori_loop(0, amount, lambda _, c: x @ c, x)

    return lambda: runtime.wait(kernel(x))


def _here(sizes: Mapping[str, int]) -> int:
    """Return the size for the device in use."""
    return sizes[jax.default_backend()]


def _probe(function: Callable[..., Any], *arguments: Any, amount: float, unit: str) -> Probe:
    return Probe(lambda: runtime.wait(function(*arguments)), amount, unit)

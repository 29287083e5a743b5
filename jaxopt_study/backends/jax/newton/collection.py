"""The unconstrained problems of CUTEst, in JAX by the package sif2jax, each as a function of one vector.

They are in float64, whatever type is set: their minima are asked for to six digits and more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

__all__ = ["Collected", "collected", "in_float64", "operations", "problems"]

Numbers = npt.NDArray[np.float64]


class Collected:
    """A problem, with its derivatives compiled apart from any minimizer, in NumPy.

    Attributes:
        fun: The objective of one vector.
        start: Its start.
        work: What `at`, `second` and `product` cost so far, in gradients: a Hessian-vector product is two, and a
            Hessian two for each variable.
    """

    def __init__(self, fun: Callable[[Array], Array], start: Float[Array, " P"]) -> None:
        self.fun, self.start, self.work = fun, start, 0
        self._at = jax.jit(jax.value_and_grad(fun))
        self._second = jax.jit(lambda x: jax.lax.map(lambda e: self._along(x, e), jnp.eye(len(x)), batch_size=64))
        self._product = jax.jit(self._along)

    def _along(self, x: Array, v: Array) -> Array:
        return jax.jvp(jax.grad(self.fun), (x,), (v,))[1]

    def at(self, x: npt.ArrayLike) -> tuple[float, Numbers]:
        """Return the value and the gradient."""
        self.work += 1
        value, slope = self._at(jnp.asarray(x))
        return float(value), np.asarray(slope)

    def second(self, x: npt.ArrayLike) -> Numbers:
        """Return the Hessian."""
        self.work += 2 * self.start.size
        return np.asarray(self._second(jnp.asarray(x)))

    def product(self, x: npt.ArrayLike, v: npt.ArrayLike) -> Numbers:
        """Return the Hessian times a vector."""
        self.work += 2
        return np.asarray(self._product(jnp.asarray(x), jnp.asarray(v)))


@contextmanager
def in_float64() -> Iterator[None]:
    """Compute in float64, and compile quickly: a program here runs for milliseconds, and is not timed."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        with jax.enable_x64(True):
            yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)
        jax.clear_caches()  # or hundreds of programs, none of which is used again, would fill the memory


def collected(name: str) -> Collected:
    """Return a problem by its name in CUTEst.

    Raises:
        NotImplementedError: The package is not installed, or its version has no problem of that name.
    """
    found = problems().get(name)
    if found is None:
        raise NotImplementedError(f"the installed version of sif2jax has no problem {name}")
    start, unravel = ravel_pytree(found.y0)
    return Collected(lambda x: found.objective(unravel(x), found.args), start)


def problems() -> dict[str, Any]:
    """Return the unconstrained problems as the package has them, by name.

    Raises:
        NotImplementedError: The package is not installed.
    """
    try:
        import sif2jax  # optional
    except ModuleNotFoundError as error:
        raise NotImplementedError(f"{error.name} is not installed") from None
    return {problem.name: problem for problem in sif2jax.unconstrained_minimisation_problems}


def operations(problem: Collected) -> float:
    """Return the floating point operations of a gradient, before XLA optimizes them."""
    return float(problem._at.lower(problem.start).cost_analysis().get("flops", 0))

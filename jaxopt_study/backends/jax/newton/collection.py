"""The unconstrained problems of CUTEst, in JAX by the package sif2jax, each as a function of one vector.

They are in float64, whatever type is set: their minima are asked for to six digits and more.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

__all__ = ["Collected", "collected", "in_float64", "operations", "problems"]

Numbers = npt.NDArray[np.float64]
FOLDER = "sif2jax.cutest._unconstrained_minimisation"


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
    """Return a problem by its name in CUTEst; `ARWHEAD-120` is ARWHEAD with 120 variables.

    Raises:
        NotImplementedError: The package is not installed, or its version has no problem of that name.
    """
    name, _, size = name.partition("-")
    if name not in problems():
        raise NotImplementedError(f"the installed version of sif2jax has no problem {name}")
    make = getattr(importlib.import_module(f"{FOLDER}.{problems()[name]}"), name)
    found = make(n=int(size)) if size else make()
    start, unravel = ravel_pytree(found.y0)
    return Collected(lambda x: found.objective(unravel(x), found.args), start)


@cache
def problems() -> dict[str, str]:
    """Return the names of the unconstrained problems, and the module of each.

    Importing the package makes all of its thousand problems, which takes more than a minute. So its list is read as
    text, and each problem's own module is imported alone, in milliseconds.

    Raises:
        NotImplementedError: The package is not installed.
    """
    found = find_spec("sif2jax")
    if found is None or found.origin is None:
        raise NotImplementedError("the package sif2jax is not installed")
    parts = [FOLDER.rsplit(".", level)[0] for level in range(FOLDER.count(".") + 1)]
    for package in reversed(parts):
        path = Path(found.origin).parents[1].joinpath(*package.split("."))
        if package not in sys.modules:
            sys.modules[package] = ModuleType(package)
            sys.modules[package].__path__ = [str(path)]
    tree = ast.parse((path / "__init__.py").read_text(encoding="utf-8"))
    modules = {alias.name: node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)
               for alias in node.names}  # fmt: skip
    listed = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    return {name: module for name, module in sorted(modules.items()) if name in listed}


def operations(problem: Collected) -> float:
    """Return the floating point operations of a gradient, before XLA optimizes them."""
    return float(problem._at.lower(problem.start).cost_analysis().get("flops", 0))

"""The parts of a run as compiled functions: quickly where the run takes milliseconds, else for speed."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial, wraps
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_study.backends.jax.compiling import quick_options
from jaxopt_study.backends.jax.newton.options import Composite, Options, System

__all__ = ["compiled"]

FEW = 1e6
"""Operations of a Hessian below which the quick settings are used."""


def compiled(part: Callable[..., Any]) -> Callable[..., Any]:
    """Compile part(program, options, limits, x0, data, ...) by `jax.jit`, quickly where the work is small."""
    jitted = partial(jax.jit, part, static_argnums=(0, 1))
    for_speed, quickly = jitted(), cache(lambda: jitted(compiler_options=quick_options()))

    @wraps(part)
    def call(program: Any, options: Options, limits: Any, x0: Any, *more: Any) -> Any:
        size = sum(jnp.size(leaf) for leaf in jax.tree.leaves(x0))
        run = quickly() if size * _operations(program, options) <= FEW else for_speed
        return run(program, options, limits, x0, *more)

    return call


def _operations(program: Any, options: Options) -> float:
    hessian: Any = options.hessian
    if isinstance(hessian, System):  # it is made for large problems
        return math.inf
    parts = [program.inner, program.outer] if isinstance(program, Composite) else [program]
    return sum(part.operations for part in [*parts, *([hessian] if hessian else [])])

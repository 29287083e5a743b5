"""Many trainings in one compiled program; only JAX has this module."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from jaxopt_study.backends.jax import runtime
from jaxopt_study.backends.jax.compiling import wide_options
from jaxopt_study.backends.jax.training import Loop

__all__ = ["sequential", "vmapped"]


def vmapped(loop: Loop) -> Loop:
    """Return the loop that trains many networks at once, by `jax.vmap` over a leading axis of the parameters.

    All networks share data and order. The losses get the same leading axis.
    """
    return _compiled(loop, jax.vmap(_within(loop), in_axes=(0, None, None)))


def sequential(loop: Loop) -> Loop:
    """Return the loop that trains the same networks one after the other, by `jax.lax.map`.

    With `loops.native_scan` on a CPU core it is faster than `vmapped`, because one network fits the nearest cache.
    """
    run = _within(loop)
    return _compiled(loop, lambda states, data, order: jax.lax.map(lambda state: run(state, data, order), states))


def _within(loop: Loop) -> Callable[..., Any]:
    """Return the function that a loop compiles: inside another `jax.jit`, JAX takes no compiler options."""
    run: Callable[..., Any] = loop.run.__wrapped__  # type: ignore[attr-defined] # of jax.jit
    return run


def _compiled(loop: Loop, run: Callable[..., Any]) -> Loop:
    jitted = jax.jit(run, compiler_options=wide_options())
    return Loop(loop.load, jax.jit(jax.vmap(loop.init)), jitted, partial(runtime.compilation, jitted))

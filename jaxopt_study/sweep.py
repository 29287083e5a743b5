"""Many runs at once, in JAX alone."""

from __future__ import annotations

import jax

from jaxopt_study.training import Loop

__all__ = ["many"]


def many(loop: Loop) -> Loop:
    """Return the loop that trains many networks at once, by `vmap` over a leading axis of the parameters.

    Data and order are shared; the losses get the same leading axis.
    """
    return Loop(loop.load, jax.jit(jax.vmap(loop.init)), jax.jit(jax.vmap(loop.run, in_axes=(0, None, None))))

"""Schedules, clipping and initializers, from code such as `optax.linear_schedule(0.01, 0.1, 10)`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax

from jaxopt_study.backends.jax import runtime

__all__ = ["clipped", "drawn", "schedule"]

Array = npt.NDArray[Any]
KNOWN = {"jax": jax, "jnp": jnp, "nn": nn, "optax": optax}


def schedule(code: str, steps: int) -> Array:
    """Return the learning rate of each of the first `steps` steps."""
    rate = eval(code, KNOWN)
    # int32, as optax counts: under x64 a quotient of int32 numbers is still float32.
    counts = jnp.arange(steps, dtype=jnp.int32)
    rates = jax.jit(jax.vmap(lambda count: jnp.asarray(rate(count))))(counts)
    return runtime.to_numpy(rates)


def clipped(code: str, gradients: Mapping[str, Array]) -> dict[str, Array]:
    """Return the gradients, by name, after clipping."""
    rule = eval(code, KNOWN)
    tree = {name: runtime.from_numpy(leaf) for name, leaf in gradients.items()}
    updates, _ = rule.update(tree, rule.init(tree))
    return {name: runtime.to_numpy(leaf) for name, leaf in updates.items()}


def drawn(code: str, shape: tuple[int, int], seed: int) -> Array:
    """Return what an initializer draws for a weight of (inputs, outputs), as one vector."""
    rule = eval(code, KNOWN)
    return np.ravel(runtime.to_numpy(rule(jax.random.key(seed), shape, jnp.float32)))

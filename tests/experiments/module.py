"""A module that is a pytree with its activation function as a leaf, as in equinox; JAX alone."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

rng = np.random.default_rng(0)
BATCHES = [{"x": rng.normal(size=(16, 4)), "y": rng.normal(size=(16, 1))} for _ in range(8)]


@jax.tree_util.register_dataclass
@dataclass
class MLP:
    first: Any
    second: Any
    activation: Any

    def __call__(self, x):
        return self.activation(x @ self.first) @ self.second


def jax_step():
    def loss(weights, activation, batch):
        return jnp.mean((MLP(*weights, activation)(batch["x"]) - batch["y"]) ** 2)

    def step(model, batch):
        weights = model.first, model.second
        value, gradient = jax.value_and_grad(loss)(weights, model.activation, batch)
        first, second = jax.tree.map(lambda w, g: w - 0.05 * g, weights, gradient)
        return MLP(first, second, model.activation), value

    model = MLP(jnp.asarray(rng.normal(size=(4, 8))), jnp.asarray(rng.normal(size=(8, 1))), jnp.tanh)
    return {"state": model, "step": step, "batches": BATCHES}

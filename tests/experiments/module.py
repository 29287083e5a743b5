"""An equinox module and its usual step; JAX alone."""

import equinox as eqx
import jax
import numpy as np
import optax

rng = np.random.default_rng(0)
BATCHES = [{"x": rng.normal(size=(16, 4)), "y": rng.normal(size=(16, 1))} for _ in range(8)]


def jax_step():
    @eqx.filter_value_and_grad
    def loss(model, batch):
        return ((jax.vmap(model)(batch["x"]) - batch["y"]) ** 2).mean()

    @eqx.filter_jit
    def step(state, batch):
        model, memory = state
        value, gradient = loss(model, batch)
        updates, memory = rule.update(gradient, memory, eqx.filter(model, eqx.is_array))
        return (eqx.apply_updates(model, updates), memory), value

    model, rule = eqx.nn.MLP(4, 1, 8, 1, key=jax.random.key(0)), optax.adam(1e-2)
    return {"state": (model, rule.init(eqx.filter(model, eqx.is_array))), "step": step, "batches": BATCHES}

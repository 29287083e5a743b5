"""An MLP on images of MNIST's size, in flax and in PyTorch."""

import flax.linen as fnn
import jax
import numpy as np
import optax
import torch
from torch import nn

rng = np.random.default_rng(0)
BATCHES = [(rng.normal(size=(32, 784)), rng.integers(10, size=32)) for _ in range(16)]


def jax_step(params):
    model, rule = fnn.Sequential([fnn.Dense(32), fnn.relu, fnn.Dense(10)]), optax.adam(1e-3)

    @jax.jit
    def step(state, batch):
        def loss(params):
            logits = model.apply({"params": params}, batch[0])
            return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean()

        value, gradient = jax.value_and_grad(loss)(state[0])
        updates, memory = rule.update(gradient, state[1], state[0])
        return (optax.apply_updates(state[0], updates), memory), value

    return {"state": (params, rule.init(params)), "step": step, "batches": BATCHES}


def torch_step():
    model = nn.Sequential(nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10))

    def step(state, batch):
        model, optimizer = state
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        return state, loss

    return {"state": (model, torch.optim.Adam(model.parameters())), "step": step, "batches": BATCHES}

"""A convolutional network with dropout off, in flax and in PyTorch."""

import flax.linen as fnn
import jax
import numpy as np
import optax
import torch
from torch import nn

rng = np.random.default_rng(0)
BATCHES = [(rng.normal(size=(8, 12, 12, 1)), rng.integers(10, size=8)) for _ in range(8)]


class Network(fnn.Module):
    @fnn.compact
    def __call__(self, x):
        x = fnn.max_pool(fnn.relu(fnn.Conv(4, (3, 3), padding="VALID", use_bias=False, name="conv")(x)), (2, 2), (2, 2))
        x = fnn.Dropout(0.5, deterministic=True)(x.reshape(len(x), -1))
        return fnn.Dense(10, use_bias=False, name="dense")(x)


def jax_step(params):
    rule = optax.sgd(0.1, momentum=0.9)

    def loss(params, images, targets):
        logits = Network().apply({"params": params}, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

    def step(state, batch):
        value, gradient = jax.value_and_grad(loss)(state[0], *batch)
        updates, memory = rule.update(gradient, state[1])
        return (optax.apply_updates(state[0], updates), memory), value

    return {"state": (params, rule.init(params)), "step": step, "batches": BATCHES}


def torch_step():
    def step(state, batch):
        (model, optimizer), (images, targets) = state, batch
        x = nn.functional.max_pool2d(torch.relu(model["conv"](images.permute(0, 3, 1, 2))), 2)
        x = nn.functional.dropout(x.permute(0, 2, 3, 1).flatten(1), 0.5, training=False)
        loss = nn.functional.cross_entropy(model["dense"](x), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return state, loss

    model = nn.ModuleDict({"conv": nn.Conv2d(1, 4, 3, bias=False), "dense": nn.Linear(100, 10, bias=False)})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return {"state": (model, optimizer), "step": step, "batches": BATCHES}

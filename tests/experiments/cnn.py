"""A convolutional network with dropout off, in flax and in PyTorch."""

import flax.linen as fnn
import jax
import numpy as np
import optax
import torch
from torch import nn

rng = np.random.default_rng(0)
BATCHES = [
    (rng.normal(size=(8, 12, 12, 1)), rng.integers(10, size=8)) for _ in range(8)
]  # rows, height, width, channel
KERNEL, DENSE = rng.normal(size=(3, 3, 1, 4)) / 3, rng.normal(size=(100, 10)) / 10


class Network(fnn.Module):
    @fnn.compact
    def __call__(self, x):
        x = fnn.max_pool(fnn.relu(fnn.Conv(4, (3, 3), padding="VALID", use_bias=False, name="conv")(x)), (2, 2), (2, 2))
        x = fnn.Dropout(0.5, deterministic=True)(x.reshape(len(x), -1))
        return fnn.Dense(10, use_bias=False, name="dense")(x)


def jax_step():
    rule = optax.sgd(0.1, momentum=0.9)
    params = jax.tree.map(jax.numpy.asarray, {"conv": {"kernel": KERNEL}, "dense": {"kernel": DENSE}})

    def loss(params, images, targets):
        logits = Network().apply({"params": params}, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

    def step(state, batch):
        value, gradient = jax.value_and_grad(loss)(state[0], *batch)
        updates, memory = rule.update(gradient, state[1])
        return (optax.apply_updates(state[0], updates), memory), value

    return {"state": (params, rule.init(params)), "step": step, "batches": BATCHES, "params": lambda state: state[0]}


def torch_step():
    def step(state, batch):
        (conv, dense, optimizer), (images, targets) = state, batch
        x = nn.functional.max_pool2d(torch.relu(conv(images.permute(0, 3, 1, 2))), 2)
        x = nn.functional.dropout(x.permute(0, 2, 3, 1).flatten(1), 0.5, training=False)
        loss = nn.functional.cross_entropy(dense(x), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return state, loss

    conv, dense = nn.Conv2d(1, 4, 3, bias=False), nn.Linear(100, 10, bias=False)
    conv.load_state_dict({"weight": torch.tensor(KERNEL.transpose(3, 2, 0, 1))})
    dense.load_state_dict({"weight": torch.tensor(DENSE.T)})
    optimizer = torch.optim.SGD([*conv.parameters(), *dense.parameters()], lr=0.1, momentum=0.9)
    return {"state": (conv, dense, optimizer), "step": step, "batches": BATCHES,
            "params": lambda state: {"conv": {"kernel": state[0].weight.permute(2, 3, 1, 0)},
                                     "dense": {"kernel": state[1].weight.T}}}  # fmt: skip

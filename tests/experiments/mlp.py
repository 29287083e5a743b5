"""An MLP on images of MNIST's size, in flax and in PyTorch."""

from itertools import pairwise

import flax.linen as fnn
import jax
import numpy as np
import optax
import torch
from torch import nn

rng = np.random.default_rng(0)
BATCHES = [(rng.normal(size=(32, 784)), rng.integers(10, size=32)) for _ in range(16)]
WIDTHS = (784, 32, 10)
LAYERS = [(rng.normal(size=(a, b)) / a**0.5, np.zeros(b)) for a, b in pairwise(WIDTHS)]


def jax_step():
    model, rule = fnn.Sequential([fnn.Dense(32), fnn.relu, fnn.Dense(10)]), optax.adam(1e-3)
    params = {f"layers_{2 * n}": {"kernel": kernel, "bias": bias} for n, (kernel, bias) in enumerate(LAYERS)}
    params = jax.tree.map(jax.numpy.asarray, {"params": params})

    @jax.jit
    def step(state, batch):
        def loss(params):
            return optax.softmax_cross_entropy_with_integer_labels(model.apply(params, batch[0]), batch[1]).mean()

        value, gradient = jax.value_and_grad(loss)(state[0])
        updates, memory = rule.update(gradient, state[1], state[0])
        return (optax.apply_updates(state[0], updates), memory), value

    def named(state):
        layers = state[0]["params"]
        return {f"{2 * n}": {"weight": layers[f"layers_{2 * n}"]["kernel"].T, "bias": layers[f"layers_{2 * n}"]["bias"]}
                for n in range(2)}  # fmt: skip

    return {"state": (params, rule.init(params)), "step": step, "batches": BATCHES, "params": named}


def torch_step():
    model = nn.Sequential(nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10))
    with torch.no_grad():
        for layer, (kernel, bias) in zip((model[0], model[2]), LAYERS, strict=True):
            layer.weight.copy_(torch.tensor(kernel.T))
            layer.bias.copy_(torch.tensor(bias))

    def step(state, batch):
        model, optimizer = state
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        return state, loss

    def named(state):
        return {name.replace(".", "/"): leaf for name, leaf in state[0].named_parameters()}

    return {"state": (model, torch.optim.Adam(model.parameters())), "step": step, "batches": BATCHES, "params": named}

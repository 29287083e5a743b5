"""A transformer block (attention, LayerNorm, GELU) in PyTorch, and its twin in flax."""

import flax.linen as fnn
import jax
import numpy as np
import optax
from torch import nn, optim

rng = np.random.default_rng(0)
BATCHES = [(rng.normal(size=(4, 6, 8)), rng.normal(size=(4, 6, 8))) for _ in range(8)]  # rows, positions, features


class Twin(fnn.Module):
    @fnn.compact
    def __call__(self, x):
        qkv = fnn.Dense(24, name="qkv")(fnn.LayerNorm(epsilon=1e-5, name="norm1")(x)).reshape(*x.shape[:2], 3, 2, 4)
        attended = fnn.dot_product_attention(*(qkv[:, :, n] for n in range(3))).reshape(x.shape)
        x = x + fnn.Dense(8, name="out")(attended)
        h = fnn.Dense(16, name="up")(fnn.LayerNorm(epsilon=1e-5, name="norm2")(x))
        return x + fnn.Dense(8, name="down")(fnn.gelu(h, approximate=False))


class Block(nn.ModuleDict):
    def forward(self, x):
        q, k, v = self["qkv"](self["norm1"](x)).reshape(*x.shape[:2], 3, 2, 4).permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        x = x + self["out"](attended)
        return x + self["down"](nn.functional.gelu(self["up"](self["norm2"](x))))


def jax_step(params):
    rule = optax.adamw(1e-3, weight_decay=1e-2)

    def loss(params, inputs, targets):
        return ((Twin().apply({"params": params}, inputs) - targets) ** 2).mean()

    def step(state, batch):
        value, gradient = jax.value_and_grad(loss)(state[0], *batch)
        updates, memory = rule.update(gradient, state[1], state[0])
        return (optax.apply_updates(state[0], updates), memory), value

    return {"state": (params, rule.init(params)), "step": jax.jit(step), "batches": BATCHES}


def torch_step():
    sizes = {"qkv": (8, 24), "out": (8, 8), "up": (8, 16), "down": (16, 8)}
    norms = {"norm1": nn.LayerNorm(8), "norm2": nn.LayerNorm(8)}
    model = Block({name: nn.Linear(*size) for name, size in sizes.items()} | norms)

    def step(state, batch):
        model, optimizer = state
        loss = ((model(batch[0]) - batch[1]) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return state, loss

    return {"state": (model, optim.AdamW(model.parameters(), lr=1e-3)), "step": step, "batches": BATCHES}

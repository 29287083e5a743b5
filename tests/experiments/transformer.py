"""A transformer block (attention, LayerNorm, GELU) in PyTorch, and its twin in flax."""

import flax.linen as fnn
import jax
import numpy as np
import optax
import torch
from torch import nn

rng = np.random.default_rng(0)
BATCHES = [(rng.normal(size=(4, 6, 8)), rng.normal(size=(4, 6, 8))) for _ in range(8)]  # rows, positions, features
SIZES = {"qkv": (8, 24), "out": (8, 8), "up": (8, 16), "down": (16, 8)}
DENSE = {name: {"kernel": rng.normal(size=s) / s[0] ** 0.5, "bias": np.zeros(s[1])} for name, s in SIZES.items()}
NORMS = {name: {"scale": np.ones(8), "bias": np.zeros(8)} for name in ("norm1", "norm2")}


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


def jax_step():
    rule = optax.adamw(1e-3, weight_decay=0.01)
    params = jax.tree.map(jax.numpy.asarray, {"params": DENSE | NORMS})

    def step(state, batch):
        value, gradient = jax.value_and_grad(lambda p: ((Twin().apply(p, batch[0]) - batch[1]) ** 2).mean())(state[0])
        updates, memory = rule.update(gradient, state[1], state[0])
        return (optax.apply_updates(state[0], updates), memory), value

    return {"state": (params, rule.init(params)), "step": jax.jit(step), "batches": BATCHES,
            "params": lambda state: state[0]["params"]}  # fmt: skip


def torch_step():
    model = Block({n: nn.Linear(*s) for n, s in SIZES.items()} | {n: nn.LayerNorm(8) for n in NORMS})
    kernels = {f"{n}.weight": torch.tensor(x["kernel"].T) for n, x in DENSE.items()}
    model.load_state_dict(
        model.state_dict() | kernels | {f"{n}.bias": torch.tensor(x["bias"]) for n, x in DENSE.items()}
    )

    def step(state, batch):
        model, optimizer = state
        loss = ((model(batch[0]) - batch[1]) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return state, loss

    def named(state):
        return {n: {"kernel": m.weight.T, "bias": m.bias} if n in SIZES else {"scale": m.weight, "bias": m.bias}
                for n, m in state[0].items()}  # fmt: skip

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    return {"state": (model, optimizer), "step": step, "batches": BATCHES, "params": named}

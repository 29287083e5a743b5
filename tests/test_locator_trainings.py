"""Small real trainings, in PyTorch by autograd and in JAX with optax, for the locator to compare.

A `Training` is a model, an optimizer and what surrounds them. `jax_run` is always the right port; a fault is a change
of the `Training` that `torch_run` is given.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

STEPS = 30


@dataclass(frozen=True)
class Training:
    """One training; the fields after `ema` are what only a fault changes."""

    model: str
    optimizer: str
    lr: float
    momentum: float = 0.0
    nesterov: bool = False
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    decay: float = 0.0
    groups: bool = False  # no decay of biases and scales
    warm: int = 0  # steps of linear warm-up, then a cosine down to 0 at step `total`
    total: int = 0
    drop: int = 0  # the learning rate is a fifth from this step on
    clip: float = 0.0
    ema: float = 0.0
    # Faults.
    shift: int = 0
    amsgrad: bool = False
    ascend: bool = False
    uncorrected: bool = False
    coupled: bool = False
    clip_value: float = 0.0
    clip_late: bool = False
    ema_early: bool = False
    gelu: str = "none"
    reduction: str = "mean"
    smoothing: float = 0.0
    bn_eps: float = 1e-5
    ln_eps: float = 1e-5
    scale: float = 1.0
    causal: int = 0
    permuted: bool = False
    frozen: str = ""
    swapped: tuple[int, int] | None = None
    transposed: str = ""
    stale: bool = False
    accumulate: int = 1
    dropout: float = 0.0
    evaluated: bool = False
    half: bool = False
    reset: str = ""
    tied: bool = False
    shuffled: bool = False
    short: bool = False
    aliased: bool = False
    slow: str = ""
    frozen_after: int = 0


def initial(model, dtype, seed=0):
    """Return the parameters of a model: standard layers' names, weights of the usual size, biases of 0."""
    draw = np.random.default_rng(seed).standard_normal
    shapes = {
        "mlp": {"in/w": (6, 8), "in/b": (8,), "mid/w": (8, 8), "mid/b": (8,), "out/w": (8, 3), "out/b": (3,)},
        "cnn": {
            "conv/w": (4, 1, 3, 3),
            "conv/b": (4,),
            "bn/scale": (4,),
            "bn/bias": (4,),
            "out/w": (16, 3),
            "out/b": (3,),
        },
        "attention": {
            "ln/scale": (8,),
            "ln/bias": (8,),
            "q/w": (8, 8),
            "q/b": (8,),
            "k/w": (8, 8),
            "k/b": (8,),
            "v/w": (8, 8),
        }
        | {"o/w": (8, 8), "o/b": (8,), "out/w": (8, 3), "out/b": (3,)},
    }[model]
    fan = {"conv/w": 9}
    values = {
        name: np.ones(shape)
        if name.endswith("scale")
        else draw(shape) / math.sqrt(fan.get(name, shape[0]))
        if len(shape) > 1
        else np.zeros(shape)
        for name, shape in shapes.items()
    }
    return {name: value.astype(dtype) for name, value in values.items()}


def batches(model, dtype, seed=1, steps=STEPS):
    """Return the inputs and the classes of each step."""
    generator = np.random.default_rng(seed + 100)
    shape = {"mlp": (8, 6), "cnn": (8, 1, 6, 6), "attention": (4, 5, 8)}[model]
    x = generator.standard_normal((steps, *shape)).astype(dtype)
    return list(zip(x, generator.integers(0, 3, (steps, shape[0])), strict=True))


def learning_rate(t: Training, step, cos=math.cos):
    """Return the learning rate of a step, counted from 0; `step` may be JAX's."""
    if t.drop:
        return jnp.where(step < t.drop, t.lr, t.lr / 5) if cos is jnp.cos else t.lr * (1 if step < t.drop else 0.2)
    if not t.total:
        return t.lr
    up = (step + 1) / max(t.warm, 1)
    down = 0.5 * (1 + cos(math.pi * (step - t.warm) / (t.total - t.warm)))
    if cos is jnp.cos:
        return t.lr * jnp.where(step < t.warm, up, down)
    return t.lr * (up if step < t.warm else down)


# JAX: the right port.


def _jax_logits(model, p, x):
    if model == "mlp":
        h = jax.nn.gelu(x @ p["in/w"] + p["in/b"], approximate=False)
        h = jax.nn.gelu(h @ p["mid/w"] + p["mid/b"], approximate=False)
    elif model == "cnn":
        h = jax.lax.conv(x, p["conv/w"], (1, 1), "VALID") + p["conv/b"][:, None, None]
        mean, var = h.mean((0, 2, 3), keepdims=True), h.var((0, 2, 3), keepdims=True)
        h = (h - mean) * jax.lax.rsqrt(var + 1e-5) * p["bn/scale"][:, None, None] + p["bn/bias"][:, None, None]
        h = jax.nn.relu(h).reshape(len(x), 4, 2, 2, 2, 2).mean((3, 5)).reshape(len(x), 16)
    else:
        mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        h = (x - mean) * jax.lax.rsqrt(var + 1e-5) * p["ln/scale"] + p["ln/bias"]
        q, k, v = h @ p["q/w"] + p["q/b"], h @ p["k/w"] + p["k/b"], h @ p["v/w"]
        weights = jax.nn.softmax(jnp.where(np.tri(5, dtype=bool), q @ k.mT / math.sqrt(8), -jnp.inf))
        h = (x + weights @ v @ p["o/w"] + p["o/b"]).mean(1)
    return h @ p["out/w"] + p["out/b"]


def decayed(name):
    return name.endswith("/w")


def _optax(t: Training):
    rate = (lambda step: learning_rate(t, step, jnp.cos)) if t.total or t.drop else t.lr
    mask = (lambda params: {name: decayed(name) for name in params}) if t.groups else None
    if t.optimizer == "adamw":
        rule = optax.adamw(rate, t.b1, t.b2, t.eps, weight_decay=t.decay, mask=mask)
    else:
        inner = (
            optax.adam(rate, t.b1, t.b2, t.eps)
            if t.optimizer == "adam"
            else optax.sgd(rate, t.momentum or None, nesterov=t.nesterov)
        )
        rule = optax.chain(optax.add_decayed_weights(t.decay, mask), inner) if t.decay else inner
    return optax.chain(optax.clip_by_global_norm(t.clip), rule) if t.clip else rule


@functools.cache
def _jax_step(t: Training, _dtype):
    rule = _optax(t)

    def loss(p, x, y):
        return optax.softmax_cross_entropy_with_integer_labels(_jax_logits(t.model, p, x), y).mean()

    def step(state, x, y):
        params, memory, ema = state
        updates, memory = rule.update(jax.grad(loss)(params, x, y), memory, params)
        params = optax.apply_updates(params, updates)
        ema = jax.tree.map(lambda e, p: t.ema * e + (1 - t.ema) * p, ema, params)
        return params, memory, ema

    return rule, jax.jit(step)


def shown(t, params, ema):
    """Return the tree that is recorded: the parameters, and their running mean where there is one."""
    return params | {f"ema/{name}": leaf for name, leaf in ema.items()} if t.ema else params


@functools.cache
def jax_run(t: Training, dtype, seed=0, steps=STEPS):
    """Return the trajectory of the right port in JAX."""
    with jax.enable_x64(dtype == "float64"):
        rule, step = _jax_step(t, dtype)
        params = {name: jnp.asarray(leaf) for name, leaf in initial(t.model, dtype, seed).items()}
        state = (params, rule.init(params), dict(params))
        path = [shown(t, state[0], state[2])]
        for x, y in batches(t.model, dtype, seed, steps):
            state = step(state, x, y)
            path.append(shown(t, state[0], state[2]))
        return [{name: np.asarray(leaf) for name, leaf in tree.items()} for tree in path]


# PyTorch: the port under test.


def _torch_logits(t, p, x):
    if t.dropout:
        x = torch.nn.functional.dropout(x, t.dropout)
    if t.half:
        x, p = x.bfloat16(), {name: leaf.bfloat16() for name, leaf in p.items()}
    if t.model == "mlp":
        h = torch.nn.functional.gelu(x @ p["in/w"] + p["in/b"], approximate=t.gelu)
        h = torch.nn.functional.gelu(h @ p["mid/w"] + p["mid/b"], approximate=t.gelu)
    elif t.model == "cnn":
        h = torch.nn.functional.conv2d(x, p["conv/w"], p["conv/b"])
        one = torch.ones(4, dtype=h.dtype)
        running = (0 * one, one) if t.evaluated else (None, None)
        h = torch.nn.functional.batch_norm(h, *running, p["bn/scale"], p["bn/bias"], not t.evaluated, eps=t.bn_eps)
        h = torch.nn.functional.avg_pool2d(torch.relu(h), 2).flatten(1)
    else:
        h = torch.nn.functional.layer_norm(x, (8,), p["ln/scale"], p["ln/bias"], eps=t.ln_eps)
        q, k, v = h @ p["q/w"] + p["q/b"], h @ p["k/w"] + p["k/b"], h @ p["v/w"]
        score = t.scale * q @ k.mT / math.sqrt(8)
        keep = torch.ones(5, 5).tril(t.causal).bool()
        h = (x + torch.softmax(score.masked_fill(~keep, -1e30), -1) @ v @ p["o/w"] + p["o/b"]).mean(1)
    out = p["mid/w"][:, :3] if t.tied else p["out/w"]
    return (h @ out + p["out/b"]).to(p["out/b"].dtype).float() if t.half else h @ out + p["out/b"]


def _torch_optimizer(t, params):
    named = [(name, leaf) for name, leaf in params.items() if name != t.frozen]
    groups = [
        {"params": [leaf for name, leaf in named if decayed(name) or not t.groups], "weight_decay": t.decay},
        {"params": [leaf for name, leaf in named if not decayed(name) and t.groups], "weight_decay": 0.0},
    ]
    if t.slow:
        groups[0]["params"] = [leaf for name, leaf in named if name != t.slow]
        groups[1] = {"params": [params[t.slow]], "weight_decay": t.decay, "lr": t.lr / 10}
    groups = [group for group in groups if group["params"]]
    if t.optimizer == "sgd":
        return torch.optim.SGD(groups, t.lr, t.momentum, nesterov=t.nesterov, maximize=t.ascend)
    kind = torch.optim.Adam if t.optimizer == "adam" or t.coupled else torch.optim.AdamW
    rule = kind(groups, t.lr, (t.b1, t.b2), t.eps, amsgrad=t.amsgrad, maximize=t.ascend)
    if t.uncorrected:
        for _, leaf in named:
            moments = {name: torch.zeros_like(leaf) for name in ("exp_avg", "exp_avg_sq")}
            rule.state[leaf] = {"step": torch.tensor(1e6)} | moments
    return rule


def _torch_loss(t, p, x, y):
    if t.permuted:
        y = (y + 1) % 3
    if t.short:
        x, y = x[:-1], y[:-1]
    return torch.nn.functional.cross_entropy(
        _torch_logits(t, p, x), y, reduction=t.reduction, label_smoothing=t.smoothing
    )


@functools.cache
def torch_run(t: Training, dtype, seed=0, steps=STEPS):
    """Return the trajectory of a training in PyTorch."""
    torch.manual_seed(seed)
    start = initial(t.model, dtype, seed)
    if t.transposed:
        start[t.transposed] = start[t.transposed].T.copy()
    if t.reset:
        start[t.reset] = initial(t.model, dtype, seed + 1)[t.reset] + np.asarray(0.01, dtype)
    params = {name: torch.tensor(leaf, requires_grad=True) for name, leaf in start.items()}
    rule, data = _torch_optimizer(t, params), batches(t.model, dtype, seed, steps)
    if t.swapped:
        i, j = t.swapped
        data[i], data[j] = data[j], data[i]
    if t.shuffled:
        data = data[1:] + data[:1]
    ema = {name: leaf.detach().clone() for name, leaf in params.items()}
    kept = {name: torch.zeros_like(leaf) for name, leaf in params.items()}

    def record():
        tree = shown(t, params, ema)
        return {
            name: leaf.detach().numpy() if t.aliased else leaf.detach().numpy().copy() for name, leaf in tree.items()
        }

    path = [record()]
    for n, (x, y) in enumerate(data):
        rate = learning_rate(t, n + t.shift)
        for group in rule.param_groups:
            group["lr"] = rate / 10 if t.slow and group["params"][0] is params[t.slow] else rate
        if n % t.accumulate == 0:
            rule.zero_grad()
        (_torch_loss(t, params, torch.tensor(x), torch.tensor(y)) / t.accumulate).backward()
        if (n + 1) % t.accumulate == 0:
            _torch_update(t, params, rule, kept, n)
        with torch.no_grad():
            for name, leaf in params.items():
                if not t.ema_early:
                    ema[name].mul_(t.ema).add_(leaf, alpha=1 - t.ema)
        path.append(record())
        with torch.no_grad():
            for name, leaf in params.items():
                if t.ema_early:  # one step late: the mean is taken before the step's parameters are known
                    ema[name].mul_(t.ema).add_(leaf, alpha=1 - t.ema)
    return path


def _torch_update(t, params, rule, kept, n):
    leaves = [leaf for leaf in params.values() if leaf.grad is not None]
    if t.clip:
        torch.nn.utils.clip_grad_norm_(leaves, t.clip)
    if t.clip_value:
        torch.nn.utils.clip_grad_value_(leaves, t.clip_value)
    if t.frozen_after and n >= t.frozen_after:
        next(iter(params.values())).grad = None
    if t.stale:
        for name, leaf in params.items():
            kept[name], leaf.grad = leaf.grad.clone(), kept[name]
    rule.step()

"""Known defects of optax, each with a probe that says whether it is there; and the optimizers installed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
import optax

__all__ = ["DEFECTS", "optimizers"]


def optimizers() -> list[str]:
    """Return the optimizers of the installed optax by name, contrib's too.

    An optimizer is a public function that is first given a learning rate, or another optimizer.
    """
    return sorted(
        f"{module.__name__}.{name}"
        for module in (optax, optax.contrib)
        for name, value in vars(module).items()
        if not name.startswith(("_", "scale_by_")) and _is_optimizer(value)
    )


def _is_optimizer(value: object) -> bool:
    if not (inspect.isfunction(value) or isinstance(value, partial)):  # optax.nadam is a partial of optax.adam
        return False
    first = next(iter(inspect.signature(value).parameters), "")
    return first.endswith(("learning_rate", "optimizer"))


def rprop_lags() -> float:
    """`optax.rprop` applies the update of the step before: the first is zero (optax pull request 1725)."""
    return float(_first_update(optax.rprop(0.1)) == 0)


def adadelta_climbs() -> float:
    """`optax.adadelta()` without a learning rate does not turn the sign: its update has the gradient's."""
    return float(_first_update(optax.adadelta()) > 0)


def muon_gives_vectors_nesterov() -> float:
    """`optax.contrib.muon` trains vectors by NAdamW, not AdamW: it hands its nesterov on."""
    params, gradient = {"bias": jnp.ones(3)}, {"bias": jnp.full(3, 0.5)}
    updates = []
    for rule in (optax.contrib.muon(0.1), optax.adamw(0.1, weight_decay=0.0)):
        state = rule.init(params)
        for _ in range(2):
            change, state = rule.update(gradient, state, params)
        updates.append(change["bias"])
    return float(jnp.abs(updates[0] - updates[1]).max() > 1e-4)


def rmsprop_keeps_the_learning_rate() -> float:
    """`optax.rmsprop` with momentum multiplies by the learning rate before the buffer: an old rate lives on."""
    rule = optax.rmsprop(lambda count: jnp.where(count == 0, 0.1, 0.0), momentum=0.9)
    params = jnp.ones(())
    state = rule.init(params)
    for _ in range(2):
        change, state = rule.update(params, state, params)
    return float(jnp.abs(change) > 0)


def schedules_in_float32() -> float:
    """Under x64, optax's schedules divide an int32 count, which JAX does in float32: 1e-8 of the learning rate."""
    rates = [optax.linear_schedule(0.01, 0.1, 10)(jnp.asarray(3, kind)) for kind in (jnp.int32, float)]
    return float(jnp.asarray(0.0).dtype == jnp.float64 and abs(float(rates[0]) - float(rates[1])) > 1e-12)


DEFECTS: dict[str, Callable[[], float]] = {
    "rprop_lags": rprop_lags,
    "adadelta_climbs": adadelta_climbs,
    "muon_gives_vectors_nesterov": muon_gives_vectors_nesterov,
    "rmsprop_keeps_the_learning_rate": rmsprop_keeps_the_learning_rate,
    "schedules_in_float32": schedules_in_float32,
}


def _first_update(rule: optax.GradientTransformation) -> float:
    params = jnp.ones(())
    return float(rule.update(params, rule.init(params), params)[0])

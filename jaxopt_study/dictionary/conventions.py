"""Schedules, clipping and initializers: PyTorch's, and what they are in JAX, as code that both sides evaluate."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Convention:
    """One convention in both frameworks.

    Attributes:
        kind: `schedule`, `clipping` or `initializer`.
        torch: Code; of a schedule, in terms of an optimizer `o` of learning rate 0.1; of clipping, of parameters `p`
            with gradients; of an initializer, of a weight `w` of (outputs, inputs).
        aligned: Code for the same in JAX; an initializer is given the shape (inputs, outputs).
        namesake: Code for what carries the name in optax or flax; nothing if `aligned` is it.
        reason: What differs.
    """

    kind: str
    torch: str
    aligned: str
    namesake: str
    reason: str


def _schedule(torch: str, aligned: str, namesake: str, reason: str) -> Convention:
    return Convention("schedule", f"lr_scheduler.{torch}", aligned, namesake, reason)


# optax hands its schedules an int32 count, and under x64 JAX makes float32 of a quotient of int32 numbers: 1e-8 of the
# learning rate. `c * 1.0` is float64 there. Without x64 it changes nothing.
SCHEDULES = (
    _schedule("LambdaLR(o, lambda c: 1.0)", "optax.constant_schedule(0.1)", "", "the same"),
    _schedule(
        "ConstantLR(o, factor=0.5, total_iters=5)",
        "optax.piecewise_constant_schedule(0.05, {5: 2.0})",
        "optax.constant_schedule(0.05)",
        "torch's goes back to the full rate after total_iters",
    ),
    _schedule(
        "StepLR(o, step_size=10, gamma=0.5)",
        "lambda c: optax.exponential_decay(0.1, 10, 0.5, staircase=True)(c * 1.0)",
        "optax.exponential_decay(0.1, 10, 0.5, staircase=True)",
        "the same; both fall at steps 10, 20, ...",
    ),
    _schedule(
        "MultiStepLR(o, milestones=[10, 30], gamma=0.1)",
        "optax.piecewise_constant_schedule(0.1, {10: 0.1, 30: 0.1})",
        "",
        "the same; the step of a milestone has the new rate",
    ),
    _schedule(
        "ExponentialLR(o, gamma=0.95)",
        "lambda c: optax.exponential_decay(0.1, 1, 0.95)(c * 1.0)",
        "optax.exponential_decay(0.1, 1, 0.95)",
        "the same",
    ),
    _schedule(
        "CosineAnnealingLR(o, T_max=50, eta_min=0.001)",
        "lambda c: 0.001 + (0.1 - 0.001) * (1 + jnp.cos(jnp.pi * (c * 1.0) / 50)) / 2",
        "optax.cosine_decay_schedule(0.1, 50, alpha=0.01)",
        "the same up to T_max, but then torch's rises again and optax's stays",
    ),
    _schedule(
        "CosineAnnealingWarmRestarts(o, T_0=20)",
        "lambda c: 0.1 * (1 + jnp.cos(jnp.pi * (c % 20 * 1.0) / 20)) / 2",
        "",
        "optax.sgdr_schedule takes a list of cycles, each with a warm-up",
    ),
    _schedule(
        "OneCycleLR(o, max_lr=0.1, total_steps=100)",
        'lambda c: optax.piecewise_interpolate_schedule("cosine", 0.1 / 25, {29: 25.0, 99: 1 / (25 * 1e4)})(c * 1.0)',
        "optax.cosine_onecycle_schedule(100, 0.1)",
        "torch's peak is at step 29 and its end at 99, optax's at 30 and 100",
    ),
    _schedule(
        'OneCycleLR(o, max_lr=0.1, total_steps=100, anneal_strategy="linear")',
        'lambda c: optax.piecewise_interpolate_schedule("linear", 0.1 / 25, {29: 25.0, 99: 1 / (25 * 1e4)})(c * 1.0)',
        "optax.linear_onecycle_schedule(100, 0.1)",
        "as above; optax's linear one has a third phase, from pct_final = 0.85 on",
    ),
    _schedule(
        "LinearLR(o, start_factor=0.1, total_iters=10)",
        "lambda c: optax.linear_schedule(0.01, 0.1, 10)(c * 1.0)",
        "optax.linear_schedule(0.01, 0.1, 10)",
        "the same: the first step has the start, step 10 the full rate",
    ),
    _schedule(
        "PolynomialLR(o, total_iters=20, power=2.0)",
        "lambda c: optax.polynomial_schedule(0.1, 0.0, 2.0, 20)(c * 1.0)",
        "optax.polynomial_schedule(0.1, 0.0, 2.0, 20)",
        "the same",
    ),
    _schedule(
        "SequentialLR(o, [lr_scheduler.LinearLR(o, start_factor=0.1, total_iters=10), "
        "lr_scheduler.CosineAnnealingLR(o, T_max=90)], milestones=[10])",
        "lambda c: optax.warmup_cosine_decay_schedule(0.01, 0.1, 10, 100)(c * 1.0)",
        "optax.warmup_cosine_decay_schedule(0.01, 0.1, 10, 100)",
        "the same; optax's decay_steps count the warm-up",
    ),
)

CLIPPING = (
    Convention(
        "clipping",
        "nn.utils.clip_grad_norm_(p, 1.0)",
        "optax.stateless(lambda g, _: jax.tree.map("
        "lambda x: x * jnp.minimum(1.0, 1.0 / (optax.global_norm(g) + 1e-6)), g))",
        "optax.clip_by_global_norm(1.0)",
        "torch divides by the norm + 1e-6: clipped gradients are smaller by 1e-6 of their norm",
    ),
    Convention("clipping", "nn.utils.clip_grad_value_(p, 0.5)", "optax.clip(0.5)", "", "the same"),
)


def _initializer(torch: str, aligned: str, namesake: str, reason: str) -> Convention:
    return Convention("initializer", torch, aligned, namesake, reason)


INITIALIZERS = (
    _initializer(
        "nn.Linear(w.shape[1], w.shape[0]).weight",
        'nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")',
        "nn.initializers.lecun_normal()",
        "torch's default is uniform in +-1/sqrt(inputs), flax's truncated normal with three times its variance",
    ),
    _initializer(
        "nn.Linear(w.shape[1], 20_000).bias",
        "lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -1.0, 1.0) / shape[0] ** 0.5",
        "nn.initializers.zeros",
        "torch's default bias is uniform in +-1/sqrt(inputs), flax's is zero",
    ),
    _initializer(
        "nn.init.trunc_normal_(w, 0.0, s := w.shape[1] ** -0.5 / 0.87962566103423978, -2 * s, 2 * s)",
        "nn.initializers.lecun_normal()",
        "",
        "flax's default for kernels, in torch: cut off at two deviations, then scaled up to variance 1/inputs",
    ),
    _initializer("nn.init.xavier_uniform_(w)", "nn.initializers.glorot_uniform()", "", "the same"),
    _initializer(
        "nn.init.xavier_normal_(w)",
        'nn.initializers.variance_scaling(1.0, "fan_avg", "normal")',
        "nn.initializers.glorot_normal()",
        "glorot_normal is cut off at two deviations",
    ),
    _initializer("nn.init.kaiming_uniform_(w)", "nn.initializers.he_uniform()", "", "the same"),
    _initializer(
        "nn.init.kaiming_normal_(w)",
        'nn.initializers.variance_scaling(2.0, "fan_in", "normal")',
        "nn.initializers.he_normal()",
        "he_normal is cut off at two deviations",
    ),
    _initializer("nn.init.orthogonal_(w)", "nn.initializers.orthogonal()", "", "the same distribution"),
    _initializer(
        "nn.Embedding(*w.shape).weight",
        "nn.initializers.normal(1.0)",
        'nn.initializers.variance_scaling(1.0, "fan_in", "normal", out_axis=0)',
        "torch's default deviation is 1; flax's nn.Embed has 1/sqrt(features)",
    ),
)

CONVENTIONS = (*SCHEDULES, *CLIPPING, *INITIALIZERS)
SCHEDULE_STEPS = 100
"""The steps of a schedule that are compared: as many as the shortest of them has."""
SHAPE = (300, 400)
"""Inputs and outputs of the weights drawn."""
QUANTILES = 199

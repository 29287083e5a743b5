"""Schedules, clipping and initializers: PyTorch's, and what they are in JAX, as code that both sides evaluate."""

from __future__ import annotations

from dataclasses import dataclass

from jaxopt_study.dictionary.calls import read
from jaxopt_study.dictionary.named import AROUND, translate


@dataclass(frozen=True)
class Convention:
    """One convention in both frameworks.

    Attributes:
        kind: `schedule`, `clipping` or `initializer`.
        torch: Code; of a schedule, in terms of an optimizer `o` of learning rate 0.1; of clipping, of parameters `p`
            with gradients; of an initializer, of a weight `w` of (outputs, inputs).
        aligned: Code for the same in JAX; an initializer is given the shape (inputs, outputs).
        namesake: Code for what carries the name in optax or flax, if anything does.
        reason: What differs.
    """

    kind: str
    torch: str
    aligned: str
    namesake: str
    reason: str


def _named(torch: str, namesake: str = "", reason: str = "") -> Convention:
    """Return the convention of what the dictionary has by name; its code and its reason are the dictionary's."""
    call = read(torch)
    kind = next(kind for kind, (names, _) in AROUND.items() if call.name in names)
    made = translate(torch, {"lr": 0.1} if kind == "schedule" else {})
    return Convention(kind, torch, made.expression, namesake, reason or made.reason)


SCHEDULES = (
    Convention("schedule", "lr_scheduler.LambdaLR(o, lambda c: 1.0)", "optax.constant_schedule(0.1)", "", "the same"),
    _named("lr_scheduler.ConstantLR(o, factor=0.5, total_iters=5)", "optax.constant_schedule(0.05)"),
    _named("lr_scheduler.StepLR(o, step_size=10, gamma=0.5)", "optax.exponential_decay(0.1, 10, 0.5, staircase=True)"),
    _named(
        "lr_scheduler.MultiStepLR(o, milestones=[10, 30], gamma=0.1)",
        "optax.piecewise_constant_schedule(0.1, {10: 0.1, 30: 0.1})",
    ),
    _named("lr_scheduler.ExponentialLR(o, gamma=0.95)", "optax.exponential_decay(0.1, 1, 0.95)"),
    _named(
        "lr_scheduler.CosineAnnealingLR(o, T_max=50, eta_min=0.001)",
        "optax.cosine_decay_schedule(0.1, 50, alpha=0.01)",
    ),
    _named("lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=20)"),
    _named(
        "lr_scheduler.OneCycleLR(o, max_lr=0.1, total_steps=100, cycle_momentum=False)",
        "optax.cosine_onecycle_schedule(100, 0.1)",
    ),
    _named(
        'lr_scheduler.OneCycleLR(o, max_lr=0.1, total_steps=100, anneal_strategy="linear", cycle_momentum=False)',
        "optax.linear_onecycle_schedule(100, 0.1)",
    ),
    _named("lr_scheduler.LinearLR(o, start_factor=0.1, total_iters=10)", "optax.linear_schedule(0.01, 0.1, 10)"),
    _named("lr_scheduler.PolynomialLR(o, total_iters=20, power=2.0)", "optax.polynomial_schedule(0.1, 0.0, 2.0, 20)"),
    _named(
        "lr_scheduler.SequentialLR(o, [lr_scheduler.LinearLR(o, start_factor=0.1, total_iters=10), "
        "lr_scheduler.CosineAnnealingLR(o, T_max=90)], milestones=[10])",
        "optax.warmup_cosine_decay_schedule(0.01, 0.1, 10, 100)",
    ),
)
CLIPPING = (
    _named("nn.utils.clip_grad_norm_(p, 1.0)", "optax.clip_by_global_norm(1.0)"),
    _named("nn.utils.clip_grad_value_(p, 0.5)", "optax.clip(0.5)"),
)
INITIALIZERS = (
    Convention(
        "initializer",
        "nn.Linear(w.shape[1], w.shape[0]).weight",
        'nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")',
        "nn.initializers.lecun_normal()",
        "torch's default is uniform in +-1/sqrt(inputs). flax's is a truncated normal with three times the variance",
    ),
    Convention(
        "initializer",
        "nn.Linear(w.shape[1], 20_000).bias",
        "lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -1.0, 1.0) / shape[0] ** 0.5",
        "nn.initializers.zeros",
        "torch's default bias is uniform in +-1/sqrt(inputs); flax's is zero",
    ),
    Convention(
        "initializer",
        "nn.init.trunc_normal_(w, 0.0, s := w.shape[1] ** -0.5 / 0.87962566103423978, -2 * s, 2 * s)",
        "nn.initializers.lecun_normal()",
        "",
        "flax's default for kernels, in torch: cut off at two standard deviations, then scaled to variance 1/inputs",
    ),
    _named("nn.init.trunc_normal_(w, 0.1, 0.5, -1.0, 1.0)", "nn.initializers.truncated_normal(0.5)"),
    _named("nn.init.xavier_uniform_(w)", "nn.initializers.glorot_uniform()"),
    _named("nn.init.xavier_normal_(w)", "nn.initializers.glorot_normal()"),
    _named("nn.init.kaiming_uniform_(w)", "nn.initializers.he_uniform()"),
    _named("nn.init.kaiming_normal_(w)", "nn.initializers.he_normal()"),
    _named("nn.init.orthogonal_(w)", "nn.initializers.orthogonal()"),
    Convention(
        "initializer",
        "nn.Embedding(*w.shape).weight",
        "nn.initializers.normal(1.0)",
        'nn.initializers.variance_scaling(1.0, "fan_in", "normal", out_axis=0)',
        "torch's default standard deviation is 1; that of flax's nn.Embed is 1/sqrt(features)",
    ),
)

CONVENTIONS = (*SCHEDULES, *CLIPPING, *INITIALIZERS)
SCHEDULE_STEPS = 100
"""The steps of a schedule that are compared: as many as the shortest of them has."""
SHAPE = (300, 400)
"""Inputs and outputs of the weights drawn."""
QUANTILES = 199

"""torch.nn.init as initializers of JAX, `initializer(key, shape, dtype)`: the same distributions, by other numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from jaxopt_study.dictionary.allowed import (
    COUNT,
    FRACTION,
    NOT_NEGATIVE,
    NUMBER,
    POSITIVE,
    REQUIRED,
    Allowed,
    DictionaryError,
    Options,
    Table,
    check,
    one_of,
)
from jaxopt_study.dictionary.translation import APPROXIMATE, CONDITIONS, EXACT, Translation

MODULE = "torch.nn.init"
LINEAR = ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "sigmoid")
NONLINEARITY = one_of(*LINEAR, "tanh", "relu", "leaky_relu", "selu")
DEVIATION = Allowed(POSITIVE.test, POSITIVE.words, by_torch=False)
GAIN = {"gain": (1.0, Allowed(NOT_NEGATIVE.test, NOT_NEGATIVE.words, by_torch=False))}
KAIMING: Table = {
    "a": (0, NUMBER),
    "mode": ("fan_in", one_of("fan_in", "fan_out")),
    "nonlinearity": ("leaky_relu", NONLINEARITY),
}
OPTIONS: Mapping[str, Table] = {
    "constant_": {"val": (REQUIRED, NUMBER)},
    "dirac_": {"groups": (1, COUNT)},
    "eye_": {},
    "kaiming_normal_": KAIMING,
    "kaiming_uniform_": KAIMING,
    "normal_": {"mean": (0.0, NUMBER), "std": (1.0, NOT_NEGATIVE)},
    "ones_": {},
    "orthogonal_": {"gain": (1, NUMBER)},
    "sparse_": {"sparsity": (REQUIRED, FRACTION), "std": (0.01, NOT_NEGATIVE)},
    "trunc_normal_": {"mean": (0.0, NUMBER), "std": (1.0, DEVIATION), "a": (-2.0, NUMBER), "b": (2.0, NUMBER)},
    "uniform_": {"a": (0.0, NUMBER), "b": (1.0, NUMBER)},
    "xavier_normal_": GAIN,
    "xavier_uniform_": GAIN,
    "zeros_": {},
}
DRAWS = "in distribution, with other random numbers"
SHAPED = "for a kernel in flax's order of axes: (inputs, outputs), of a convolution (height, width, inputs, outputs)"
KERNEL = (
    f"{SHAPED}. Of a transposed convolution or an embedding, torch counts the inputs as outputs: add in_axis=-1, "
    "out_axis=-2"
)
NONE = "jax.nn.initializers has no such function"
IN_JAX = "lambda key, shape, dtype=jnp.float32: "


def translate(name: str, options: Options) -> Translation:
    """Return an initializer of `torch.nn.init` in JAX, in code.

    Raises:
        DictionaryError: There is no such option, or torch refuses a value.
    """
    given = {k: v.lower() if k == "mode" and isinstance(v, str) else v for k, v in options.items()}
    values = check(f"{MODULE}.{name}", OPTIONS[name], given)
    expression, reason, condition = RULES[name](values)
    status = CONDITIONS if condition else EXACT
    if (
        name == "trunc_normal_"
        and not values["a"] - 2 * values["std"] <= values["mean"] <= values["b"] + 2 * values["std"]
    ):
        status, condition = APPROXIMATE, "mean is more than 2 std from [a, b]: torch warns that its draws may be wrong"
    return Translation(name, values, expression, status, reason, condition, module=MODULE, makes="initializer")


def _is_far(o: Options) -> bool:
    return bool(o["mean"] < o["a"] - 2 * o["std"] or o["mean"] > o["b"] + 2 * o["std"])


Made = tuple[str, str, str]
"""Code, reason and condition."""


def _scaled(gain: float, mode: str, distribution: str, reason: str) -> Made:
    code = f'jax.nn.initializers.variance_scaling({float(gain) ** 2!r}, "{mode}", "{distribution}")'
    return code, reason, f"{DRAWS}; {KERNEL}"


def _xavier_uniform(o: Options) -> Made:
    return _scaled(o["gain"], "fan_avg", "uniform", "the same as jax.nn.initializers.glorot_uniform")


def _xavier_normal(o: Options) -> Made:
    return _scaled(
        o["gain"], "fan_avg", "normal", "jax.nn.initializers.glorot_normal is cut off at two standard deviations"
    )


def _gain(o: Options) -> float:
    """Return `torch.nn.init.calculate_gain`, which takes `a` for leaky_relu alone."""
    known = {"tanh": 5 / 3, "relu": math.sqrt(2.0), "leaky_relu": math.sqrt(2.0 / (1 + o["a"] ** 2)), "selu": 3 / 4}
    return known.get(o["nonlinearity"], 1.0)


def _kaiming_uniform(o: Options) -> Made:
    reason = "jax.nn.initializers.he_uniform is the same as torch's default: fan_in and the gain of relu"
    return _scaled(_gain(o), o["mode"], "uniform", reason)


def _kaiming_normal(o: Options) -> Made:
    reason = "jax.nn.initializers.he_normal is cut off at two standard deviations"
    return _scaled(_gain(o), o["mode"], "normal", reason)


def _orthogonal(o: Options) -> Made:
    return f"jax.nn.initializers.orthogonal({float(o['gain'])!r})", "the same distribution", f"{DRAWS}; {SHAPED}"


def _normal(o: Options) -> Made:
    code = f"{IN_JAX}{float(o['mean'])!r} + {float(o['std'])!r} * jax.random.normal(key, shape, dtype)"
    return code, "jax.nn.initializers.normal has mean 0, and standard deviation 0.01 by default", DRAWS


def _uniform(o: Options) -> Made:
    if o["a"] > o["b"]:
        raise DictionaryError(f"{MODULE}.uniform_ refuses a={o['a']!r} and b={o['b']!r}: a must be at most b")
    code = f"{IN_JAX}jax.random.uniform(key, shape, dtype, {float(o['a'])!r}, {float(o['b'])!r})"
    return code, "jax.nn.initializers.uniform draws from 0 to its scale, which is 0.01 by default", DRAWS


def _trunc_normal(o: Options) -> Made:
    if o["a"] >= o["b"]:
        raise DictionaryError(f"{MODULE}.trunc_normal_ cannot be translated: a={o['a']!r} must be below b={o['b']!r}")
    mean, std = float(o["mean"]), float(o["std"])
    low, high = (o["a"] - mean) / std, (o["b"] - mean) / std
    code = f"{IN_JAX}{mean!r} + {std!r} * jax.random.truncated_normal(key, {low!r}, {high!r}, shape, dtype)"
    reason = "torch's a and b are values; the bounds of jax.nn.initializers.truncated_normal are standard deviations"
    return code, reason, DRAWS


def _constant(o: Options) -> Made:
    return f"jax.nn.initializers.constant({o['val']!r})", "the same", ""


def _zeros(_: Options) -> Made:
    return "jax.nn.initializers.zeros", "the same", ""


def _ones(_: Options) -> Made:
    return "jax.nn.initializers.ones", "the same", ""


def _eye(_: Options) -> Made:
    return f"{IN_JAX}jnp.eye(*shape, dtype=dtype)", NONE, ""


def _dirac(o: Options) -> Made:
    eye = f"jnp.tile(jnp.eye(shape[-2], shape[-1] // {o['groups']!r}, dtype=dtype), {o['groups']!r})"
    code = f"{IN_JAX}jnp.zeros(shape, dtype).at[tuple(n // 2 for n in shape[:-2])].set({eye})"
    return code, "jax.nn.initializers.delta_orthogonal draws an orthogonal matrix; torch has the identity there", SHAPED


def _sparse(o: Options) -> Made:
    # Of each input, a part of its weights, which lie along the last axis here.
    rows = "jnp.broadcast_to(jnp.arange(shape[1]), shape)"
    places = f"jax.random.permutation(jax.random.fold_in(key, 1), {rows}, axis=1, independent=True)"
    zero = f"{places} < jnp.ceil({float(o['sparsity'])!r} * shape[1])"
    code = f"{IN_JAX}jnp.where({zero}, 0.0, {float(o['std'])!r} * jax.random.normal(key, shape, dtype))"
    return code, NONE, f"{DRAWS}; {SHAPED}"


RULES: Mapping[str, Callable[[Options], Made]] = {
    "constant_": _constant,
    "dirac_": _dirac,
    "eye_": _eye,
    "kaiming_normal_": _kaiming_normal,
    "kaiming_uniform_": _kaiming_uniform,
    "normal_": _normal,
    "ones_": _ones,
    "orthogonal_": _orthogonal,
    "sparse_": _sparse,
    "trunc_normal_": _trunc_normal,
    "uniform_": _uniform,
    "xavier_normal_": _xavier_normal,
    "xavier_uniform_": _xavier_uniform,
    "zeros_": _zeros,
}

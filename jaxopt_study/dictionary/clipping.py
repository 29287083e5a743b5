"""torch.nn.utils.clip_grad_norm_ and clip_grad_value_, as transformations that stand before an optimizer."""

from __future__ import annotations

import math
from collections.abc import Mapping

from jaxopt_study.dictionary.allowed import NUMBER, REQUIRED, SWITCH, Allowed, Options, Table, check, one_of
from jaxopt_study.dictionary.translation import CONDITIONS, Translation

MODULE = "torch.nn.utils"
ANY = Allowed(NUMBER.test, NUMBER.words, infinite=True)
CODE = {"foreach": (None, one_of(None, True, False))}
OPTIONS: Mapping[str, Table] = {
    "clip_grad_norm_": {
        "max_norm": (REQUIRED, ANY),
        "norm_type": (2.0, ANY),
        "error_if_nonfinite": (False, SWITCH),
        **CODE,
    },
    "clip_grad_value_": {"clip_value": (REQUIRED, ANY), **CODE},
}
GIVEN = "if torch calls it with the optimizer's parameters, after backward() and before each optimizer.step()"


def translate(name: str, options: Options) -> Translation:
    """Return a clipping as an `optax.GradientTransformation`, in code: put it before the optimizer by `optax.chain`.

    Raises:
        DictionaryError: There is no such option, or torch refuses a value.
    """
    values = check(f"{MODULE}.{name}", OPTIONS[name], options)
    shown = {option: value for option, value in values.items() if option != "foreach"}
    if name == "clip_grad_value_":
        code, reason = f"optax.clip({_number(values['clip_value'])})", "the same rule as optax.clip"
    else:
        code, reason = _by_norm(values), "torch divides by the norm + 1e-6, and optax.clip_by_global_norm by the norm"
    condition = GIVEN
    if values.get("error_if_nonfinite"):
        condition += ". At a norm that is infinite or NaN torch raises an error; JAX goes on with NaN"
    return Translation(name, shown, code, CONDITIONS, reason, condition, module=MODULE, makes="clip")


def _by_norm(values: Options) -> str:
    order = float(values["norm_type"])
    # torch takes the norm of the leaves' norms: another number than that of all elements only for order 0.
    leaves = f"[jnp.linalg.norm(jnp.ravel(x), {_number(order)}) for x in jax.tree.leaves(g)]"
    norm = "optax.tree.norm(g)" if order == 2 else f"jnp.linalg.norm(jnp.array({leaves}), {_number(order)})"
    factor = f"jnp.minimum({_number(values['max_norm'])} / ({norm} + 1e-6), 1.0)"
    # Cast, for trees of several types: torch multiplies in place.
    return f"optax.stateless(lambda g, _: optax.tree.cast_like(optax.tree.scale({factor}, g), g))"


def _number(value: float) -> str:
    return repr(float(value)) if math.isfinite(value) else f"{'-' * (value < 0)}jnp.inf"

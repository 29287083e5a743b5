"""torch.optim.lr_scheduler.ReduceLROnPlateau, which reads the loss, as optax.contrib.reduce_on_plateau."""

from __future__ import annotations

from collections.abc import Mapping

from jaxopt_study.dictionary.allowed import NOT_NEGATIVE, Allowed, DictionaryError, Options, Table, check, one_of
from jaxopt_study.dictionary.named_schedules import BESIDE, MODULE, STEPS_OR_ZERO
from jaxopt_study.dictionary.translation import CONDITIONS, Translation

SHARE = Allowed(lambda v: NOT_NEGATIVE.test(v) and 0 < v < 1, "a number in (0, 1)", by_torch=False)
OPTIONS: Mapping[str, Table] = {
    "ReduceLROnPlateau": {
        "mode": ("min", one_of("min", "max")),
        "factor": (0.1, SHARE),
        "patience": (10, STEPS_OR_ZERO),
        "threshold": (1e-4, SHARE),
        "threshold_mode": ("rel", one_of("rel", "abs")),
        "cooldown": (0, STEPS_OR_ZERO),
        "min_lr": (0, NOT_NEGATIVE),
        "eps": (1e-8, NOT_NEGATIVE),
    },
}
USE = (
    "where torch calls scheduler.step(loss), call _, state = plateau.update(params, state, value=loss). Multiply the "
    "updates that follow by state.scale. (In optax.chain the update of that loss would have the new rate already.)"
)


def translate(name: str, options: Options) -> Translation:
    """Return ReduceLROnPlateau as `optax.contrib.reduce_on_plateau`, in code, with how to use it.

    Args:
        name: `ReduceLROnPlateau`.
        options: Its options, and `lr`, the optimizer's learning rate.

    Raises:
        DictionaryError: There is no such option, torch refuses a value, or optax has not its rule.
    """
    rate = check(MODULE, {"lr": BESIDE["lr"]}, {k: v for k, v in options.items() if k == "lr"})["lr"]
    values = check(f"{MODULE}.{name}", OPTIONS[name], {k: v for k, v in options.items() if k != "lr"})
    least = values["min_lr"]
    if least > rate:
        raise DictionaryError(f"min_lr={least!r} is above lr={rate!r}: optax would raise the rate, torch does not")
    relative = values["threshold_mode"] == "rel"
    if values["mode"] == "max" and relative:
        raise DictionaryError(f"{name} with mode='max' and threshold_mode='rel' cannot be translated: use 'abs'")
    rtol, atol = (values["threshold"], 0.0) if relative else (0.0, values["threshold"])
    code = (
        f"optax.contrib.reduce_on_plateau(factor={values['factor']!r}, patience={values['patience'] + 1!r}, "
        f"rtol={rtol!r}, atol={atol!r}, cooldown={values['cooldown']!r}, min_scale={least / rate if least else 0.0!r})"
    )
    value = USE.replace("value=loss", "value=-loss") if values["mode"] == "max" else USE
    reason = "the same rule. torch lowers the rate after patience + 1 bad losses, and optax after patience"
    condition = (
        f"{value} The optimizer must have lr={rate}. torch does not lower a rate by eps={values['eps']} or less, and "
        "optax does. optax compares losses in the parameters' type, and torch in float64"
    )
    return Translation(name, values, code, CONDITIONS, reason, condition, module=MODULE, makes="plateau")

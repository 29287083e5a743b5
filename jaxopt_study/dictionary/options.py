"""The options of every torch.optim class: default, what torch allows, and what has no say in the mathematics."""

from __future__ import annotations

import difflib
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Options = Mapping[str, Any]


class DictionaryError(ValueError):
    """A configuration that torch does not have or refuses; the message is one line."""


@dataclass(frozen=True)
class Allowed:
    """What is accepted: a test, and the words for it.

    Attributes:
        test: Whether a value is.
        words: What a value must be.
        by_torch: Whether torch refuses other values itself; else it takes them, and no training has them.
    """

    test: Callable[[Any], bool]
    words: str
    by_torch: bool = True


def _number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= LARGEST or value in (math.inf, -math.inf)


LARGEST = sys.float_info.max


def _all(count: int, test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, tuple) and len(value) == count and all(test(item) for item in value)


NUMBER = Allowed(_number, "a number")
NOT_NEGATIVE = Allowed(lambda v: _number(v) and v >= 0, "a number of at least 0")
NOT_POSITIVE = Allowed(lambda v: _number(v) and v <= 0, "a number of at most 0")
FRACTION = Allowed(lambda v: _number(v) and 0 <= v <= 1, "a number in [0, 1]")
AT_LEAST_ONE = Allowed(lambda v: _number(v) and v >= 1, "a number of at least 1")
SWITCH = Allowed(lambda v: isinstance(v, bool), "True or False")
COUNT = Allowed(
    lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= 1, "a whole number of at least 1", by_torch=False
)
COUNT_OR_NONE = Allowed(lambda v: v is None or COUNT.test(v), "a whole number of at least 1, or None", by_torch=False)
ITERATIONS = Allowed(lambda v: isinstance(v, int) and not isinstance(v, bool) and v < 100, "a whole number below 100")
BETAS = Allowed(_all(2, lambda v: _number(v) and 0 <= v < 1), "two numbers in [0, 1), as 0.9,0.999")
# torch's SparseAdam takes them likewise, and its lr and eps must be above 0.
POSITIVE = Allowed(lambda v: _number(v) and v > 0, "a number above 0")
ETAS = Allowed(lambda v: _all(2, _number)(v) and 0 < v[0] < 1 < v[1], "two numbers, 0 < a < 1 < b, as 0.5,1.2")
SIZES = Allowed(_all(2, _number), "two numbers, as 1e-6,50")
EPS_PAIR = Allowed(
    lambda v: (
        isinstance(v, tuple) and len(v) == 2 and (v[0] is None or NOT_NEGATIVE.test(v[0])) and NOT_NEGATIVE.test(v[1])
    ),
    "None or a number of at least 0, and a number of at least 0, as None,0.001",
)
COEFFICIENTS = Allowed(_all(3, _number), "three numbers")
SEARCH = Allowed(lambda v: v in (None, "strong_wolfe"), "None or strong_wolfe")
ADJUST = Allowed(lambda v: v in (None, "original", "match_rms_adamw"), "None, original or match_rms_adamw")

_ADAM = {"betas": ((0.9, 0.999), BETAS), "eps": (1e-8, NOT_NEGATIVE), "weight_decay": (0, NOT_NEGATIVE)}
_UP = {"maximize": (False, SWITCH)}

OPTIONS: dict[str, dict[str, tuple[Any, Allowed]]] = {
    "ASGD": {
        "lr": (0.01, NOT_NEGATIVE),
        "lambd": (1e-4, NUMBER),
        "alpha": (0.75, NUMBER),
        "t0": (1e6, NUMBER),
        "weight_decay": (0, NOT_NEGATIVE),
        **_UP,
    },
    "Adadelta": {
        "lr": (1.0, NOT_NEGATIVE),
        "rho": (0.9, FRACTION),
        "eps": (1e-6, NOT_NEGATIVE),
        "weight_decay": (0, NOT_NEGATIVE),
        **_UP,
    },
    "Adafactor": {
        "lr": (0.01, NOT_NEGATIVE),
        "beta2_decay": (-0.8, NOT_POSITIVE),
        "eps": ((None, 1e-3), EPS_PAIR),
        "d": (1.0, AT_LEAST_ONE),
        "weight_decay": (0.0, NOT_NEGATIVE),
        **_UP,
    },
    "Adagrad": {
        "lr": (0.01, NOT_NEGATIVE),
        "lr_decay": (0, NOT_NEGATIVE),
        "weight_decay": (0, NOT_NEGATIVE),
        "initial_accumulator_value": (0, NOT_NEGATIVE),
        "eps": (1e-10, NOT_NEGATIVE),
        **_UP,
    },
    "Adam": {
        "lr": (1e-3, NOT_NEGATIVE),
        **_ADAM,
        "amsgrad": (False, SWITCH),
        "decoupled_weight_decay": (False, SWITCH),
        **_UP,
    },
    "AdamW": {
        "lr": (1e-3, NOT_NEGATIVE),
        **_ADAM,
        "weight_decay": (0.01, NOT_NEGATIVE),
        "amsgrad": (False, SWITCH),
        **_UP,
    },
    "Adamax": {"lr": (2e-3, NOT_NEGATIVE), **_ADAM, **_UP},
    "LBFGS": {
        "lr": (1, NOT_NEGATIVE),
        "max_iter": (20, COUNT),
        "max_eval": (None, COUNT_OR_NONE),
        "tolerance_grad": (1e-7, NUMBER),
        "tolerance_change": (1e-9, NUMBER),
        "history_size": (100, COUNT),
        "line_search_fn": (None, SEARCH),
    },
    "Muon": {
        "lr": (1e-3, NOT_NEGATIVE),
        "weight_decay": (0.1, NOT_NEGATIVE),
        "momentum": (0.95, NOT_NEGATIVE),
        "nesterov": (True, SWITCH),
        "ns_coefficients": ((3.4445, -4.775, 2.0315), COEFFICIENTS),
        "eps": (1e-7, NUMBER),
        "ns_steps": (5, ITERATIONS),
        "adjust_lr_fn": (None, ADJUST),
    },
    "NAdam": {
        "lr": (2e-3, NOT_NEGATIVE),
        **_ADAM,
        "momentum_decay": (4e-3, NOT_NEGATIVE),
        "decoupled_weight_decay": (False, SWITCH),
        **_UP,
    },
    "RAdam": {"lr": (1e-3, NOT_NEGATIVE), **_ADAM, "decoupled_weight_decay": (False, SWITCH), **_UP},
    "RMSprop": {
        "lr": (0.01, NOT_NEGATIVE),
        "alpha": (0.99, NOT_NEGATIVE),
        "eps": (1e-8, NOT_NEGATIVE),
        "weight_decay": (0, NOT_NEGATIVE),
        "momentum": (0, NOT_NEGATIVE),
        "centered": (False, SWITCH),
        **_UP,
    },
    "Rprop": {"lr": (0.01, NOT_NEGATIVE), "etas": ((0.5, 1.2), ETAS), "step_sizes": ((1e-6, 50), SIZES), **_UP},
    "SGD": {
        "lr": (1e-3, NOT_NEGATIVE),
        "momentum": (0, NOT_NEGATIVE),
        "dampening": (0, NUMBER),
        "weight_decay": (0, NOT_NEGATIVE),
        "nesterov": (False, SWITCH),
        **_UP,
    },
    "SparseAdam": {"lr": (1e-3, POSITIVE), "betas": ((0.9, 0.999), BETAS), "eps": (1e-8, POSITIVE), **_UP},
}

IMPLEMENTATION = ("foreach", "fused", "capturable", "differentiable")
"""Options that choose torch's code and not the mathematics: at most rounding changes."""


def check(name: str, options: Options) -> dict[str, Any]:
    """Return the options of a torch.optim class with every default filled in.

    Args:
        name: The class, `RMSprop` say.
        options: What differs from torch's defaults; options of the implementation (`foreach`, ...) are dropped.
            Numbers may be Python's, NumPy's or tensors of one element.

    Raises:
        DictionaryError: There is no such class or option, torch refuses the value, or it cannot be translated.
    """
    values = complete(name, options)
    for option, (_, allowed) in OPTIONS[name].items():
        if not allowed.test(values[option]):
            raise _refusal(name, option, values[option], allowed)
    if values.get("nesterov") and name == "SGD" and (values["momentum"] <= 0 or values["dampening"] != 0):
        raise DictionaryError(
            "torch.optim.SGD refuses nesterov=True: it needs a momentum above 0 and dampening 0, not "
            f"momentum={values['momentum']!r} and dampening={values['dampening']!r}"
        )
    return values


def complete(name: str, options: Options) -> dict[str, Any]:
    """Return the options of a torch.optim class with every default filled in, without asking what torch refuses.

    A live optimizer may have what its class refuses: a scheduler may set SparseAdam's learning rate to 0.

    Raises:
        DictionaryError: There is no such class or option, or a value is infinite or NaN.
    """
    known = OPTIONS[_known("torch.optim class", name, OPTIONS)]
    values = {option: default for option, (default, _) in known.items()}
    for option, given in options.items():
        value = plain(option, given)
        if option in IMPLEMENTATION:
            if value not in (None, True, False):
                raise _refusal(name, option, value, SWITCH)
            continue
        _known(f"option of torch.optim.{name}", option, [*known, *IMPLEMENTATION])
        numbers = [v for v in (value if isinstance(value, tuple) else (value,)) if isinstance(v, float)]
        if any(map(math.isinf, numbers)):
            raise DictionaryError(f"{option}={value!r} cannot be translated: torch takes it, but no training has it")
        if any(map(math.isnan, numbers)):
            raise _refusal(name, option, value, known[option][1])
        values[option] = value
    return values


def _refusal(name: str, option: str, value: Any, allowed: Allowed) -> DictionaryError:
    who = f"torch.optim.{name} refuses" if allowed.by_torch else "cannot be translated:"
    return DictionaryError(f"{who} {option}={short(value)}: it must be {allowed.words}")


def plain(option: str, value: Any) -> Any:
    """Return Python's numbers for NumPy's and for tensors of one element, tuples for lists.

    Raises:
        DictionaryError: It is an array or tensor of more than one element.
    """
    if isinstance(value, tuple | list):
        return tuple(plain(option, item) for item in value)
    if not hasattr(value, "item"):
        return value
    try:
        return value.item()
    except (ValueError, RuntimeError):
        raise DictionaryError(f"{option} has more than one element: torch takes one number there") from None


def short(value: Any) -> str:
    """Return a value's text, cut where it is long, for a message of one line."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more than 4,300 digits
        return "a huge whole number"
    return text if len(text) <= 60 else f"{text[:50]}..."


def _known(kind: str, name: str, known: Mapping[str, Any] | list[str]) -> str:
    if name in known:
        return name
    by_lower = {item.lower(): item for item in known}
    near = difflib.get_close_matches(str(name)[:60].lower().removeprefix("torch.optim."), by_lower, n=1)
    hint = f"; did you mean {by_lower[near[0]]}?" if near else ""
    raise DictionaryError(f"unknown {kind} {short(name)}: choose from {', '.join(known)}{hint}")

"""The options of every torch.optim class: default, what torch allows, and what has no say in the mathematics."""

from __future__ import annotations

from typing import Any

from jaxopt_study.dictionary import allowed
from jaxopt_study.dictionary.allowed import (
    ADJUST,
    AT_LEAST_ONE,
    BETAS,
    COEFFICIENTS,
    COUNT,
    COUNT_OR_NONE,
    EPS_PAIR,
    ETAS,
    FRACTION,
    ITERATIONS,
    NOT_NEGATIVE,
    NOT_POSITIVE,
    NUMBER,
    POSITIVE,
    SEARCH,
    SIZES,
    SWITCH,
    Allowed,
    DictionaryError,
    Options,
    known,
)

__all__ = ["IMPLEMENTATION", "OPTIONS", "DictionaryError", "check", "complete"]

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
    values = allowed.check(f"torch.optim.{name}", _table(name), options, IMPLEMENTATION)
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
    return allowed.complete(f"torch.optim.{name}", _table(name), options, IMPLEMENTATION)


def _table(name: str) -> dict[str, tuple[Any, Allowed]]:
    return OPTIONS[known("torch.optim class", name, OPTIONS)]

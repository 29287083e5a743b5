"""The opposite direction: an optimizer of optax in torch.optim, where torch has the rule; else the nearest, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from jaxopt_study.dictionary import allowed, others, rules
from jaxopt_study.dictionary.allowed import REQUIRED, Allowed, DictionaryError, Options, Table, check, unknown
from jaxopt_study.dictionary.calls import read
from jaxopt_study.dictionary.chains import Chain, split
from jaxopt_study.dictionary.translation import APPROXIMATE, CONDITIONS, EXACT, STATUSES, Translation


def _number(test: Callable[[Any], bool], words: str) -> Allowed:
    return Allowed(test, words, by_torch=False)


NUMBER = _number(allowed.NUMBER.test, "a number")
RATE = _number(allowed.NOT_NEGATIVE.test, "a number of at least 0; a schedule is a scheduler in torch")
RATE_OR_NONE = _number(lambda v: v is None or RATE.test(v), f"None or {RATE.words}")
NOT_NEGATIVE = _number(allowed.NOT_NEGATIVE.test, allowed.NOT_NEGATIVE.words)
NONE_OR_NUMBER = _number(lambda v: v is None or allowed.NOT_NEGATIVE.test(v), "None or a number of at least 0")
SWITCH = _number(allowed.SWITCH.test, allowed.SWITCH.words)
KEPT = (None, _number(lambda v: v is None, "None: torch keeps its state in the parameters' type"))
MASK = (None, _number(lambda v: v is None, "None: make a parameter group of torch for each"))

LR = {"learning_rate": (REQUIRED, RATE)}
MOMENTS = {"b1": (0.9, NOT_NEGATIVE), "b2": (0.999, NOT_NEGATIVE), "eps": (1e-8, NOT_NEGATIVE)}
ADAM: Table = {**LR, **MOMENTS, "eps_root": (0.0, NOT_NEGATIVE), "mu_dtype": KEPT}
DECAYED: Table = {**ADAM, "weight_decay": (1e-4, NOT_NEGATIVE), "mask": MASK}
TABLES: Mapping[str, Table] = {
    "adadelta": {
        "learning_rate": (None, RATE_OR_NONE),
        "rho": (0.9, NOT_NEGATIVE),
        "eps": (1e-6, NOT_NEGATIVE),
        "weight_decay": (0.0, NOT_NEGATIVE),
        "weight_decay_mask": MASK,
    },
    "adagrad": {**LR, "initial_accumulator_value": (0.1, NOT_NEGATIVE), "eps": (1e-7, NOT_NEGATIVE)},
    "adam": {**ADAM, "nesterov": (False, SWITCH)},
    "adamax": {**LR, **MOMENTS},
    "adamw": {**DECAYED, "nesterov": (False, SWITCH)},
    "amsgrad": ADAM,
    "nadam": {**ADAM, "nesterov": (True, SWITCH)},
    "nadamw": {**DECAYED, "nesterov": (True, SWITCH)},
    "radam": {
        **{option: allowed_ for option, allowed_ in ADAM.items() if option != "mu_dtype"},
        "threshold": (5.0, NUMBER),
        "nesterov": (False, SWITCH),
    },
    "rmsprop": {
        **LR,
        "decay": (0.9, NOT_NEGATIVE),
        "eps": (1e-8, NOT_NEGATIVE),
        "initial_scale": (0.0, NOT_NEGATIVE),
        "eps_in_sqrt": (True, SWITCH),
        "centered": (False, SWITCH),
        "momentum": (None, NONE_OR_NUMBER),
        "nesterov": (False, SWITCH),
        "bias_correction": (False, SWITCH),
    },
    "rprop": {
        **LR,
        "eta_minus": (0.5, NUMBER),
        "eta_plus": (1.2, NUMBER),
        "min_step_size": (1e-6, NUMBER),
        "max_step_size": (50.0, NUMBER),
    },
    "sgd": {**LR, "momentum": (None, NONE_OR_NUMBER), "nesterov": (False, SWITCH), "accumulator_dtype": KEPT},
}
"""The options of what torch has the class of, in optax's order."""

NEAREST: Mapping[str, str] = {
    "adabelief": "Adam", "adafactor": "Adafactor", "adamaxw": "Adamax", "adan": "NAdam", "fromage": "SGD",
    "lamb": "AdamW", "lars": "SGD", "lbfgs": "LBFGS", "lion": "AdamW", "noisy_sgd": "SGD", "novograd": "AdamW",
    "optimistic_adam": "Adam", "optimistic_adam_v2": "Adam", "optimistic_gradient_descent": "SGD",
    "polyak_sgd": "SGD", "sign_sgd": "SGD", "signum": "SGD", "sm3": "Adagrad", "yogi": "Adam",
    "contrib.acprop": "Adam", "contrib.ademamix": "AdamW", "contrib.adopt": "Adam", "contrib.dadapt_adamw": "AdamW",
    "contrib.dpsgd": "SGD", "contrib.galore": "AdamW", "contrib.madgrad": "Adagrad", "contrib.momo": "SGD",
    "contrib.momo_adam": "Adam", "contrib.muon": "Muon", "contrib.prodigy": "AdamW",
    "contrib.schedule_free_adamw": "AdamW", "contrib.schedule_free_sgd": "SGD",
    "contrib.simplified_ademamix": "AdamW", "contrib.sophia": "AdamW",
}  # fmt: skip
"""torch's class that is nearest to what has no class of its own there."""

Made = tuple[str, dict[str, Any], str]
"""torch's class, its options, and where its rule is another, if anywhere."""


def to_torch(name: str, /, **options: Any) -> Translation:
    """Return an optimizer of optax as a class of torch.optim, in code: paste it, and put your parameters in.

    Args:
        name: The function, `optax.adamw` say, with `optax.` or without, or a call of it with plain values; or a call of
            `optax.chain` with clipping, with decay of the gradient, and with an optimizer at its end.
        **options: Its options.

    Raises:
        DictionaryError: optax or torch has no such optimizer, or it cannot be translated.

    Example:
        >>> to_torch("optax.adamw(1e-3, weight_decay=0.1)").expression
        'torch.optim.AdamW(params, lr=0.001, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.1)'
        >>> to_torch("rmsprop", learning_rate=0.1).status
        'approximate'
    """
    if not isinstance(name, str):
        raise DictionaryError(f"a {type(name).__name__} is no name: give one, or a call, as 'optax.adamw(1e-3)'")
    if "(" in name:
        call = read(name)
        if options:
            raise DictionaryError(f"{name} has its options already: {next(iter(options))} cannot be given")
        call, chain = split(call) if call.name.removeprefix("optax.") == "chain" else (call, Chain())
        options = call.by_name(_table(call.name), target=False)
        name = call.name
    else:
        chain = Chain()
    table, short = _table(name), name.removeprefix("optax.")
    values = check(f"optax.{short}", table, options)
    kind, given, difference = RULES[short](values)
    given = chain.decayed(kind, given)
    there = rules.translate(kind, given)
    status = max(there.status, APPROXIMATE if difference else EXACT, key=STATUSES.index)
    status, condition = (status, difference or there.condition)
    if short == "adagrad" and not given["initial_accumulator_value"]:
        status, condition = (
            CONDITIONS,
            "if no entry of the first gradient is 0. Of one that is, torch divides 0 by 0; optax makes no step there",
        )
    status = max(status, chain.status, key=STATUSES.index)
    condition = "; ".join(filter(None, (condition, chain.condition)))
    words = ", ".join(f"{option}={value!r}" for option, value in given.items())
    shown = {option: value for option, value in values.items() if value is not None}
    made = replace(there, name=short, options=shown, expression=f"torch.optim.{kind}(params, {words})")
    reason = f"torch's class is {kind}" if difference else f"the same rule as torch.optim.{kind}"
    reason += ", after clipping" if chain.clip else ""
    return replace(made, status=status, reason=reason, condition=condition, module="optax", needs=PARAMETERS)


PARAMETERS = {"params": "[torch.nn.Parameter(torch.zeros(()))]  # put yours here: model.parameters()"}


def _table(name: str) -> Table:
    short = name.removeprefix("optax.")
    if short in TABLES:
        return TABLES[short]
    if f"optax.{short}" in others.OPTAX or (place := others.place(short)):
        short = short if f"optax.{short}" in others.OPTAX else place.removeprefix("optax.")
        nearest = f"; the nearest is torch.optim.{NEAREST[short]}" if short in NEAREST else ""
        raise DictionaryError(f"torch.optim does not have the rule of optax.{short}{nearest}")
    raise unknown("optimizer of optax", short, TABLES, NEAREST)


def _adam(o: Options) -> Made:
    options = {"lr": o["learning_rate"], "betas": (o["b1"], o["b2"]), "eps": o["eps"]}
    difference = "torch has no eps_root, an eps inside the root" if o["eps_root"] else ""
    name = "AdamW" if "weight_decay" in o else "Adam"
    if "weight_decay" in o:
        options["weight_decay"] = o["weight_decay"]
    if o.get("nesterov"):
        name, options["momentum_decay"] = "NAdam", 1e9  # so that torch's momentum is constant
        if "weight_decay" in o:
            options["decoupled_weight_decay"] = True
    return name, options, difference


def _amsgrad(o: Options) -> Made:
    name, options, _ = _adam(o)
    return (
        name,
        options | {"amsgrad": True},
        "torch takes the maximum of v, then corrects its bias. optax corrects first, then takes the maximum",
    )


def _radam(o: Options) -> Made:
    _, options, _ = _adam(dict(o) | {"nesterov": False})
    return "RAdam", options, "torch adds eps before the bias correction, and has no threshold, eps_root or nesterov"


def _adamax(o: Options) -> Made:
    return "Adamax", {"lr": o["learning_rate"], "betas": (o["b1"], o["b2"]), "eps": o["eps"]}, ""


def _sgd(o: Options) -> Made:
    options: dict[str, Any] = {"lr": o["learning_rate"]}
    if o["momentum"]:
        options |= {"momentum": o["momentum"]} | ({"nesterov": True} if o["nesterov"] else {})
    return "SGD", options, ""


def _rmsprop(o: Options) -> Made:
    differences = [
        "torch's eps is outside the root" if o["eps_in_sqrt"] else "",
        "torch's mean of squares begins at 0" if o["initial_scale"] else "",
        "torch's RMSprop has no Nesterov momentum" if o["nesterov"] and o["momentum"] else "",
    ]
    options = {"lr": o["learning_rate"], "eps": o["eps"]}
    if o["bias_correction"] and not o["centered"] and not o["momentum"]:  # Adam without momentum
        return "Adam", options | {"betas": (0.0, o["decay"])}, "; ".join(filter(None, differences))
    differences.append("torch's RMSprop has no bias correction" if o["bias_correction"] else "")
    options |= {"alpha": o["decay"], "momentum": o["momentum"] or 0.0, "centered": o["centered"]}
    return "RMSprop", options, "; ".join(filter(None, differences))


def _adagrad(o: Options) -> Made:
    # An eps inside the root is a part of the sum from its start.
    start = o["initial_accumulator_value"] + o["eps"]
    return "Adagrad", {"lr": o["learning_rate"], "initial_accumulator_value": start, "eps": 0.0}, ""


def _adadelta(o: Options) -> Made:
    options = {"rho": o["rho"], "eps": o["eps"], "weight_decay": o["weight_decay"]}
    if o["learning_rate"] is not None:
        return "Adadelta", {"lr": o["learning_rate"], **options}, ""
    difference = (
        "optax without a learning rate climbs, and its weight decay makes the parameters grow"
        if o["weight_decay"]
        else ""
    )
    return "Adadelta", {"lr": 1.0, **options, "maximize": True}, difference  # optax does not turn the sign


def _rprop(o: Options) -> Made:
    etas, sizes = (o["eta_minus"], o["eta_plus"]), (o["min_step_size"], o["max_step_size"])
    difference = (
        "optax applies the update of the step before. It compares the sign of a gradient with that of this update, and "
        "torch with that of the gradient before"
    )
    return "Rprop", {"lr": o["learning_rate"], "etas": etas, "step_sizes": sizes}, difference


RULES: Mapping[str, Callable[[Options], Made]] = {
    "adadelta": _adadelta,
    "adagrad": _adagrad,
    "adam": _adam,
    "adamax": _adamax,
    "adamw": _adam,
    "amsgrad": _amsgrad,
    "nadam": _adam,
    "nadamw": _adam,
    "radam": _radam,
    "rmsprop": _rmsprop,
    "rprop": _rprop,
    "sgd": _sgd,
}

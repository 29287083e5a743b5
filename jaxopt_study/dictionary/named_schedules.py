"""A scheduler of torch.optim.lr_scheduler by its name and options; its code is that of a live one, by `schedules`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from jaxopt_study.dictionary.allowed import (
    COUNT,
    COUNT_OR_NONE,
    NOT_NEGATIVE,
    NUMBER,
    POSITIVE,
    REQUIRED,
    SWITCH,
    Allowed,
    DictionaryError,
    Options,
    Table,
    check,
    known,
    one_of,
)
from jaxopt_study.dictionary.calls import Call, read
from jaxopt_study.dictionary.periods import check_sequence
from jaxopt_study.dictionary.schedules import COUNT as STEPS
from jaxopt_study.dictionary.schedules import Facts, after_every, rate_of, refuse_what_is_no_function
from jaxopt_study.dictionary.translation import APPROXIMATE, CONDITIONS, Translation

MODULE = "torch.optim.lr_scheduler"
IN_SEQUENCE = (
    "ConstantLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "ExponentialLR", "LinearLR", "MultiStepLR",
    "PolynomialLR", "StepLR",
)  # fmt: skip
"""What a sequence may have: the others move the rate that they find, when they are made."""


def _whole(least: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= least


def _wholes(least: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, tuple) and all(map(_whole(least), value))


FACTOR = Allowed(lambda v: POSITIVE.test(v) and v <= 1, "a number in (0, 1]")
END_FACTOR = Allowed(lambda v: NOT_NEGATIVE.test(v) and v <= 1, "a number in [0, 1]")
CONSTANT_FACTOR = Allowed(FACTOR.test, FACTOR.words, by_torch=False)  # torch takes 0, and divides by it later
GAMMA = Allowed(NOT_NEGATIVE.test, NOT_NEGATIVE.words, by_torch=False)
ABOVE = Allowed(POSITIVE.test, POSITIVE.words, by_torch=False)
STEPS_OR_ZERO = Allowed(_whole(0), "a whole number of at least 0", by_torch=False)
MILESTONES = Allowed(_wholes(0), "whole numbers of at least 0, as 10,30", by_torch=False)
BOUNDARIES = Allowed(
    lambda v: _wholes(1)(v) and sorted(set(v)) == list(v), "whole numbers above 0 that grow, as 10,30", by_torch=False
)
SCHEDULERS = Allowed(
    lambda v: isinstance(v, tuple) and len(v) > 0 and all(isinstance(one, Call | str) for one in v),
    "a list of calls, as [LinearLR(total_iters=5),CosineAnnealingLR(T_max=45)]",
    by_torch=False,
)
PLACE = {"last_epoch": (-1, Allowed(lambda v: v == -1, "-1: the schedule begins at its step 0", by_torch=False))}
MOMENTUM = {
    "cycle_momentum": (True, SWITCH),
    "base_momentum": (0.8, NUMBER),
    "max_momentum": (0.9, NUMBER),
}

BESIDE: Table = {"lr": (1e-3, NOT_NEGATIVE), "every": (1, COUNT)}
"""What is not the scheduler's, and can be given with it; most of torch's optimizers have this learning rate."""
OPTIONS: Mapping[str, Table] = {
    "ChainedScheduler": {
        "schedulers": (REQUIRED, SCHEDULERS),
        "optimizer": (None, Allowed(lambda v: v is None, "left out", by_torch=False)),
    },
    "ConstantLR": {"factor": (1 / 3, CONSTANT_FACTOR), "total_iters": (5, STEPS_OR_ZERO), **PLACE},
    "CosineAnnealingLR": {
        "T_max": (REQUIRED, COUNT),
        "eta_min": (0.0, NUMBER),
        **PLACE,
    },
    "CosineAnnealingWarmRestarts": {
        "T_0": (REQUIRED, COUNT),
        "T_mult": (1, COUNT),
        "eta_min": (0.0, NUMBER),
        **PLACE,
    },
    "CyclicLR": {
        "base_lr": (REQUIRED, NOT_NEGATIVE),
        "max_lr": (REQUIRED, NOT_NEGATIVE),
        "step_size_up": (2000, ABOVE),
        "step_size_down": (
            None,
            Allowed(lambda v: v is None or NOT_NEGATIVE.test(v), "None or a number of at least 0", by_torch=False),
        ),
        "mode": ("triangular", one_of("triangular", "triangular2", "exp_range")),
        "gamma": (1.0, GAMMA),
        "scale_fn": (None, Allowed(lambda v: v is None, "None: give a function of yours as schedule=", by_torch=False)),
        "scale_mode": ("cycle", one_of("cycle", "iterations")),
        **MOMENTUM,
        **PLACE,
    },
    "ExponentialLR": {"gamma": (REQUIRED, GAMMA), **PLACE},
    "LinearLR": {
        "start_factor": (1 / 3, FACTOR),
        "end_factor": (1.0, END_FACTOR),
        "total_iters": (5, STEPS_OR_ZERO),
        **PLACE,
    },
    "MultiStepLR": {"milestones": (REQUIRED, MILESTONES), "gamma": (0.1, GAMMA), **PLACE},
    "OneCycleLR": {
        "max_lr": (REQUIRED, NOT_NEGATIVE),
        "total_steps": (None, COUNT_OR_NONE),
        "epochs": (None, COUNT_OR_NONE),
        "steps_per_epoch": (None, COUNT_OR_NONE),
        "pct_start": (0.3, Allowed(lambda v: isinstance(v, float) and 0 <= v <= 1, "a float in [0, 1]")),
        "anneal_strategy": ("cos", one_of("cos", "linear")),
        **MOMENTUM,
        "base_momentum": (0.85, NUMBER),
        "max_momentum": (0.95, NUMBER),
        "div_factor": (25.0, ABOVE),
        "final_div_factor": (1e4, ABOVE),
        "three_phase": (False, SWITCH),
        **PLACE,
    },
    "PolynomialLR": {"total_iters": (5, COUNT), "power": (1.0, GAMMA), **PLACE},
    "SequentialLR": {"schedulers": (REQUIRED, SCHEDULERS), "milestones": (REQUIRED, BOUNDARIES), **PLACE},
    "StepLR": {"step_size": (REQUIRED, COUNT), "gamma": (0.1, GAMMA), **PLACE},
}

REASONS: Mapping[str, str] = {
    "ChainedScheduler": "optax has no such schedule. It is the product of the factors",
    "ConstantLR": "torch goes back to the full rate after total_iters steps. optax.constant_schedule does not change",
    "CosineAnnealingLR": (
        "the same up to T_max. Then torch's rate rises again; that of optax.cosine_decay_schedule stays"
    ),
    "CosineAnnealingWarmRestarts": "optax.sgdr_schedule takes a list of cycles, each with a warm-up",
    "CyclicLR": "optax has no such schedule",
    "ExponentialLR": "the same as optax.exponential_decay",
    "LinearLR": "the same as optax.linear_schedule. Step 0 has the rate of the start, step total_iters that of the end",
    "MultiStepLR": "the same as optax.piecewise_constant_schedule. The step of a milestone has the new rate",
    "OneCycleLR": (
        "torch reaches its peak and its end one step before optax.cosine_onecycle_schedule. "
        "optax.linear_onecycle_schedule has a third phase"
    ),
    "PolynomialLR": "the same as optax.polynomial_schedule",
    "SequentialLR": (
        "as by optax.join_schedules. The decay_steps of optax.warmup_cosine_decay_schedule include the warm-up"
    ),
    "StepLR": "the same as optax.exponential_decay with staircase=True. Both fall at steps step_size, 2 step_size, ...",
}


def translate(name: str, options: Options) -> Translation:
    """Return a scheduler as a function from the number of steps made to the learning rate, in code.

    Args:
        name: The class, `CosineAnnealingLR` say.
        options: Its options; `lr`, the optimizer's learning rate; and `every`, see `schedules.translate_schedule`.

    Raises:
        DictionaryError: There is no such option, torch refuses a value, or it is no function of the steps alone.
    """
    beside = check(MODULE, BESIDE, {k: v for k, v in options.items() if k in BESIDE})
    values = check(f"{MODULE}.{name}", OPTIONS[name], {k: v for k, v in options.items() if k not in BESIDE})
    rate, every = beside["lr"], beside["every"]
    code = after_every(f"lambda {STEPS}: {rate_of(_facts(name, values, rate), 0, STEPS)}", every)
    status, condition = (
        CONDITIONS,
        f"if scheduler.step() follows {'each' if every == 1 else f'every {every}th'} optimizer.step()",
    )
    if name not in ("CyclicLR", "OneCycleLR"):
        condition += f", and the optimizer has lr={rate}"
    elif values["cycle_momentum"]:
        status = APPROXIMATE
        condition += (
            ". torch changes momentum or beta1 too, unless cycle_momentum=False; this code is the learning rate alone"
        )
    shown = {option: value for option, value in values.items() if option not in ("optimizer", "last_epoch")}
    return Translation(name, shown, code, status, REASONS[name], condition, module=MODULE, makes="schedule")


def _facts(name: str, values: Mapping[str, Any], rate: float) -> Facts:
    """Return the attributes that torch's scheduler would have."""
    group = {"lr": rate}
    made = MADE[name](values, group) if name in MADE else {}
    facts = {"base_lrs": [rate], "optimizer": SimpleNamespace(param_groups=[group])}
    return Facts(**{"name": name, **values, **facts, **made})


def _multi_step(values: Mapping[str, Any], _group: dict[str, Any]) -> dict[str, Any]:
    return {"milestones": Counter(values["milestones"])}


def _cyclic(values: Mapping[str, Any], _group: dict[str, Any]) -> dict[str, Any]:
    up, down = values["step_size_up"], values["step_size_down"]
    size = float(up) + float(up if down is None else down)
    rates = {"base_lrs": [values["base_lr"]], "max_lrs": [values["max_lr"]]}
    return rates | {"total_size": size, "step_ratio": float(up) / size}


def _one_cycle(values: Mapping[str, Any], group: dict[str, Any]) -> dict[str, Any]:
    steps = values["total_steps"] or (values["epochs"] or 0) * (values["steps_per_epoch"] or 0)
    if not steps:
        raise DictionaryError(f"{MODULE}.OneCycleLR needs total_steps, or epochs and steps_per_epoch")
    start = values["max_lr"] / values["div_factor"]
    group |= {"initial_lr": start, "max_lr": values["max_lr"], "min_lr": start / values["final_div_factor"]}
    end = float(values["pct_start"] * steps)
    if end == 1:
        raise DictionaryError(f"{MODULE}.OneCycleLR with a rise of one step cannot be translated: torch divides by 0")
    phases = [("initial_lr", "max_lr", end - 1), ("max_lr", "min_lr", steps - 1)]
    if values["three_phase"]:
        last = float(2 * values["pct_start"] * steps) - 2
        phases[1:] = [("max_lr", "initial_lr", last), ("initial_lr", "min_lr", steps - 1)]
    keys = ("start_lr", "end_lr", "end_step")
    made = [dict(zip(keys, phase, strict=True)) for phase in phases]
    return {"_schedule_phases": made, "_anneal_func_type": values["anneal_strategy"]}


def _many(values: Mapping[str, Any], group: dict[str, Any]) -> dict[str, Any]:
    calls = [read(one) if isinstance(one, str) else one for one in values["schedulers"]]
    made = []
    for call in calls:
        refuse_what_is_no_function(call.name)
        check_sequence([call.name], (), ())
        if call.name in OPTIONS and call.name not in IN_SEQUENCE:
            raise DictionaryError(f"{call.name} in a list of schedulers: translate the live object by scheduler=")
        table = OPTIONS[known("scheduler", call.name, IN_SEQUENCE)]
        made.append(_facts(call.name, check(f"{MODULE}.{call.name}", table, call.by_name(table)), group["lr"]))
    milestones = values.get("milestones", ())
    if "milestones" in values and len(milestones) != len(made) - 1:
        raise DictionaryError(
            f"{MODULE}.SequentialLR refuses {len(milestones)} milestones for {len(made)} schedulers: one fewer"
        )
    return {"_schedulers": made, "_milestones": milestones}


MADE: Mapping[str, Callable[[Mapping[str, Any], dict[str, Any]], dict[str, Any]]] = {
    "ChainedScheduler": _many,
    "CyclicLR": _cyclic,
    "MultiStepLR": _multi_step,
    "OneCycleLR": _one_cycle,
    "SequentialLR": _many,
}
"""What torch's constructor makes of the options; of the other schedulers, each option is an attribute."""

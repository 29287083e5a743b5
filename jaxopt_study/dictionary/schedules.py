"""From a live scheduler of torch.optim.lr_scheduler to a function of the number of steps made, as code.

The code is in terms of `c`, the steps made, and of `jnp`. It uses `c * 1.0` where it divides: under x64 JAX makes
float32 of a quotient of int32 numbers, which is 1e-8 of the learning rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from jaxopt_study.dictionary.allowed import COUNT as COUNT_OF_STEPS
from jaxopt_study.dictionary.allowed import DictionaryError, plain, short
from jaxopt_study.dictionary.periods import check_periods, check_sequence

__all__ = ["translate_schedule"]

COUNT = "c"
"""The name of the steps made in the code."""
SAME, TINY = 1e-6, 1e-12
"""How far the code's rate may be from the optimizer's: relative, for a tensor of float32, and absolute."""
Rule = Callable[[Any, int, str, str], str]
"""rule(facts, group, steps, base): code for the learning rate of a group after `steps`; they and `base` are code too.

`facts` are the scheduler's attributes."""


def translate_schedule(scheduler: Any, group: int = 0, every: int = 1) -> str:
    """Return code for a function from the number of steps made to the learning rate.

    It is the rate of the scheduler from its first step on.

    Args:
        scheduler: A live object of `torch.optim.lr_scheduler`; only its attributes are read.
        group: The place of the parameter group whose learning rate it is.
        every: After how many `optimizer.step()` one `scheduler.step()` follows: 1, or the steps of an epoch.

    Raises:
        DictionaryError: It is no scheduler of torch, or one that calls a function of the user's or reads the loss; or
            `every` is no whole number above 0.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1)
        >>> translate_schedule(torch.optim.lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.5))
        'lambda c: 0.1 * jnp.exp(-0.6931471805599453 * (c // 10))'
    """
    code = f"lambda {COUNT}: {rate_of(scheduler, group, COUNT)}"
    _check(code, scheduler, group)
    return after_every(code, every)


def after_every(code: str, every: int) -> str:
    """Return the code of a schedule whose scheduler steps after every so many optimizer steps."""
    if not COUNT_OF_STEPS.test(every):
        raise DictionaryError(f"every={short(every)} must be a whole number of at least 1: of optimizer steps")
    return code if every == 1 else f"lambda {COUNT}: ({code})({COUNT} // {every})"


def place(scheduler: Any) -> int:
    """Return the steps that a scheduler made."""
    own = getattr(scheduler, "last_epoch", None)
    return place(scheduler._schedulers[0]) if own is None else int(own)


def _check(code: str, scheduler: Any, group: int) -> None:
    """Refuse a schedule that is not at the optimizer's rate: torch multiplies what it finds there."""
    steps, rate = place(scheduler), float(scheduler.optimizer.param_groups[group]["lr"])
    with np.errstate(all="ignore"):
        expected = float(eval(code, {"jnp": np})(np.int64(steps)))
    if not abs(expected - rate) <= SAME * max(abs(rate), abs(expected)) + TINY:
        raise DictionaryError(
            f"after {steps} steps the scheduler gives the learning rate {expected:.6g}, and the optimizer has "
            f"{rate:.6g}: it was set by hand, loaded, or moved by a second scheduler; give schedule="
        )


class Facts(SimpleNamespace):
    """The attributes of a scheduler, live or to be, with its `name`."""


def rate_of(scheduler: Any, group: int, steps: str, base: str | None = None) -> str:
    """Return code for the rate after `steps`; `base` is the rate that it multiplies, if not the group's own."""
    facts = scheduler if isinstance(scheduler, Facts) else _facts(scheduler)
    check_periods(facts.name, facts)
    return RULES[facts.name](facts, group, steps, base or _base(facts, group))


def _facts(scheduler: Any) -> Facts:
    name, module = type(scheduler).__name__, type(scheduler).__module__
    if not module.startswith("torch.optim.") and name in (*RULES, *REFUSED):
        raise DictionaryError(f"{name} is of {module}, not torch.optim's: its rule may differ")
    refuse_what_is_no_function(name)
    if name not in RULES:
        raise DictionaryError(f"{name} is not in the dictionary: choose from {', '.join(RULES)}")
    # NumPy's numbers and tensors as Python's: what is written of them is code.
    return Facts(name=name, **{option: plain(option, value) for option, value in vars(scheduler).items()})


def refuse_what_is_no_function(name: str) -> None:
    """Raise for a scheduler that is no function of the number of steps alone."""
    if name in REFUSED:
        raise DictionaryError(f"{name} {REFUSED[name]}")


def _base(facts: Facts, group: int) -> str:
    rates: Sequence[Any] = getattr(facts, "base_lrs", None) or [
        g.get("initial_lr", g["lr"]) for g in facts.optimizer.param_groups
    ]
    if not 0 <= group < len(rates):
        raise DictionaryError(f"the scheduler knows {len(rates)} groups: one was added later; give schedule=")
    return repr(float(rates[group]))


def _power(base: float, exponent: str) -> str:
    """Return code for base ** exponent; its logarithm is taken here, since float32 of a base near 1 loses digits."""
    return f"jnp.exp({math.log(base)!r} * {exponent})" if base > 0 else f"({base!r}) ** {exponent}"


def _exact(steps: str) -> str:
    """Return the steps as a floating point number."""
    return f"({steps} * 1.0)"


def _step(s: Any, _group: int, steps: str, base: str) -> str:
    return f"{base} * {_power(s.gamma, f'({steps} // {s.step_size!r})')}"


def _multi_step(s: Any, _group: int, steps: str, base: str) -> str:
    # A milestone that is given twice multiplies twice.
    milestones = [int(m) for m, times in sorted(s.milestones.items()) for _ in range(times)]
    passed = " + ".join(f"1 * ({steps} >= {milestone!r})" for milestone in milestones) or "0"
    return f"{base} * {s.gamma!r} ** ({passed})"


def _exponential(s: Any, _group: int, steps: str, base: str) -> str:
    return f"{base} * {_power(s.gamma, _exact(steps))}"


def _constant(s: Any, _group: int, steps: str, base: str) -> str:
    if s.total_iters == 0:  # torch multiplies at the first step, and never divides; in a sequence it does not multiply
        return f"{base} * {s.factor!r}" if steps == COUNT else base
    return f"{base} * jnp.where({steps} < {s.total_iters!r}, {s.factor!r}, 1.0)"


def _linear(s: Any, _group: int, steps: str, base: str) -> str:
    if s.total_iters == 0:
        return f"{base} * {s.start_factor!r}"
    gone = f"jnp.minimum({_exact(steps)} / {s.total_iters!r}, 1.0)"
    return f"{base} * ({s.start_factor!r} + ({s.end_factor!r} - {s.start_factor!r}) * {gone})"


def _polynomial(s: Any, _group: int, steps: str, base: str) -> str:
    # What is left, not 1 - what is gone: XLA divides by multiplying, and a root would make 1e-8 of the rounding at 0.
    left = f"jnp.maximum({s.total_iters!r} - {steps}, 0)"
    return f"{base} * ({_exact(left)} / {s.total_iters!r}) ** {s.power!r}"


def _cosine(s: Any, _group: int, steps: str, base: str) -> str:
    # The remainder, since float32 of many periods has few digits left for the place in one.
    place = f"({steps} % {2 * s.T_max!r})" if isinstance(s.T_max, int) else steps
    return _wave(base, repr(float(s.eta_min)), f"{_exact(place)} / {s.T_max!r}")


def _wave(high: str, low: str, share: str) -> str:
    return f"{low} + ({high} - {low}) * (1 + jnp.cos(jnp.pi * ({share}))) / 2"


def _warm_restarts(s: Any, _group: int, steps: str, base: str) -> str:
    low, period = repr(float(s.eta_min)), s.T_0
    if s.T_mult == 1:
        return _wave(base, low, f"{_exact(f'({steps} % {period!r})')} / {period!r}")
    starts = [0]
    while starts[-1] < 2**31 - 1 - period:  # as far as a count of steps goes
        starts.append(starts[-1] + period)
        period *= s.T_mult
    begins, number = f"jnp.array({starts!r})", f"jnp.searchsorted(jnp.array({starts[1:]!r}), {steps}, side='right')"
    share = f"{_exact(f'({steps} - {begins}[{number}])')} / ({s.T_0!r} * {s.T_mult!r} ** ({number} * 1.0))"
    return _wave(base, low, share)


def _cyclic(s: Any, group: int, steps: str, _base: str) -> str:
    if getattr(s, "_scale_fn_custom", None) is not None:
        raise DictionaryError("CyclicLR with a scale_fn calls a function of yours: give schedule=, and write it there")
    low, high = (float(rates[group]) for rates in (s.base_lrs, s.max_lrs))
    # The remainder, since float32 of many cycles has few digits left for the place in one.
    size, ratio = int(s.total_size), s.step_ratio
    x = f"({_exact(f'({steps} % {size!r})')} / {size!r})"
    height = f"jnp.where({x} <= {ratio!r}, {x} / {ratio!r}, ({x} - 1) / {ratio - 1 or -1.0!r})"
    scale = {"triangular": "1.0", "triangular2": f"0.5 ** ({steps} // {size!r})", "exp_range": None}[s.mode]
    if scale is None:  # torch sets its scale_mode to "iterations" then, whatever is given
        scale = _power(s.gamma, _exact(steps))
    return f"{low!r} + {high - low!r} * {height} * {scale}"


def _one_cycle(s: Any, group: int, steps: str, _base: str) -> str:
    # Past its last step torch raises: here the last rate stays.
    steps = f"jnp.minimum({steps}, {int(s._schedule_phases[-1]['end_step'])!r})"
    rates = s.optimizer.param_groups[group]
    code, start = "", 0.0
    for phase in s._schedule_phases:
        first, last, end = (float(v) for v in (rates[phase["start_lr"]], rates[phase["end_lr"]], phase["end_step"]))
        share = f"({_exact(steps)} - {start!r}) / {end - start!r}" if end > start else "1.0"
        cosine = s._anneal_func_type == "cos"
        rate = _wave(repr(first), repr(last), share) if cosine else f"{first!r} + ({last!r} - {first!r}) * ({share})"
        code += f"jnp.where({steps} <= {end!r}, {rate}, " if phase is not s._schedule_phases[-1] else f"({rate})"
        start = end
    return code + ")" * (len(s._schedule_phases) - 1)


def _sequential(s: Any, group: int, steps: str, _base: str) -> str:
    """At a milestone torch begins the next scheduler at its step 0."""
    names = [getattr(one, "name", type(one).__name__) for one in s._schedulers]
    check_sequence(names, s._schedulers, s._milestones)
    starts = [0, *s._milestones]
    since = [f"({steps} - {start!r})" if start else steps for start in starts]
    rates = [rate_of(one, group, made) for one, made in zip(s._schedulers, since, strict=True)]
    code = rates[-1]
    for rate, end in zip(rates[-2::-1], s._milestones[::-1], strict=True):
        code = f"jnp.where({steps} < {end!r}, {rate}, {code})"
    return code


def _chained(s: Any, group: int, steps: str, base: str) -> str:
    """Each multiplies what the one before left, where it is one that multiplies."""
    code = base
    for one in s._schedulers:
        name = getattr(one, "name", type(one).__name__)
        if name not in MULTIPLYING:
            raise DictionaryError(
                f"ChainedScheduler with {name}, which is no plain factor of the rate: give schedule=, or "
                "use SequentialLR"
            )
        code = rate_of(one, group, steps, f"({code})" if code != base else base)
    return code


RULES: dict[str, Rule] = {
    "ChainedScheduler": _chained,
    "ConstantLR": _constant,
    "CosineAnnealingLR": _cosine,
    "CosineAnnealingWarmRestarts": _warm_restarts,
    "CyclicLR": _cyclic,
    "ExponentialLR": _exponential,
    "LinearLR": _linear,
    "MultiStepLR": _multi_step,
    "OneCycleLR": _one_cycle,
    "PolynomialLR": _polynomial,
    "SequentialLR": _sequential,
    "StepLR": _step,
}
MULTIPLYING = ("ConstantLR", "ExponentialLR", "LinearLR", "MultiStepLR", "PolynomialLR", "StepLR")
"""What these do to a learning rate is a factor, whatever the rate is."""

_OF_YOURS = "calls a function of yours: give schedule=, and write it there"
REFUSED: Mapping[str, str] = {
    "LambdaLR": _OF_YOURS,
    "MultiplicativeLR": _OF_YOURS,
    "ReduceLROnPlateau": 'reads the loss, and is no function of the steps: see translate("ReduceLROnPlateau", ...)',
    "SWALR": "begins at whatever rate it finds: give schedule=, and write it there",
}

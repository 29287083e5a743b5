"""What torch has a name for, optimizers and what stands around them, in JAX: one function for every kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from jaxopt_study.dictionary import averages, clipping, initializers, named_schedules, others, plateau, rules
from jaxopt_study.dictionary.allowed import PREFIXES, DictionaryError, Options, Table, short, unknown
from jaxopt_study.dictionary.calls import read
from jaxopt_study.dictionary.options import OPTIONS
from jaxopt_study.dictionary.schedules import refuse_what_is_no_function
from jaxopt_study.dictionary.translation import Translation

WITHOUT_TARGET = ("ChainedScheduler", *averages.FUNCTIONS)
"""Functions of torch whose first argument is an option."""
OUT_OF_SCOPE: Mapping[str, str] = {
    "GradScaler": "it keeps gradients of float16 from underflow; train in bfloat16 or float32, as JAX's users do",
}
Kind = tuple[Mapping[str, Table], Callable[[str, Options], Translation]]
AROUND: Mapping[str, Kind] = {
    "schedule": (named_schedules.OPTIONS, named_schedules.translate),
    "plateau": (plateau.OPTIONS, plateau.translate),
    "clipping": (clipping.OPTIONS, clipping.translate),
    "initializer": (initializers.OPTIONS, initializers.translate),
    "average": (averages.OPTIONS, averages.translate),
}
"""What stands around an optimizer: the options of every function of a kind, and its translation."""


def translate(name: str, options: Options, learning_rate: str = "") -> Translation:
    """Return the translation of what torch has under a name.

    Args:
        name: A class or function, `RMSprop` or `clip_grad_norm_` say, or a call of it as it stands in a script.
        options: What differs from torch's defaults; with a call of a scheduler, `lr` and `every`.
        learning_rate: Of an optimizer, code for a schedule instead of the option `lr`.

    Raises:
        DictionaryError: There is no such name or option, torch refuses a value, or it cannot be translated.
    """
    if "(" in name:
        call = read(name)
        table = table_of(call.name)
        if second := [o for o in options if o not in named_schedules.BESIDE or call.name in OPTIONS]:
            raise DictionaryError(f"{short(name)} has its options already: {second[0]} cannot be given")
        name, options = call.name, call.by_name(table, target=call.name not in WITHOUT_TARGET) | dict(options)
    name = re.sub(PREFIXES, "", name)
    table_of(name)
    for names, translated in AROUND.values():
        if name in names:
            if learning_rate:
                raise DictionaryError(f"{name} is no optimizer: it cannot have a schedule")
            try:
                return translated(name, options)
            except OverflowError:
                raise DictionaryError(f"{name} with so large a number cannot be translated") from None
    return rules.translate(name, options, learning_rate)


def table_of(name: str) -> Table:
    """Return the options of a name, or raise: with the nearest of all names, or what optax has under it."""
    for names in (OPTIONS, *(names for names, _ in AROUND.values())):
        if name in names:
            return names[name]
    refuse_what_is_no_function(name)
    if name in OUT_OF_SCOPE:
        raise DictionaryError(f"{name} is out of scope: {OUT_OF_SCOPE[name]}")
    if place := others.place(name):
        raise DictionaryError(f"torch.optim has no {name}; {place} has it")
    raise unknown("torch.optim class", name, OPTIONS, [other for names, _ in AROUND.values() for other in names])

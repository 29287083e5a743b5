"""What an option may be, and how a choice of options is completed: for every function of torch that is in a table."""

from __future__ import annotations

import difflib
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
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
        infinite: Whether a value may be infinite.
    """

    test: Callable[[Any], bool]
    words: str
    by_torch: bool = True
    infinite: bool = False


Table = Mapping[str, tuple[Any, Allowed]]
"""The options of a function of torch, in its order: default and what is allowed."""
REQUIRED = object()
"""The default of an option that must be given."""


def _number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= LARGEST or value in (math.inf, -math.inf)


LARGEST = sys.float_info.max


def _all(count: int, test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, tuple) and len(value) == count and all(test(item) for item in value)


def one_of(*words: str | bool | None) -> Allowed:
    """Return what accepts these words alone."""
    return Allowed(lambda value: value in words, f"{', '.join(map(str, words[:-1]))} or {words[-1]}")


NUMBER = Allowed(_number, "a number")
NOT_NEGATIVE = Allowed(lambda v: _number(v) and v >= 0, "a number of at least 0")
NOT_POSITIVE = Allowed(lambda v: _number(v) and v <= 0, "a number of at most 0")
FRACTION = Allowed(lambda v: _number(v) and 0 <= v <= 1, "a number in [0, 1]")
AT_LEAST_ONE = Allowed(lambda v: _number(v) and v >= 1, "a number of at least 1")
SWITCH = Allowed(lambda v: isinstance(v, bool), "True or False")
COUNT = Allowed(
    lambda v: isinstance(v, int) and not isinstance(v, bool) and 1 <= v < 2**31,
    "a whole number of at least 1 and below 2^31",
    by_torch=False,
)
COUNT_OR_NONE = Allowed(lambda v: v is None or COUNT.test(v), f"{COUNT.words}, or None", by_torch=False)
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
SEARCH = one_of(None, "strong_wolfe")
ADJUST = one_of(None, "original", "match_rms_adamw")


def complete(where: str, table: Table, options: Options, ignored: Sequence[str] = ()) -> dict[str, Any]:
    """Return the options of a function with every default filled in, without asking what torch refuses.

    Args:
        where: The function, `torch.optim.RMSprop` say.
        table: Its options.
        options: What differs from torch's defaults. Numbers may be Python's, NumPy's or tensors of one element.
        ignored: Switches that have no say in the mathematics; they are dropped.

    Raises:
        DictionaryError: There is no such option, one is needed, or a value is infinite or NaN.
    """
    values = {option: default for option, (default, _) in table.items()}
    for option, given in options.items():
        value = plain(option, given)
        if option in ignored:
            if value not in (None, True, False):
                raise _refusal(where, option, value, SWITCH)
            continue
        known(f"option of {where}", option, [*table, *ignored])
        numbers = [v for v in (value if isinstance(value, tuple) else (value,)) if isinstance(v, float)]
        if any(map(math.isinf, numbers)) and not table[option][1].infinite:
            raise DictionaryError(f"{option}={value!r} cannot be translated: torch takes it, but no training has it")
        if any(map(math.isnan, numbers)):
            raise _refusal(where, option, value, table[option][1])
        values[option] = value
    for option, value in values.items():
        if value is REQUIRED:
            raise DictionaryError(f"{where} needs {option}: {table[option][1].words}")
    return values


def check(where: str, table: Table, options: Options, ignored: Sequence[str] = ()) -> dict[str, Any]:
    """Return the same, or raise what torch refuses, and what cannot be translated."""
    values = complete(where, table, options, ignored)
    for option, (_, allowed) in table.items():
        if not allowed.test(values[option]):
            raise _refusal(where, option, values[option], allowed)
    return values


def _refusal(where: str, option: str, value: Any, allowed: Allowed) -> DictionaryError:
    who = f"{where} refuses" if allowed.by_torch else "cannot be translated:"
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


def known(kind: str, name: str, names: Iterable[str]) -> str:
    """Return the name if it is one of `names`; else raise."""
    if name in names:
        return name
    raise unknown(kind, name, names)


def unknown(kind: str, name: str, names: Iterable[str], others: Iterable[str] = ()) -> DictionaryError:
    """Return the error for a name that is none of `names`: with all of them, or with the nearest if it is of `others`.

    Args:
        kind: What the names are.
        name: What was given.
        names: What is allowed.
        others: Names of other kinds, which may have been meant.
    """
    by_lower = {item.lower(): item for item in [*others, *names]}
    near = difflib.get_close_matches(re.sub(PREFIXES, "", str(name)[:90].lower())[:60], by_lower, n=1)
    meant = [other for other in OTHER_WORDS.get(name, ()) if other in names] or [by_lower[word] for word in near]
    if meant and meant[0] not in names:
        return DictionaryError(f"{short(name)} is unknown: did you mean {meant[0]}?")
    hint = f"; did you mean {meant[0]}?" if meant else ""
    return DictionaryError(f"unknown {kind} {short(name)}: choose from {', '.join(names)}{hint}")


OTHER_WORDS: Mapping[str, tuple[str, ...]] = {
    "learning_rate": ("lr",),
    "lr": ("learning_rate",),
    "b1": ("betas",),
    "b2": ("betas",),
    "beta1": ("betas", "b1"),
    "beta2": ("betas", "b2"),
    "betas": ("b1",),
    "alpha": ("decay",),
    "decay": ("alpha", "rho"),
    "wd": ("weight_decay",),
}
"""The other framework's word for an option -> what it may be here."""


PREFIXES = r"^(torch\.|optim\.|lr_scheduler\.|swa_utils\.|amp\.|nn\.|init\.|utils\.)+"
"""Of names as they stand in a script."""

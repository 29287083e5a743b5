"""Values that a user gave, checked: each is what is allowed, or refused in one line."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable


class ConfigError(ValueError):
    """What was asked for cannot be done; the message is one line that names the value and what is allowed."""


def some_of(kind: str, names: Iterable[str], allowed: Iterable[str]) -> tuple[str, ...]:
    """Return the names without repetition, commas taken apart."""
    parts = separated(names)
    if not parts:
        raise ConfigError(f"no {kind} given: choose from {', '.join(allowed)}")
    return tuple(dict.fromkeys(one_of(kind, part, allowed) for part in parts))


def separated(names: Iterable[str]) -> list[str]:
    """Return the names, commas taken apart but for those in brackets."""
    names = (names,) if isinstance(names, str) else names
    parts: list[str] = []
    for name in names:
        depth, begin = 0, 0
        for place, character in enumerate(f"{name},"):
            depth += (character in "([{") - (character in ")]}")
            if character == "," and depth <= 0:
                parts.append(str(name)[begin:place].strip())
                begin = place + 1
        parts.append(str(name)[begin:].strip())  # an open bracket: what it is, is said where it is read
    return [part for part in parts if part]


def one_of(kind: str, name: str, allowed: Iterable[str]) -> str:
    """Return the name, if it is allowed."""
    if name in (choices := list(allowed)):
        return name
    near = difflib.get_close_matches(str(name).lower(), choices, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"unknown {kind} {name!r}: choose from {', '.join(choices)}{hint}")


def whole(option: str, value: int, least: int = 1, most: int = 10**6) -> int:
    """Return the whole number, if it is neither too small nor too large."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{option} {value!r} is not a whole number of at least {least}")
    if value > most:
        raise ConfigError(f"{option} {value!r} is more than {most}")
    return value


def positive(option: str, value: float) -> float:
    """Return the number, if it is positive and finite."""
    if not (isinstance(value, int | float) and math.isfinite(value) and value > 0):
        raise ConfigError(f"{option} {value!r} is not a positive and finite number")
    return float(value)

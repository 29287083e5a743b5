"""What a scheduler's numbers must be to be translated; torch itself takes more of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxopt_study.dictionary.allowed import DictionaryError, short

LARGEST = 2**31 - 1
"""As far as a count of steps goes."""
WHOLE: Mapping[str, tuple[str, ...]] = {
    "ConstantLR": ("total_iters",),
    "CosineAnnealingLR": ("T_max",),
    "CosineAnnealingWarmRestarts": ("T_0", "T_mult"),
    "CyclicLR": ("total_size",),
    "LinearLR": ("total_iters",),
    "MultiStepLR": ("milestones",),
    "PolynomialLR": ("total_iters",),
    "StepLR": ("step_size",),
}
"""Of each scheduler the attributes that count steps."""


def check_periods(name: str, facts: Any) -> None:
    """Refuse periods that are no counts of steps, and decay below 0.

    Raises:
        DictionaryError: There is such a one.
    """
    for option in WHOLE.get(name, ()):
        given = getattr(facts, option)
        for number in given if isinstance(given, Mapping) else [given]:
            if not 0 <= number <= LARGEST or number != int(number):
                words = f"a whole number of at least 0 and at most {LARGEST:,}"
                raise DictionaryError(f"{name} with {option}={short(number)} cannot be translated: give {words}")
    if getattr(facts, "gamma", 1) < 0:
        raise DictionaryError(f"{name} with gamma={facts.gamma} cannot be translated: give a number of at least 0")


def check_sequence(names: Sequence[str], facts: Sequence[Any], milestones: Sequence[int]) -> None:
    """Refuse sequences in which torch fails at a milestone, or steps a scheduler once more than its place says.

    Raises:
        DictionaryError: It is such a one.
    """
    nested = [name for name in names if name in ("SequentialLR", "ChainedScheduler")]
    if nested:
        raise DictionaryError(f"{nested[0]} in a SequentialLR cannot be translated: torch loses a step, or fails there")
    if list(milestones) != sorted(milestones):
        raise DictionaryError(f"SequentialLR with milestones={list(milestones)} cannot be translated: they must grow")
    if any(n == "LinearLR" and s.total_iters == 0 for n, s in zip(names[1:], facts[1:], strict=True)):
        raise DictionaryError("a later LinearLR with total_iters=0 cannot be translated: torch divides by 0")

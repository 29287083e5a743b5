"""How many steps each group of a torch optimizer made: optax counts them once for a group, torch for each parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from jaxopt_study.dictionary import DictionaryError
from jaxopt_study.dictionary.schedules import place
from jaxopt_study.port.members import Member

COUNTLESS = ("LBFGS", "Muon", "SGD")
"""Classes that do not count the steps of a parameter."""


def steps_made(
    optimizer: torch.optim.Optimizer, members: Mapping[str, Member], scheduler: Any, steps: int | None
) -> dict[str, int]:
    """Return the steps that each group made by its label, as far as they are known.

    Args:
        optimizer: The torch optimizer.
        members: Its parameters.
        scheduler: Its scheduler, if it has one.
        steps: The steps made, instead of a scheduler that says it.

    Raises:
        DictionaryError: The parameters of one group, or a group and its scheduler, made different numbers of steps, or
            a scheduler is at work and is not given.
    """
    said = _said(optimizer, scheduler, steps)
    found = {}
    for label in map(str, range(len(optimizer.param_groups))):
        own = _own(optimizer, label, [m for m in members.values() if m.label == label and m.tensor.requires_grad])
        if None not in (own, said) and own != said:
            raise DictionaryError(f"group {label} made {own} steps, and its scheduler {said}: optax counts them once")
        if (own, said) != (None, None):
            found[label] = said if own is None else own
    return found  # type: ignore[return-value]


def _said(optimizer: torch.optim.Optimizer, scheduler: Any, steps: int | None) -> int | None:
    if scheduler is None:
        if steps is None and any("initial_lr" in group for group in optimizer.param_groups):
            raise DictionaryError("the optimizer has a scheduler: give scheduler=, or steps=, the steps that it made")
        return steps
    if steps is not None:
        raise DictionaryError("steps= cannot be given with scheduler=, which says it")
    if getattr(scheduler, "optimizer", None) is not optimizer:
        raise DictionaryError("scheduler is not the optimizer's: give the one that was made for it")
    return place(scheduler)


def _own(optimizer: torch.optim.Optimizer, label: str, members: list[Member]) -> int | None:
    """Return the steps that torch counted for a group, which must be the same for all its parameters."""
    counts = {m.name: int(m.state.get("step", bool(m.state))) for m in members}
    kind, damped = type(optimizer).__name__, optimizer.param_groups[int(label)].get("dampening")
    if len(set(counts.values())) > 1 and (damped or kind not in COUNTLESS):
        low, high = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
        raise DictionaryError(
            f"{low} made {counts[low]} steps and {high} {counts[high]}: optax counts once for a group; put them into "
            "groups of their own"
        )
    return None if kind in COUNTLESS else next(iter(counts.values()), None)

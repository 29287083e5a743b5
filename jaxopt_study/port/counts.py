"""How many steps each group of a torch optimizer made: optax counts them once for a group, torch for each parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from jaxopt_study.dictionary import DictionaryError
from jaxopt_study.dictionary.schedules import place
from jaxopt_study.port.members import Member
from jaxopt_study.terminal import counted

COUNTLESS = ("Muon", "SGD")
"""Classes that do not count the steps of a parameter."""


def steps_made(
    optimizer: torch.optim.Optimizer, members: Mapping[str, Member], scheduler: Any, every: int, steps: int | None
) -> dict[str, int]:
    """Return the steps that each group made by its label, as far as they are known.

    Args:
        optimizer: The torch optimizer.
        members: Its parameters.
        scheduler: Its scheduler, if it has one.
        every: After how many optimizer steps it made one.
        steps: The steps made, where the optimizer does not count them.

    Raises:
        DictionaryError: The parameters of one group, or a group and its scheduler, made different numbers of steps, or
            a scheduler is at work and is not given.
    """
    if not isinstance(every, int) or every < 1 or (steps is not None and (not isinstance(steps, int) or steps < 0)):
        raise DictionaryError(f"every={every!r} must be at least 1, and steps={steps!r} at least 0: whole numbers")
    gone = gone_of(optimizer, scheduler, steps)
    found = {}
    for label in map(str, range(len(optimizer.param_groups))):
        own = _own(optimizer, label, [m for m in members.values() if m.label == label and m.tensor.requires_grad])
        if own is not None and steps is not None and own != steps:
            raise DictionaryError(f"group {label} made {counted(own, 'step')}, not steps={steps}")
        made = next((n for n in (own, steps, gone if every == 1 else None) if n is not None), None)
        if made is None:
            continue
        if gone is not None and made // every != gone:
            rarely = f", one after every {every}" if every > 1 else ""
            raise DictionaryError(
                f"group {label} made {counted(made, 'step')}, and its scheduler {gone}{rarely}: they do not fit"
            )
        found[label] = made
    return found


def gone_of(optimizer: torch.optim.Optimizer, scheduler: Any, steps: int | None) -> int | None:
    """Return the steps that the scheduler made."""
    if scheduler is None:
        if steps is None and any("initial_lr" in group for group in optimizer.param_groups):
            raise DictionaryError("the optimizer has a scheduler: give scheduler=")
        return None
    if getattr(scheduler, "optimizer", None) is not optimizer:
        raise DictionaryError("scheduler is not the optimizer's: give the one that was made for it")
    return place(scheduler)


def _own(optimizer: torch.optim.Optimizer, label: str, members: list[Member]) -> int | None:
    """Return the steps that torch counted for a group, which must be the same for all its parameters."""
    counts = {m.name: int(m.state.get("step", bool(m.state))) for m in members}
    if type(optimizer).__name__ == "LBFGS":
        return max((int(state.get("n_iter", 0)) for state in optimizer.state.values()), default=0)
    kind, damped = type(optimizer).__name__, optimizer.param_groups[int(label)].get("dampening")
    if len(set(counts.values())) > 1 and (damped or kind not in COUNTLESS):
        low, high = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
        raise DictionaryError(
            f"{low} made {counted(counts[low], 'step')} and {high} {counts[high]}: optax counts once for a group; "
            "put them into groups of their own"
        )
    return None if kind in COUNTLESS else next(iter(counts.values()), None)

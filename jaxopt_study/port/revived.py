"""A live torch optimizer from its saved state: its parameters are those of the checkpoint's model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from jaxopt_study.dictionary import DictionaryError
from jaxopt_study.dictionary.live import GROUP_KEYS
from jaxopt_study.dictionary.options import IMPLEMENTATION, OPTIONS
from jaxopt_study.port.files import Checkpoint
from jaxopt_study.port.matching import is_statistic

LATER = ("maximize", "decoupled_weight_decay")
"""Options that older releases of PyTorch did not have."""


def optimizer_of(name: str, checkpoint: Checkpoint) -> torch.optim.Optimizer:
    """Return a live optimizer of this class with the checkpoint's options and state.

    A parameter of which it keeps nothing, while it does of others, never had a gradient: it is frozen here.

    Raises:
        DictionaryError: There is no optimizer, the class is unknown, its options are not those of the checkpoint, or
            nothing says which parameters it has.
    """
    if name not in OPTIONS:
        raise DictionaryError(f"--optimizer {name}: choose from {', '.join(OPTIONS)}")
    if checkpoint.optimizer is None:
        raise DictionaryError(f"--optimizer {name}: the checkpoint has no optimizer's state")
    return _revived(name, checkpoint.optimizer, checkpoint)


def _revived(name: str, saved: Mapping[str, Any], checkpoint: Checkpoint) -> torch.optim.Optimizer:
    groups = saved.get("param_groups")
    if not isinstance(groups, Sequence) or not groups or not isinstance(saved.get("state"), Mapping):
        raise DictionaryError("the checkpoint's optimizer is no state_dict of torch.optim: it has no param_groups")
    for group in groups:
        missing = [option for option in OPTIONS[name] if option not in group and option not in LATER]
        odd = [*missing, *sorted(group.keys() - {*OPTIONS[name], *IMPLEMENTATION, *GROUP_KEYS, *LATER})]
        if odd:
            raise DictionaryError(f"--optimizer {name} does not fit the checkpoint's options: {', '.join(odd)}")
    if name == "AdamW" and not all(group.get("decoupled_weight_decay", True) for group in groups):
        raise DictionaryError("--optimizer AdamW does not fit: the checkpoint's decay is L2, as Adam's is")
    names = _names(groups, checkpoint)
    leaves = {n: torch.nn.Parameter(checkpoint.model[n].clone()) for n in names}
    if saved["state"] and name != "LBFGS":
        for number, n in enumerate(names):
            leaves[n].requires_grad_(number in saved["state"])
    members = [
        {"params": [(names[n], leaves[names[n]]) for n in group["params"]], "lr": float(group["lr"])}
        for group in groups
    ]
    made: torch.optim.Optimizer = getattr(torch.optim, name)(members)
    own = [{**group, "param_names": [names[n] for n in group["params"]]} for group in groups]
    made.load_state_dict({**saved, "param_groups": [_without_schedule(group) for group in own]})
    return made


def _without_schedule(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return a group at its learning rate of now: a checkpoint does not say the class of its scheduler."""
    return {key: value for key, value in group.items() if key != "initial_lr"}


def _names(groups: Sequence[Mapping[str, Any]], checkpoint: Checkpoint) -> list[str]:
    """Return the name of each of the optimizer's parameters: those that it has, or the model's in their order."""
    numbers = [number for group in groups for number in group["params"]]
    model = checkpoint.model
    if all("param_names" in group for group in groups):
        named = [name for group in groups for name in group["param_names"]]
        names = [checkpoint.aliases.get(name, name.removeprefix(checkpoint.prefix)) for name in named]
        absent = [name for name in names if name not in model]
        if absent:
            raise DictionaryError(f"the optimizer has a parameter {absent[0]}, and the model has not")
    elif len(groups) > 1:
        raise DictionaryError(
            "the optimizer's groups have no names, so nothing says which parameter is in which: give each group pairs "
            "of name and parameter, as {'params': [(name, p) for name, p in model.named_parameters() if ...]}, and "
            "save it again"
        )
    else:
        names = [name for name, tensor in model.items() if tensor.is_floating_point() and not is_statistic(name)]
    if len(names) != len(numbers) or numbers != list(range(len(names))):
        raise DictionaryError(
            f"the optimizer has {len(numbers)} parameters, and the model {len(names)}: make it of named_parameters(), "
            "and save it again"
        )
    return names

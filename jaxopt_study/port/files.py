"""A PyTorch checkpoint: what it holds, read without running any of its code."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from jaxopt_study.dictionary import DictionaryError
from jaxopt_study.dictionary.live import GROUP_KEYS
from jaxopt_study.dictionary.options import IMPLEMENTATION, OPTIONS
from jaxopt_study.port.leaves import STATISTICS

MODEL = ("model", "model_state_dict", "state_dict", "module", "net")
OPTIMIZER = ("optimizer", "optimizer_state_dict", "optim")
SCHEDULER = ("scheduler", "lr_scheduler", "scheduler_state_dict", "lr_scheduler_state_dict")
"""The usual keys of a checkpoint's parts."""


@dataclass(frozen=True)
class Checkpoint:
    """The parts of a checkpoint.

    Attributes:
        model: The model's `state_dict`.
        optimizer: The optimizer's, if there is one.
        steps: The steps that the scheduler made, if there is one.
    """

    model: Mapping[str, torch.Tensor]
    optimizer: Mapping[str, Any] | None
    steps: int | None


def read(path: Path) -> Checkpoint:
    """Return the parts of a checkpoint file, by `torch.load(weights_only=True)`.

    Raises:
        DictionaryError: It cannot be read so, or has no model.
        OSError: There is no such file, or it may not be read.
    """
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except (
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        RuntimeError,
        ValueError,
        KeyError,
        EOFError,
        TypeError,
    ) as error:
        raise DictionaryError(f"{path} cannot be read: {_reason(path, error)}") from None
    if not isinstance(held, Mapping):
        raise DictionaryError(f"{path} holds a {type(held).__name__}, not a state_dict: save model.state_dict()")
    model = next((held[key] for key in MODEL if isinstance(held.get(key), Mapping)), held)
    wrong = [str(name) for name, value in model.items() if not isinstance(value, torch.Tensor)]
    if wrong or not model:
        raise DictionaryError(
            f"{path} has no model's state_dict: it holds {', '.join(wrong[:8]) or 'nothing'}; its key may be one of "
            f"{', '.join(MODEL)}"
        )
    schedule: Mapping[str, Any] = next((held[key] for key in SCHEDULER if isinstance(held.get(key), Mapping)), {})
    optimizer = next((held[key] for key in OPTIMIZER if isinstance(held.get(key), Mapping)), None)
    return Checkpoint(model, None if model is held else optimizer, schedule.get("last_epoch"))


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError) and zipfile.is_zipfile(path):
        return "it holds objects besides tensors and numbers; save model.state_dict(), which needs none"
    return "it is no file that torch.save wrote"


def optimizer_of(name: str, checkpoint: Checkpoint) -> torch.optim.Optimizer:
    """Return a live optimizer of this class with the checkpoint's options and state, on parameters of its model.

    Raises:
        DictionaryError: The class is unknown, its options are not those of the checkpoint, or nothing says which
            parameters it has.
    """
    saved = checkpoint.optimizer or {}
    groups = saved.get("param_groups")
    if not isinstance(groups, Sequence) or not groups or not isinstance(saved.get("state"), Mapping):
        raise DictionaryError("the checkpoint's optimizer is no state_dict of torch.optim: it has no param_groups")
    if name not in OPTIONS:
        raise DictionaryError(f"--optimizer {name}: choose from {', '.join(OPTIONS)}")
    for group in groups:
        missing = [o for o in OPTIONS[name] if o not in group and o not in ("maximize", "decoupled_weight_decay")]
        known = {*OPTIONS[name], *IMPLEMENTATION, *GROUP_KEYS, "decoupled_weight_decay"}
        if missing or not known >= group.keys():
            odd = ", ".join([*missing, *sorted(group.keys() - known)])
            raise DictionaryError(f"--optimizer {name} does not fit the checkpoint's options: {odd}")
    names = _names(groups, checkpoint.model)
    if name == "AdamW" and not all(group.get("decoupled_weight_decay", True) for group in groups):
        raise DictionaryError("--optimizer AdamW does not fit: the checkpoint's decay is L2, as Adam's is")
    leaves = {n: torch.nn.Parameter(checkpoint.model[n].clone()) for n in names}
    members = [
        {"params": [(names[n], leaves[names[n]]) for n in group["params"]], "lr": float(group["lr"])}
        for group in groups
    ]
    made: torch.optim.Optimizer = getattr(torch.optim, name)(members)
    state = {**saved, "param_groups": [{k: v for k, v in g.items() if k != "initial_lr"} for g in groups]}
    made.load_state_dict(state)
    return made


def _names(groups: Sequence[Mapping[str, Any]], model: Mapping[str, torch.Tensor]) -> list[str]:
    """Return the name of each of the optimizer's parameters: those that it has, or the model's in their order."""
    numbers = [number for group in groups for number in group["params"]]
    if all("param_names" in group for group in groups):
        names = [name for group in groups for name in group["param_names"]]
    elif len(groups) > 1:
        raise DictionaryError(
            "the optimizer's groups have no names, so nothing says which parameter is in which: make it of "
            "named_parameters(), and save it again"
        )
    else:
        own = {tensor.data_ptr(): name for name, tensor in reversed(list(model.items())) if _is_parameter(name, tensor)}
        names = [name for name in model if name in own.values()]
    if len(names) != len(numbers) or numbers != list(range(len(names))) or not set(names) <= model.keys():
        raise DictionaryError(
            f"the optimizer has {len(numbers)} parameters, and the model {len(names)}: make it of named_parameters(), "
            "and save it again"
        )
    return names


def _is_parameter(name: str, tensor: torch.Tensor) -> bool:
    return name.rpartition(".")[2] not in STATISTICS and tensor.is_floating_point()

"""A PyTorch checkpoint: what it holds, read without running any of its code, and written back."""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from jaxopt_study.dictionary import DictionaryError
from jaxopt_study.port.params import place_of

MODEL = ("model", "model_state_dict", "state_dict", "module", "net")
OPTIMIZER = ("optimizer", "optimizer_state_dict", "optim", "optimizer_states", "optimizers")
SCHEDULER = ("scheduler", "lr_scheduler", "scheduler_state_dict", "lr_scheduler_state_dict")
"""The usual keys of a checkpoint's parts; Lightning has a list of optimizers."""
WRAPPERS = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before each name."""
BROKEN = (ArithmeticError, AttributeError, EOFError, LookupError, RuntimeError, TypeError, ValueError, struct.error,
          pickle.UnpicklingError, zipfile.BadZipFile)  # fmt: skip
"""What reading a file that is damaged, or made to do harm, may raise."""


@dataclass(frozen=True)
class Checkpoint:
    """The parts of a checkpoint.

    Attributes:
        held: All that the file holds.
        model: The model's `state_dict`, without the prefix of a wrapper, of tied tensors the first.
        aliases: For each name in the file that of `model` which is the same tensor.
        optimizer: The optimizer's, if there is one.
        steps: The steps that the scheduler made, if there is one.
        keys: Where the model and the optimizer are in `held`; None where they are not.
    """

    held: Mapping[str, Any]
    model: Mapping[str, torch.Tensor]
    aliases: Mapping[str, str]
    optimizer: Mapping[str, Any] | None
    steps: int | None
    keys: tuple[str | None, str | None]

    @property
    def prefix(self) -> str:
        """What a wrapper put before each name."""
        first, own = next(iter(self.aliases.items()))
        return first.removesuffix(own)


def read(path: Path) -> Checkpoint:
    """Return the parts of a checkpoint file, by `torch.load(weights_only=True)`.

    Raises:
        DictionaryError: It cannot be read so, or has no model.
        OSError: There is no such file, or it may not be read.
    """
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except BROKEN as error:
        raise DictionaryError(f"{path} cannot be read: {_reason(path, error)}") from None
    if not isinstance(held, Mapping):
        raise DictionaryError(f"{path} holds a {type(held).__name__}, not a state_dict: save model.state_dict()")
    key = next((key for key in MODEL if isinstance(held.get(key), Mapping)), None)
    model = held if key is None else held[key]
    wrong = [str(name) for name, value in model.items() if not (isinstance(value, torch.Tensor) and name == str(name))]
    if wrong or not model:
        raise DictionaryError(
            f"{path} has no model's state_dict: it holds {', '.join(wrong[:8]) or 'nothing'}; its key may be one of "
            f"{', '.join(MODEL)}"
        )
    prefix = next((p for p in WRAPPERS if all(name.startswith(p) for name in model)), "")
    first: dict[tuple[int, ...], str] = {}
    aliases = {name: first.setdefault(place_of(tensor), name.removeprefix(prefix)) for name, tensor in model.items()}
    kept = {own: model[name] for name, own in aliases.items() if own == name.removeprefix(prefix)}
    place = None if key is None else next((k for k in OPTIMIZER if _one(held.get(k)) is not None), None)
    schedule: Mapping[str, Any] = next((held[k] for k in SCHEDULER if key and isinstance(held.get(k), Mapping)), {})
    steps = schedule.get("last_epoch")
    optimizer = _one(held[place]) if place else None
    return Checkpoint(held, kept, aliases, optimizer, steps if isinstance(steps, int) else None, (key, place))


def write(path: Path, checkpoint: Checkpoint, model: Mapping[str, torch.Tensor], optimizer: Any) -> None:
    """Write a checkpoint with another model, and if one is given another state of its optimizer; the rest stays.

    Raises:
        DictionaryError: It cannot be written.
    """
    renamed = {name: model[own] for name, own in checkpoint.aliases.items()}
    key, place = checkpoint.keys
    held: dict[str, Any] = renamed if key is None else {**checkpoint.held, key: renamed}
    if optimizer is not None and place is not None:
        held[place] = [optimizer] if isinstance(checkpoint.held[place], list) else optimizer
    part = path.with_name(f".{path.name}.{os.getpid()}.part")  # a file is there whole, or not at all
    try:
        with part.open("xb") as file:
            torch.save(held, file)
        part.replace(path)
    except (RuntimeError, OSError) as error:
        part.unlink(missing_ok=True)
        words = error.strerror if isinstance(error, OSError) else str(error).partition("\n")[0]
        raise DictionaryError(f"{path} cannot be written: {words}") from None


@contextmanager
def in_one_line(what: str) -> Iterator[None]:
    """Let what a broken file raises be one line."""
    try:
        yield
    except DictionaryError:
        raise
    except BROKEN as error:
        raise DictionaryError(f"{what} cannot be read: {type(error).__name__}: {error}".splitlines()[0]) from None


def _one(held: Any) -> Mapping[str, Any] | None:
    """Return an optimizer's state: itself, or the only one of a list."""
    one = held[0] if isinstance(held, list) and len(held) == 1 else held
    return one if isinstance(one, Mapping) else None


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError) and zipfile.is_zipfile(path):
        return "it holds objects besides tensors and numbers; save model.state_dict(), which needs none"
    return "it is no file that torch.save wrote"

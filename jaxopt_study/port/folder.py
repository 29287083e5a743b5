"""The folder that a port writes, and reads on the way back: arrays in orbax's format, and what the options said."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from jaxopt_study.dictionary import DictionaryError
from jaxopt_study.dictionary.leaves import path_words
from jaxopt_study.port.layouts import Shape
from jaxopt_study.port.matching import short

__all__ = ["CODE", "PARAMS", "SAID", "STATE", "Said", "restored", "said", "write"]

PARAMS, STATE, CODE, SAID = "params", "optimizer_state", "optimizer.py", "layout.json"
"""What is in a folder."""


@dataclass(frozen=True)
class Said:
    """What the options say of a checkpoint's layers, by PyTorch's names of them.

    Attributes:
        embedding: Embeddings.
        linear: Linear layers without bias.
        transposed: Transposed convolutions.
        flattened: Of each linear layer after a flattened image, its (channels, height, width).
    """

    embedding: Sequence[str] = ()
    linear: Sequence[str] = ()
    transposed: Sequence[str] = ()
    flattened: Mapping[str, Shape] = field(default_factory=dict)

    def within(self, kept: Said, folder: Path) -> Said:
        """Return what a folder was written with; an option may be left out, or say the same.

        Raises:
            DictionaryError: It says something else: the folder's numbers would be read in another order.
        """
        for one in fields(self):
            mine, theirs = getattr(self, one.name), getattr(kept, one.name)
            if mine and _plain(mine) != _plain(theirs):
                raise DictionaryError(
                    f"{folder} was written with {_option(one.name, theirs)}, and not with {_option(one.name, mine)}: "
                    "leave it out"
                )
        return kept


def write(folder: Path, variables: Any, state: Any, code: str | None, options: Said) -> None:
    """Write a folder; `state` and `code` are None where there is no optimizer."""
    folder.mkdir(parents=True, exist_ok=True)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save((folder / PARAMS).absolute(), variables)
        if state is not None:
            checkpointer.save((folder / STATE).absolute(), state)
    if code is not None:
        (folder / CODE).write_text(f"{code}\n", encoding="utf-8")
    (folder / SAID).write_text(json.dumps(asdict(options), indent=2) + "\n", encoding="utf-8")


def said(folder: Path) -> Said | None:
    """Return what the folder was written with, or None where it does not say it: another program wrote it.

    Raises:
        DictionaryError: The file that says it is damaged.
    """
    path = folder / SAID
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        flattened = {name: tuple(map(int, image)) for name, image in found.pop("flattened").items()}
        names = {option: tuple(map(str, given)) for option, given in found.items()}
        return Said(flattened=flattened, **names)
    except (ValueError, TypeError, AttributeError, KeyError):
        raise DictionaryError(f"{path} is damaged: remove it, and give the options that wrote the folder") from None


def restored(path: Path, template: Any) -> Any:
    """Return a tree that orbax wrote, as a template has it.

    Raises:
        DictionaryError: There is none, or one of other leaves.
    """
    if not path.is_dir():
        raise DictionaryError(f"{path}: there is no such folder")
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            stored = checkpointer.metadata(path.absolute()).item_metadata
            if stored is None:
                raise DictionaryError(f"{path} is not in orbax's format")
            wrong = list(_misfits(_arrays(getattr(stored, "tree", stored)), _arrays(template)))
            if not wrong:
                return checkpointer.restore(path.absolute(), template)
    except (ValueError, KeyError, TypeError, OSError) as error:
        wrong = [(str(error).splitlines() or [type(error).__name__])[0]]
    raise DictionaryError(f"{path} does not fit the checkpoint: {'; '.join(wrong)}")


def _misfits(stored: Mapping[str, str], wanted: Mapping[str, str]) -> Iterator[str]:
    """Say which leaves only one of two trees has, and which have other shapes or types: orbax would round float64."""
    for who, has, lacks in (("folder", stored, wanted), ("checkpoint", wanted, stored)):
        alone = [f"{name} {array}" for name, array in has.items() if name not in lacks]
        if alone:
            yield f"only the {who} has {short(alone)}"
    other = [
        f"{name} is {array} in the folder and {wanted[name]} for the checkpoint"
        for name, array in stored.items()
        if wanted.get(name, array) != array
    ]
    if other:
        yield short(other)


def _arrays(tree: Any) -> dict[str, str]:
    return {
        "/".join(path_words(path)): f"{tuple(leaf.shape)} {leaf.dtype}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if hasattr(leaf, "shape")
    }


def _plain(given: Any) -> Any:
    return dict(given) if isinstance(given, Mapping) else sorted(given)


def _option(name: str, given: Any) -> str:
    if isinstance(given, Mapping):
        given = [f"{module}={','.join(map(str, image))}" for module, image in given.items()]
    return " ".join(f"--{name} {module}" for module in given) or f"no --{name}"

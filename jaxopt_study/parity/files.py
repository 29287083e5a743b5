"""Trajectories in `.npz` files: each leaf is one array, with the steps as its first axis."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from jaxopt_study.parity.trees import Leaves, Tree, flatten


def save_trajectory(path: str | Path, trees: Iterable[Tree]) -> None:
    """Write a trajectory, one array for each leaf with the steps as its first axis.

    Args:
        path: The file; numpy adds `.npz` where it is missing.
        trees: The parameters at each step, the initial ones first.

    Raises:
        ValueError: There is no tree, or two of them differ in names or shapes.
    """
    flat = [flatten(tree, f"step {step}") for step, tree in enumerate(trees)]
    if not flat:
        raise ValueError("there is no step to write")
    for step, leaves in enumerate(flat):
        if leaves.keys() != flat[0].keys():
            raise ValueError(f"step {step}: the names differ from those of step 0")
        for name, leaf in leaves.items():
            if leaf.shape != flat[0][name].shape:
                raise ValueError(f"step {step}: {name} has shape {leaf.shape}, and {flat[0][name].shape} at step 0")
    np.savez(path, **{name: np.stack([leaves[name] for leaves in flat]) for name in flat[0]})  # type: ignore[arg-type]


def load_trajectory(path: str | Path) -> Iterator[Tree]:
    """Return the trees of a file that `save_trajectory` wrote, step by step.

    Raises:
        ValueError: The file is no trajectory; the message says why.
        FileNotFoundError: There is no such file.
    """
    try:
        leaves = _read(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such file") from None
    except (ValueError, OSError, AttributeError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no trajectory: {_reason(error)}") from None
    lengths = {name: leaf.shape[0] if leaf.ndim else None for name, leaf in leaves.items()}
    if not lengths or None in lengths.values() or len(set(lengths.values())) != 1:
        shapes = ", ".join(f"{name} {leaf.shape}" for name, leaf in leaves.items()) or "nothing"
        raise ValueError(
            f"{path} is no trajectory: its arrays must share their first axis, the steps; it holds {shapes}"
        )
    steps = next(iter(lengths.values())) or 0
    return ({name: leaf[step] for name, leaf in leaves.items()} for step in range(steps))


def _read(path: str | Path) -> Leaves:
    file = np.load(path, allow_pickle=False)
    if isinstance(file, np.ndarray):
        raise ValueError("it holds one array and no names")  # noqa: TRY004 - it is the file that is wrong
    with file:
        return {name: file[name] for name in file.files}


def _reason(error: Exception) -> str:
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return "it is no .npz file" if "pickle" in words or "zip" in words.lower() else words

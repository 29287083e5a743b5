"""Trajectories in `.npz` files: each leaf is one array, with the steps as its first axis.

A file may come from anybody: nothing in it is unpickled, and no more than `MOST_BYTES` are read from it.
"""

from __future__ import annotations

import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np

from jaxopt_study.parity.trees import Leaf, Leaves, Tree, flatten

MOST_BYTES = 8 * 2**30
"""The arrays of a file may take this much memory, as their headers say before anything is read."""

MOST_HEADER = 10_000
"""The header of an array may have so many bytes, as in NumPy."""


def save_trajectory(path: str | Path, trees: Iterable[Tree]) -> None:
    """Write a trajectory, one array for each leaf with the steps as its first axis.

    The file appears once it is complete. Numbers of bfloat16, which files of NumPy do not have, are written as float32;
    they are the same numbers, and the locator sees what they were.

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
    arrays = {name: np.stack([_storable(leaves[name]) for leaves in flat]) for name in flat[0]}
    path = Path(path)
    path = path if path.suffix == ".npz" else path.with_name(f"{path.name}.npz")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


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
    except BROKEN as error:
        raise ValueError(f"{path} is no trajectory: {_reason(error)}") from None
    lengths = {name: leaf.shape[0] if leaf.ndim else None for name, leaf in leaves.items()}
    if not lengths or None in lengths.values() or len(set(lengths.values())) != 1:
        shapes = ", ".join(f"{name} {leaf.shape}" for name, leaf in leaves.items()) or "nothing"
        raise ValueError(
            f"{path} is no trajectory: its arrays must share their first axis, the steps; it holds {shapes}"
        )
    steps = next(iter(lengths.values())) or 0
    return ({name: leaf[step] for name, leaf in leaves.items()} for step in range(steps))


BROKEN = (
    *(ValueError, OSError, AttributeError, TypeError, EOFError, KeyError, OverflowError, MemoryError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError, NotImplementedError, RuntimeError),
)
"""What zipfile and NumPy raise where a file is broken."""


def _read(path: str | Path) -> Leaves:
    with open(path, "rb") as raw:
        if raw.read(6) == np.lib.format.MAGIC_PREFIX:
            raise ValueError("it holds one array and no names")
    with zipfile.ZipFile(path) as file:
        members = file.infolist()
        sizes = [_size(file, member) for member in members]
        if sum(sizes) > MOST_BYTES:
            raise ValueError(f"its arrays take {sum(sizes):.3g} bytes, and at most {MOST_BYTES:.3g} are read")
        leaves = {}
        for member in members:
            with file.open(member) as stream:
                leaf = np.lib.format.read_array(stream, allow_pickle=False, max_header_size=MOST_HEADER)
            leaves[member.filename.removesuffix(".npy")] = _bfloat16(leaf) if leaf.dtype.str == "|V2" else leaf
        return leaves


def _size(file: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """Return the bytes of an array as its header gives them, and check that the file says the same."""
    if member.flag_bits & 1:
        raise ValueError(f"{member.filename} is encrypted")
    if not member.filename.endswith(".npy"):
        raise ValueError(f"{member.filename} is no array")
    with file.open(member) as stream:
        shape, dtype = _header(stream)
        begins = stream.tell()
    size = math.prod(shape) * dtype.itemsize
    if dtype.hasobject or size != member.file_size - begins:
        raise ValueError(f"{member.filename} holds {dtype} of shape {shape}, in {member.file_size - begins} bytes")
    return size


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(stream)
    read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}.get(version[0])
    if read is None:
        raise ValueError(f"it has an array of version {version[0]}.{version[1]}")
    shape, _, dtype = read(stream, max_header_size=MOST_HEADER)
    if any(n < 0 for n in shape):
        raise ValueError(f"it has an array of shape {shape}")
    return shape, dtype


def _storable(leaf: Leaf) -> Leaf:
    return leaf.astype(np.float32) if leaf.dtype.name == "bfloat16" else leaf


def _bfloat16(leaf: Leaf) -> Leaf:
    """Return as float32 what was bfloat16 when numpy.savez wrote it: the upper half of the same numbers."""
    return (leaf.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def _reason(error: Exception) -> str:
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error).split("\n")[0]
    return "it is no .npz file" if "pickle" in words or "zip" in words.lower() else words or type(error).__name__

"""Trajectories are read from `.npz` files step by step: each leaf is one array, with the steps as its first axis.

A file may come from anybody: nothing in it is unpickled, and no more than `MOST_BYTES` are read from it.
A few steps are in memory at a time.
"""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from jaxopt_study.parity.saving import MARK
from jaxopt_study.parity.trees import Leaf, Tree

MOST_BYTES = 8 * 2**30
"""The arrays of a file may have so many bytes, as their headers say before anything is read."""

MOST_HEADER = 10_000
"""The header of an array may have so many bytes, as in NumPy."""

AT_ONCE = 2**20
"""So many bytes are read at once, or one step: small steps one by one would be slow."""

BROKEN = (
    *(ValueError, OSError, AttributeError, TypeError, EOFError, KeyError, OverflowError, MemoryError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError, NotImplementedError, RuntimeError),
)
"""What zipfile and NumPy raise where a file is broken."""


ZIP = b"PK\x03\x04"
"""What an .npz file begins with; its table of contents stands at the end, which a file that was cut lacks."""


class Member(NamedTuple):
    """An array of a file, as its header says."""

    name: str
    info: zipfile.ZipInfo
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype

    @property
    def size(self) -> int:
        """Its bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def load_trajectory(path: str | Path) -> Iterator[Tree]:
    """Return the trees of a file that `save_trajectory` wrote, step by step.

    A few steps are in memory at a time; the checksum of an array is compared when its last step is read. What must be
    in memory as a whole is an array in Fortran's order, which `save_trajectory` never writes.

    Raises:
        ValueError: The file is no trajectory; the message says why. Where its numbers are broken, the iterator raises.
        FileNotFoundError: There is no such file.
    """
    _members_of(path)
    return _trees(path)


def marked(path: str | Path) -> bool:
    """Say whether `save_trajectory` wrote this file.

    Raises:
        ValueError, FileNotFoundError: As `load_trajectory`.
    """
    return any(member.name == MARK for member in _members_of(path))


def _members_of(path: str | Path) -> list[Member]:
    begins = b""
    try:
        with open(path, "rb") as raw:
            begins = raw.read(6)
        if begins == np.lib.format.MAGIC_PREFIX:
            raise ValueError("it holds one array and no names")
        if not begins:
            raise ValueError("it is empty")
        with zipfile.ZipFile(path) as file:
            return _members(file)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such file") from None
    except BROKEN as error:
        cut = isinstance(error, zipfile.BadZipFile) and begins.startswith(ZIP)
        raise ValueError(f"{path} is no trajectory: {'it is cut or damaged' if cut else _reason(error)}") from None


def _trees(path: str | Path) -> Iterator[Tree]:
    try:
        with zipfile.ZipFile(path) as file:
            members = [member for member in _members(file) if member.name != MARK]
            steps = members[0].shape[0]
            count = max(1, AT_ONCE * steps // max(1, sum(member.size for member in members)))
            streams = [_arrays(file, member, count) for member in members]
            for begin in range(0, steps, count):
                read = {member.name: next(stream) for member, stream in zip(members, streams, strict=True)}
                for step in range(min(count, steps - begin)):
                    yield {name: leaf[step] for name, leaf in read.items()}
    except BROKEN as error:
        raise ValueError(f"{path} is no trajectory: {_reason(error)}") from None


def _arrays(file: zipfile.ZipFile, member: Member, count: int) -> Iterator[Leaf]:
    """Yield an array in parts of `count` steps."""
    with file.open(member.info) as stream:
        _header(stream)
        steps, *shape = member.shape
        whole = None
        if member.fortran:
            whole = np.empty(member.shape[::-1], member.dtype)
            _fill(whole, stream)
            whole = whole.T
        for begin in range(0, steps, count):
            part = np.empty((min(count, steps - begin), *shape), member.dtype)
            if whole is not None:
                part[:] = whole[begin : begin + count]
            else:
                _fill(part, stream)
            yield _bfloat16(part) if part.dtype.str == "|V2" else part


def _fill(part: Leaf, stream: IO[bytes]) -> None:
    # zipfile compares the checksum when it has read the last byte.
    if part.nbytes and stream.readinto(part.reshape(-1).view(np.uint8)) != part.nbytes:  # type: ignore[attr-defined]
        raise ValueError("an array ends early")


def _members(file: zipfile.ZipFile) -> list[Member]:
    """Return what the headers of a file say, and check that it is a trajectory that may be read."""
    members = [_member(file, info) for info in file.infolist()]
    names = [member.name for member in members]
    if len(set(names)) < len(names):
        raise ValueError(f"it has two arrays of the name {max(names, key=names.count)}")
    size = sum(member.size for member in members)
    if size > MOST_BYTES:
        raise ValueError(f"its arrays take {size:.3g} bytes, and at most {MOST_BYTES:.3g} are read")
    leaves = [member for member in members if member.name != MARK]
    firsts = {member.shape[:1] for member in leaves}
    if len(firsts) != 1 or () in firsts:
        shapes = ", ".join(f"{member.name} {member.shape}" for member in leaves) or "nothing"
        raise ValueError(f"its arrays must share their first axis, the steps; it holds {shapes}")
    return members


def _member(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    """Return what the header of an array says, and check that the file says the same."""
    if info.flag_bits & 1:
        raise ValueError(f"{info.filename} is encrypted")
    if not info.filename.endswith(".npy"):
        raise ValueError(f"{info.filename} is no array")
    with file.open(info) as stream:
        member = Member(info.filename.removesuffix(".npy"), info, *_header(stream))
        begins = stream.tell()
    if member.dtype.hasobject:
        raise ValueError(f"{member.name} holds Python objects, and not real numbers")
    if member.size != info.file_size - begins:
        held = f"{member.dtype} of shape {member.shape}, in {info.file_size - begins} bytes"
        raise ValueError(f"{info.filename} holds {held}")
    return member


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(stream)
    read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}.get(version[0])
    if read is None:
        raise ValueError(f"it has an array of version {version[0]}.{version[1]}")
    shape, fortran, dtype = read(stream, max_header_size=MOST_HEADER)
    if any(n < 0 for n in shape):
        raise ValueError(f"it has an array of shape {shape}")
    return shape, fortran, dtype


def _bfloat16(leaf: Leaf) -> Leaf:
    """Return as float32 what was bfloat16 when numpy.savez wrote it: the upper half of the same numbers."""
    return (leaf.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def _reason(error: Exception) -> str:
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error).split("\n")[0]
    return "it is no .npz file" if "pickle" in words or "zip" in words.lower() else words or type(error).__name__

"""Trajectories are written to `.npz` files step by step: no more than one step is in memory.

A `.npz` file holds leaf after leaf, and a training gives step after step. So the steps go to a nameless file first, in
the same folder. From there they go, leaf by leaf, to the file itself.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from jaxopt_study.parity.trees import Leaf, Leaves, Tree, flatten

MARK = "__trajectory__"
"""A file that was written here has an array of this name; its value is the version of the format."""

VERSION = 1

BUFFER = 2**20
"""So many bytes of steps are gathered before they are written: a small step costs its training little then."""


class Place(NamedTuple):
    """Where one leaf of one step lies in the file of steps.

    Attributes:
        offset: Counted from the beginning of its step.
        dtype: The type of its numbers there.
    """

    offset: int
    dtype: np.dtype


class Writer:
    """A trajectory that grows step by step, and is a file once it is closed.

    Attributes:
        path: The file; its folder must exist.
        steps: How many trees were added.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        self.path = path if path.suffix == ".npz" else path.with_name(f"{path.name}.npz")
        self.steps = 0
        self._spool: IO[bytes] = tempfile.TemporaryFile(dir=self.path.parent, buffering=BUFFER)  # noqa: SIM115 - until `close`
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._begins: list[int] = []
        self._end = 0
        # One for each step; equal ones are one object.
        self._places: list[dict[str, Place]] = []

    def add(self, tree: Tree) -> None:
        """Write the next tree; its arrays may change afterwards.

        Raises:
            ValueError: It is no tree, or differs from the first one in names or shapes.
            OSError: It could not be written; the whole trajectory is discarded.
        """
        leaves = flatten(tree, f"step {self.steps}")
        self._check(leaves)
        offset, places = 0, {}
        try:
            for name, leaf in leaves.items():
                stored = np.ascontiguousarray(_storable(leaf))
                places[name] = Place(offset, stored.dtype)
                if stored.size:
                    self._spool.write(stored.data)
                offset += stored.nbytes
        except OSError:  # half a step was written
            self.discard()
            raise
        same = bool(self._places) and places == self._places[-1]
        self._places.append(self._places[-1] if same else places)
        self._begins.append(self._end)
        self._end += offset
        self.steps += 1

    def close(self) -> None:
        """Write the file; it appears once it is complete, and replaces an older one. A second call does nothing.

        Raises:
            ValueError: No tree was added.
        """
        if self._spool.closed:
            return
        with self._spool:
            if not self.steps:
                raise ValueError("there is no step to write")
            part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
            try:
                with zipfile.ZipFile(part, "w") as file:
                    for name in self._shapes:
                        self._write(file, name)
                    with file.open(f"{MARK}.npy", "w") as stream:
                        np.lib.format.write_array(stream, np.array(VERSION), allow_pickle=False)
                part.replace(self.path)
            finally:
                part.unlink(missing_ok=True)

    def discard(self) -> None:
        """Forget what was added; after `close` it does nothing."""
        with suppress(OSError):  # it cannot write what is to be forgotten
            self._spool.close()

    def _check(self, leaves: Leaves) -> None:
        if self._spool.closed:
            raise ValueError(f"step {self.steps}: {self.path} is closed")
        if MARK in leaves:
            raise ValueError(f"step {self.steps}: no leaf may have the name {MARK}")
        shapes = {name: leaf.shape for name, leaf in leaves.items()}
        if not self.steps:
            self._shapes = shapes
        if self.steps == 1:
            # There are no gradients of the initial parameters.
            self._shapes |= {name: shape for name, shape in shapes.items() if name.startswith("@")}
        if shapes.keys() != self._shapes.keys():
            raise ValueError(f"step {self.steps}: the names differ from those of step 0")
        for name, shape in shapes.items():
            if shape != self._shapes[name]:
                raise ValueError(f"step {self.steps}: {name} has shape {shape}, and {self._shapes[name]} at step 0")

    def _write(self, file: zipfile.ZipFile, name: str) -> None:
        """Write one leaf of all steps, in a type that holds the numbers of each."""
        shape = self._shapes[name]
        dtype = np.result_type(*{places[name].dtype for places in self._places if name in places})
        header = {
            "descr": np.lib.format.dtype_to_descr(dtype),
            "fortran_order": False,
            "shape": (self.steps, *shape),
        }
        with file.open(f"{name}.npy", "w", force_zip64=True) as stream:
            np.lib.format.write_array_header_1_0(stream, header)
            for begin, places in zip(self._begins, self._places, strict=True):
                place = places.get(name)
                if place is None:
                    stream.write(np.zeros(shape, dtype).data)
                    continue
                leaf = np.empty(shape, place.dtype)
                self._spool.seek(begin + place.offset)
                if leaf.size:
                    self._spool.readinto(leaf.data)  # type: ignore[attr-defined]
                    stream.write(leaf.astype(dtype, copy=False).data)


def save_trajectory(path: str | Path, trees: Iterable[Tree]) -> None:
    """Write a trajectory, one array for each leaf with the steps as its first axis.

    One tree at a time is in memory. The file appears once it is complete; until then the steps take as much space again
    in its folder. Numbers of bfloat16, which files of NumPy do not have, are written as float32; they are the same
    numbers, and the locator sees what they were. An array `__trajectory__` marks the file as a trajectory.

    Args:
        path: The file; `.npz` is added where it is missing.
        trees: The parameters at each step, the initial ones first; an iterator will do.

    Raises:
        ValueError: There is no tree, or two of them differ in names or shapes.
    """
    writer = Writer(path)
    try:
        for tree in trees:
            writer.add(tree)
        writer.close()
    finally:
        writer.discard()


def _storable(leaf: Leaf) -> Leaf:
    return leaf if leaf.dtype.kind in "fiub" else leaf.astype(np.float32)  # bfloat16, as `flatten` has checked

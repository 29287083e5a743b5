"""The result of a case, and the file that keeps it: one JSON object per line, appended and flushed as a case ends."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from jaxopt_study.bench import stats
from jaxopt_study.bench.case import Case
from jaxopt_study.bench.task import Value

SCHEMA = 5
READABLE = (4, 5)
"""Schemas that are read: 4 has no field that 5 has not."""
RECORDS = "records.jsonl"
NULLABLE = ("value", "first_seconds")
"""The fields in which null is a number that is not finite."""


@dataclass(frozen=True)
class Record:
    """What was measured of one case; nothing in it is derived from another record.

    Attributes:
        status: `ok`; or `failed`, `too large` or `skipped`, with the reason.
        group: When the measuring of the group began: cases with the same group were measured in the same rounds.
        stages: Seconds of what came before the first lap: `import` of the backend, and the stages of compilation where
            the case was compiled ahead of it.
        first_seconds: The first start and lap; without stages, it includes tracing and compiling.
        samples: Seconds of each sample, in the order measured.
        sample_laps: Laps in a sample.
        laps: Laps in a whole run of the case.
        steps: Steps in a lap.
        value: What the study keeps of the case's value; a number that is not finite is null in the file, NaN here.
        digest: SHA-256 of the whole value, to the bit.
        peak_bytes: Largest resident size so far of the process that ran the case; it depends on what ran before.
        environment: The key of the environment in which it was measured.
        others_busy: The part of all cores' time that other programs took while the group was measured.
        machine_seconds: Seconds that a fixed piece of Python took on the worker's core in each of the group's rounds. A
            machine that slows down, as a virtual one may, shows here.
        varies_by_process: Whether the method's time is known to be another in another process: see `task.Task`.
        retried: How often a distributed case was begun again because the process that measured it died.
    """

    study: str
    experiment: str
    subject: str
    framework: str
    method: str
    status: str
    group: str
    environment: str
    reason: str = ""
    others_busy: float = 0.0
    machine_seconds: tuple[float, ...] = ()
    varies_by_process: bool = False
    retried: int = 0
    stages: Mapping[str, float] = field(default_factory=dict)
    first_seconds: float = math.nan
    samples: tuple[float, ...] = ()
    sample_laps: int = 1
    laps: int = 1
    steps: int = 1
    value: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""
    peak_bytes: int = 0
    schema: int = SCHEMA

    @property
    def case(self) -> Case:
        """The case that was measured."""
        return Case(self.study, self.experiment, self.subject, self.framework, self.method)

    @property
    def ok(self) -> bool:
        """Whether the case has a value and times."""
        return self.status == "ok"

    @property
    def failed(self) -> bool:
        """Whether something went wrong; a case that is not measured has another status."""
        return self.status == "failed"

    @property
    def step_seconds(self) -> np.ndarray:
        """Seconds per step of each sample."""
        return np.array(self.samples) / (self.sample_laps * self.steps)

    @property
    def seconds(self) -> float:
        """The median time per step, in seconds."""
        return float(np.median(self.step_seconds))

    @property
    def machine_speed(self) -> float:
        """The median of `machine_seconds`; 0 where there are none."""
        return float(np.median(self.machine_seconds)) if self.machine_seconds else 0.0

    @property
    def run_steps(self) -> int:
        """Steps in a whole run."""
        return self.laps * self.steps


def not_measured(case: Case, status: str, reason: str, environment: str) -> Record:
    """Return the record of a case that is not measured, with the status `skipped` or `failed`."""
    return Record(**asdict(case), status=status, group="", environment=environment, reason=reason)


def slowed_cases(records: Iterable[Record]) -> set[Case]:
    """Return the cases during which the machine was slower than at its best in these records: see `stats.slowdown`."""
    asked = [r for r in records if r.machine_seconds]
    of_run = np.concatenate([*{r.machine_seconds for r in asked}, ()])  # cases of the same rounds have the same
    return {r.case for r in asked if stats.slowdown(np.array(r.machine_seconds), of_run) > stats.SLOWED}


def digest(value: Value) -> str:
    """Return the SHA-256 of names, types, shapes and bits."""
    sha = hashlib.sha256()
    for name, array in sorted(value.items()):
        sha.update(f"{name} {array.dtype} {array.shape}".encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()


def pack(array: np.ndarray) -> dict[str, Any]:
    """Return an array as a record keeps one too large for numbers in text: shape, type and base64 of its bytes."""
    array = np.ascontiguousarray(array)
    little = array.astype(array.dtype.newbyteorder("<"))
    return {
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "base64": base64.b64encode(little.tobytes()).decode(),
    }


def unpack(packed: Mapping[str, Any]) -> np.ndarray:
    """Return the array that `pack` was given."""
    dtype = np.dtype(packed["dtype"]).newbyteorder("<")
    return np.frombuffer(base64.b64decode(packed["base64"]), dtype).reshape(packed["shape"])


def claim(folder: Path, new: bool = False) -> BinaryIO:
    """Open the folder's records for this process alone, until the file is closed or the process ends.

    Args:
        folder: The folder of a run.
        new: Whether there must be no records yet; an empty file is made.

    Raises:
        FileExistsError: There are records, and there should be none.
        BlockingIOError: Another process has claimed them.
    """
    file = (folder / RECORDS).open("xb" if new else "ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise
    except OSError:
        pass  # a network's file system that has no locks; a run there must still be possible
    return file


def plain(node: Any) -> Any:
    """Return dataclasses, mappings, sequences and numbers as strict JSON can say them: NaN and infinities are null.

    Raises:
        TypeError: JSON has nothing of this kind, as for an array.
    """
    if is_dataclass(node) and not isinstance(node, type):
        return plain(asdict(node))
    if isinstance(node, Mapping):
        return {name: plain(child) for name, child in node.items()}
    if isinstance(node, list | tuple):
        return [plain(child) for child in node]
    if not isinstance(node, str | int | float | None):
        raise TypeError(f"{type(node).__name__} is no plain number or text")
    return None if isinstance(node, float) and not math.isfinite(node) else node


def append(folder: Path, records: Iterable[Record]) -> None:
    """Add `records` to the folder's file, and wait until they are on the disk.

    Raises:
        OSError: They cannot be written (the disk is full, say).
    """
    with (folder / RECORDS).open("a", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(plain(record), allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read(folder: Path) -> list[Record]:
    """Return the folder's records, the last one of each case, in the order of the cases' first appearance.

    A last line that was cut off by a crash is passed over.

    Raises:
        ValueError: A line is not a record of this schema.
    """
    records, wrong = readable(folder)
    if wrong:
        raise ValueError(wrong[0])
    return records


def readable(folder: Path) -> tuple[list[Record], list[str]]:
    """Return the same of the lines that can be read, and for each other one what is wrong with it."""
    latest: dict[Case, Record] = {}
    wrong = []
    lines = (folder / RECORDS).read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines[:-1], start=1):
        try:
            record = _parse(line)
        except ValueError as error:
            wrong.append(f"{folder / RECORDS}:{number} is not a record: {error}")
        else:
            latest[record.case] = record
    return list(latest.values()), wrong


def drop_cut_line(folder: Path) -> None:
    """Remove a last line that a crash or a full disk cut off, so that the next record begins on a line of its own."""
    path = folder / RECORDS
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)


def _parse(line: str) -> Record:
    try:
        row = json.loads(line)
        if not isinstance(row, dict) or row.get("schema") not in READABLE:
            raise ValueError(f"it is not of schema {' or '.join(map(str, READABLE))}")
        if unknown := sorted(set(row) - {f.name for f in fields(Record)}):
            raise ValueError(f"its field {unknown[0]!r} is unknown")
        found = msgspec.convert({name: _unfinite(x) if name in NULLABLE else x for name, x in row.items()}, Record)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(str(error)) from None
    _check(found)
    return found


def _check(record: Record) -> None:
    """Raise ValueError where a number cannot be one that was measured."""
    for name in ("samples", "machine_seconds"):
        if not all(math.isfinite(seconds) and seconds > 0 for seconds in getattr(record, name)):
            raise ValueError(f"its {name} are not all positive and finite")
    if min(record.sample_laps, record.laps, record.steps) < 1:
        raise ValueError("its laps and steps are not all at least 1")


def _unfinite(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {name: _unfinite(child) for name, child in node.items()}
    if isinstance(node, list):
        return [_unfinite(child) for child in node]
    return math.nan if node is None else node

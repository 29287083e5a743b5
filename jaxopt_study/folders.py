"""The folders of runs: which one may be written, compared with or finished, by one process at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from jaxopt_study.bench import environment, record
from jaxopt_study.bench.case import PROFILES, Plan
from jaxopt_study.config import DEVICES, DTYPES, FRAMEWORKS, ConfigError
from jaxopt_study.studies import EVERY
from jaxopt_study.terminal import visible

REPORT = "report"
"""What names the folders of a report in an error: they are given to the command `report` or to the option --report."""


def new(path: Path) -> Path:
    """Return `path` if a run can be written there; nothing is made yet.

    Raises:
        ConfigError: It holds something already, or cannot be a folder.
    """
    if path == Path():
        raise ConfigError("--out is empty: name a new or an empty folder")
    try:
        found = sorted(entry.name for entry in path.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        found = []
    except OSError as error:
        raise ConfigError(f"--out {path} cannot be written: {error.strerror}") from None
    if {record.RECORDS, environment.ENVIRONMENT} <= set(found):
        raise ConfigError(
            f"--out {path} already holds a run: name a new or an empty folder, or finish that run by --resume {path}"
        )
    if found:
        raise ConfigError(f"--out {path} already holds {found[0]}: name a new or an empty folder")
    if os.path.lexists(path) and not path.is_dir():
        raise ConfigError(f"--out {path} is not a folder: name a new or an empty folder")
    nearest = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    if not (nearest.is_dir() and os.access(nearest, os.W_OK)):
        raise ConfigError(f"--out {path} cannot be written: {nearest} is not a folder that you may write to")
    return path


def old(option: str, path: Path) -> Path:
    """Return `path`, which `option` names, if it holds a run.

    Raises:
        ConfigError: It does not.
    """
    files = record.RECORDS, environment.ENVIRONMENT
    try:
        missing = [name for name in files if not (path / name).is_file()]
    except OSError as error:
        raise ConfigError(f"{option} {path} cannot be read: {error.strerror}") from None
    if len(missing) == 1:
        raise ConfigError(f"{option} {path} holds no whole run: {missing[0]} is missing")
    if missing:
        raise ConfigError(f"{option} {path} holds no run: name a folder with {' and '.join(files)}")
    return path


def make(path: Path, where: dict[str, Any]) -> BinaryIO:
    """Make the folder of a new run, with its environment and no records; return the file that claims it.

    If that fails, nothing of it is left.

    Raises:
        ConfigError: It cannot be made, or another run took it.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        return _begun(path, where)
    except BaseException as error:
        with suppress(OSError):  # another run may have taken a folder that this one made
            for folder in missing:
                folder.rmdir()
        if isinstance(error, FileExistsError | BlockingIOError):
            raise ConfigError(f"--out {path} already holds a run, begun a moment ago") from None
        if isinstance(error, OSError):
            raise ConfigError(f"--out {path} cannot be written: {error.strerror}") from None
        raise


def claim(path: Path) -> BinaryIO:
    """Claim the folder of a run that goes on; return the file that claims it.

    Raises:
        ConfigError: Another process has claimed it, or it cannot be written.
    """
    try:
        return record.claim(path)
    except BlockingIOError:
        raise ConfigError(f"--resume {path}: another process is writing there now") from None
    except OSError as error:
        raise ConfigError(f"--resume {path} cannot be written: {error.strerror}") from None


def check_environment(path: Path, where: dict[str, Any]) -> None:
    """Compare the environment of a run that goes on with `where`.

    Raises:
        ConfigError: It was run in another one.
    """
    changed = environment.differences(environment.read(path), where)
    if changed:
        raise ConfigError(f"--resume {path} was run in another environment: {changed[0]}")


def check_readable(option: str, path: Path, plan: Plan | None = None) -> None:
    """Read the run that `option` names, before anything is measured.

    Args:
        option: `--against`, `--resume` or `REPORT`.
        path: The folder.
        plan: What it must have been asked for. The plans are compared before the records are read, which this plan may
            not know how to read.

    Raises:
        ConfigError: It cannot be read, or was asked for something else.
    """
    with _reading(option, path):
        where = environment.read(path)
        if plan is None:
            _check_names(environment.plan_of(where))
    changed = environment.differences(where["plan"], record.plain(plan)) if plan else []
    if changed:
        raise ConfigError(f"{option} {path} was run under another configuration: {changed[0]}")
    if option != REPORT:  # which shows what can be read
        with _reading(option, path):
            record.read(path)


def _check_names(plan: Plan) -> None:
    """Raise ValueError where a plan names what this version does not have."""
    for kind, names, known in (
        ("study", plan.studies, EVERY),
        ("framework", plan.frameworks, FRAMEWORKS),
        ("profile", (plan.profile,), PROFILES),
        ("dtype", (plan.dtype,), DTYPES),
        ("device", (plan.device,), DEVICES),
    ):
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"its plan is another version's: the {kind} {unknown[0]!r} is unknown")
    if not (plan.studies and plan.frameworks and plan.optimizers) and not plan.experiment:
        raise ValueError("its plan names no study, framework or optimizer")


def _begun(path: Path, where: dict[str, Any]) -> BinaryIO:
    held = record.claim(path, new=True)
    try:
        environment.write(path, where)
    except BaseException:
        (path / record.RECORDS).unlink()
        held.close()
        raise
    return held


@contextmanager
def _reading(option: str, path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise ConfigError(f"{option} {path}: what it holds cannot be read: {visible(str(error))}") from None

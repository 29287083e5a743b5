"""Reports drawn from records alone: of one run again, or of several side by side."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from jaxopt_study import folders, session, side_by_side
from jaxopt_study.bench import environment
from jaxopt_study.config import Config, ConfigError, check_beside, formats
from jaxopt_study.outcome import Outcome
from jaxopt_study.session import Beside

OPTIONS = ("report", "against", "fail_on_slower", "export", "json", "verbose", "out")
"""The options that say something to --report."""


def beside(config: Config) -> Beside:
    """Return what is made beside a report; the run to compare with was looked at.

    Raises:
        ConfigError: That run cannot be read, or there is something in the folder to write.
    """
    against = None if config.against is None else folders.old("--against", Path(config.against))
    if against is not None:
        folders.check_readable("--against", against)
    out = folders.new(Path(config.out)) if config.report and config.out is not None else None
    return Beside(against, config.fail_on_slower, formats(config), bool(config.report), out)


def report(config: Config) -> Outcome:
    """Draw the report of the run that `config.report` names, or set several side by side.

    Raises:
        ConfigError: One cannot be read, or an option is given that says nothing to it.
    """
    one = isinstance(config.report, str | os.PathLike)  # from Python
    given: Any = (config.report,) if one else tuple(config.report)
    config = replace(config, report=given)
    for field in fields(Config):
        if field.name not in OPTIONS and getattr(config, field.name) != field.default:
            words = f"--{field.name.replace('_', '-')} says nothing to --report {' '.join(map(str, given))}"
            raise ConfigError(f"{words}, which draws what was measured")
    paths = _checked([Path(path) for path in given])
    check_beside(config)
    if len(paths) > 1:
        _check_for_several(config)
        made = beside(config)
        return side_by_side.report(paths, made.out, made.fail_on_slower, made.export)
    return session.report(environment.plan_of(environment.read(paths[0])), paths[0], beside(config))


def _checked(paths: Sequence[Path]) -> Sequence[Path]:
    """Return the folders, if each holds a run that can be shown and none is given twice."""
    seen: dict[Path, Path] = {}
    for path in paths:
        folder = folders.old(folders.REPORT, path)
        folders.check_readable(folders.REPORT, folder)
        if (other := seen.setdefault(folder.resolve(), path)) is not path:
            raise ConfigError(f"{folders.REPORT} {other} and {path} are the same folder: give each run once")
    return paths


def _check_for_several(config: Config) -> None:
    """Refuse what only one run has."""
    if config.against is not None:
        raise ConfigError(
            "--against says nothing to several folders: the first one is what the others are compared with"
        )
    if "pyperf" in formats(config):
        raise ConfigError("--export pyperf is for one run: give one folder")
    if config.export and config.out is None:
        raise ConfigError("--export of several runs needs a folder to write: --out DIR")

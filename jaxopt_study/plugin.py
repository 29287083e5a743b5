"""A user's models, losses and optimizers: a file or module that registers them, or what a notebook registered."""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

from jaxopt_study import user_code
from jaxopt_study.register import Entry, Registry, collecting
from jaxopt_study.user_code import UserCodeError

__all__ = ["find", "load", "pickled", "place"]


def place(source: str) -> Path:
    """Return the file of a plugin: a path that ends in .py or .pkl, or the name of a module.

    Raises:
        UserCodeError: There is none.
    """
    path = Path(source)
    if path.suffix in (".py", user_code.PICKLED):
        if not path.is_file():
            raise UserCodeError(f"{source} is not a file" if path.exists() else f"{source} does not exist")
        return path.absolute()
    try:
        spec = importlib.util.find_spec(source)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise UserCodeError(f"{source} is neither a file whose name ends in .py nor a module that can be imported")
    return Path(spec.origin)


@cache
def load(source: str, digest: str) -> Registry:
    """Return what a plugin registers; a process runs it once.

    Args:
        source: See `place`; nothing registers nothing.
        digest: `user_code.digest` of its file: another content is another plugin.

    Raises:
        UserCodeError: It cannot be used; the words give its own error and line.
    """
    del digest
    with collecting() as registry:
        if not source:
            return registry
        path = place(source)
        if path.suffix == user_code.PICKLED:
            return _unpickled(path.read_bytes())
        with redirect_stdout(sys.stderr):  # standard output may be a summary in JSON
            if path.name == Path(source).name:
                user_code.run(path)
            else:
                _imported(source, path)
        return registry


def find(source: str, digest: str, kind: str, name: str) -> Entry | None:
    """Return what a plugin registers under a name, or None."""
    return load(source, digest).entries[kind].get(name)


def pickled(registry: Registry) -> bytes:
    """Return the content of a file from which `load` makes the registry again.

    Raises:
        UserCodeError: A function cannot be pickled.
    """
    entries = [(kind, name, entry) for kind, named in registry.entries.items() for name, entry in named.items()]
    functions = {(kind, name, f): maker for kind, name, entry in entries for f, maker in entry.makers.items()}
    words = {key: f"the {key[0]} {key[1]!r}" for key in functions}
    names: Mapping[Any, Any] = {(kind, name): _plain(entry.names) for kind, name, entry in entries}
    return pickle.dumps((user_code.pickled(functions, words), names))


def _plain(names: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {what: dict(said) for what, said in names.items()}


def _unpickled(content: bytes) -> Registry:
    functions, names = pickle.loads(content)
    registry = Registry(again=False)
    makers: dict[tuple[str, str], dict[str, Any]] = {key: {} for key in names}
    for (kind, name, framework), function in pickle.loads(functions).items():
        makers[kind, name][framework] = pickle.loads(function)
    for (kind, name), found in makers.items():
        registry.add(kind, name, found, **names[kind, name])
    return registry


def _imported(source: str, path: Path) -> None:
    try:
        if source in sys.modules:  # what it registered then is not in this registry
            importlib.reload(sys.modules[source])
        else:
            importlib.import_module(source)
    except (Exception, SystemExit) as error:  # whatever the user's module raises
        raise UserCodeError(user_code.in_one_line(error, path)) from None

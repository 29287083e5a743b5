"""A user's own Python: run its file, send its functions to another process, give its errors in one line."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import pickle
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["PICKLED", "UserCodeError", "digest", "file_of", "in_one_line", "pickled", "run"]

PICKLED = ".pkl"
"""The suffix of a file that holds what `pickled` returned."""


OURS = ("jaxopt_study", "torch_reference")
"""Packages whose version a run records."""


class UserCodeError(ValueError):
    """A user's code cannot be used; the words say why, in one line."""


def run(path: Path) -> ModuleType:
    """Run a file, and return the module that it makes.

    Raises:
        UserCodeError: It is no Python file, or it raises; the words give its own error and line.
    """
    name = f"_user_{path.stem}"  # no name that a library may have
    spec = importlib.util.spec_from_file_location(name, path.absolute())
    if spec is None or spec.loader is None:
        raise UserCodeError(f"{path} is no Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.absolute().parent))  # as `python FILE` does
    sys.modules[name] = module  # dataclasses and pickles look their module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever the user's file raises
        raise UserCodeError(in_one_line(error, path.absolute())) from None
    return module


def digest(path: Path) -> str:
    """Return the SHA-256 of a file and of the modules in its folder that it imports, in short."""
    found = hashlib.sha256()
    for file in (path, *sorted(_imported_by(path))):
        found.update(file.read_bytes())
    return found.hexdigest()[:12]


def _imported_by(path: Path) -> set[Path]:
    """Return the files in the folder of a user's that it imports, and what those import; nothing is run."""
    if path.suffix != ".py" or "site-packages" in path.parts:
        return set()
    whole = path.absolute()  # or a relative import would have no folder above
    found, unread = {whole}, [whole]
    while unread:
        new = set(_imports(unread.pop(), whole.parent)) - found
        found |= new
        unread += new
    return found - {whole}


def _imports(file: Path, folder: Path) -> Iterator[Path]:
    """Yield the files in a folder whose modules a file imports; in a package without `__init__.py`, too."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # whoever runs it says so
        return
    for node in ast.walk(tree):
        names, base = [], folder
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [".".join(filter(None, (node.module, alias.name))) for alias in node.names]
            base = file.parents[node.level - 1] if node.level else folder
        for parts in (name.split(".") for name in names if name.partition(".")[0] not in OURS):
            for count in range(1, len(parts) + 1):
                place = base.joinpath(*parts[:count])
                yield from filter(Path.is_file, (place.with_suffix(".py"), place / "__init__.py"))


def pickled(functions: Mapping[Any, Any], words: Mapping[Any, str]) -> bytes:
    """Return the content of a file with these functions, by name; they may be those of a notebook.

    Args:
        functions: The functions by name.
        words: What an error calls each of them.

    Raises:
        UserCodeError: One cannot be pickled.
    """
    import joblib  # scikit-learn brings it; it pickles functions of a notebook by their code

    parts = {}
    for name, function in functions.items():
        try:
            parts[name] = pickle.dumps(joblib.wrap_non_picklable_objects(function, keep_wrapper=False))
        except Exception as error:  # of whatever the function holds
            reason = f"{type(error).__name__}: {error}"
            raise UserCodeError(f"{words[name]} cannot be sent to another process: {reason}") from None
    return pickle.dumps(parts)


def file_of(function: Any, otherwise: Path) -> Path:
    """Return the file of a function's code."""
    code = getattr(function, "__code__", None)
    return otherwise.absolute() if code is None else Path(code.co_filename)


def in_one_line(error: BaseException, path: Path) -> str:
    """Return a user's error in one line: the last line of the user's file `path` that led to it, and its words."""
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno}: SyntaxError: {error.msg}"
    theirs = [frame for frame in frames if Path(frame.filename) == path]
    theirs = theirs or [frame for frame in frames if "jaxopt_study" not in frame.filename] or list(frames)
    words = (str(error).strip().splitlines() or ["no message"])[0]
    return f"{Path(theirs[-1].filename).name}:{theirs[-1].lineno}: {type(error).__name__}: {words}"

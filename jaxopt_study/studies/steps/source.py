"""The file with a user's two steps: what it defines, read without running it; its functions, in a worker."""

from __future__ import annotations

import difflib
import pickle
import symtable
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxopt_study import user_code
from jaxopt_study.bench.task import Refused
from jaxopt_study.user_code import PICKLED, UserCodeError

FUNCTIONS = {"jax": "jax_step", "torch": "torch_step"}
"""Framework -> the function of the user's file."""
TEMPLATE = Path(__file__).with_name("template.txt")


def frameworks(path: Path) -> tuple[str, ...]:
    """Return the frameworks for which the file has a function; it is not run.

    Raises:
        UserCodeError: It cannot be read, is no Python, or has none of the functions.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserCodeError(f"{path} does not exist; make one by --new-experiment {path}") from None
    except OSError as error:
        raise UserCodeError(f"{path} cannot be read: {error.strerror}") from None
    names = _pickled_names(content) if path.suffix == PICKLED else _names(path, content)
    found = tuple(framework for framework, name in FUNCTIONS.items() if name in names)
    if not found:
        wanted = " nor ".join(FUNCTIONS.values())
        near = [n for name in FUNCTIONS.values() for n in difflib.get_close_matches(name, sorted(names), n=1)]
        hint = f"; it defines {', '.join(dict.fromkeys(near))}" if near else ""
        raise UserCodeError(f"{path} defines neither {wanted}{hint}")
    return found


def load(path: Path, framework: str) -> Callable[[], Any]:
    """Return the user's function for a framework; this runs the file.

    Raises:
        Refused: The file raises, or has no such function; the words give the file's own error and line.
    """
    name = FUNCTIONS[framework]
    if path.suffix == PICKLED:
        function = pickle.loads(pickle.loads(path.read_bytes())[framework])
    else:
        try:
            function = getattr(user_code.run(path), name, None)
        except UserCodeError as error:
            raise Refused(str(error)) from None
    if not callable(function):
        raise Refused(f"{path.name}: {name} is no function but a {type(function).__name__}")
    return function


def written_in(path: Path, function: Any) -> Path:
    """Return the file of a function's code: of one that was pickled, it is where it came from."""
    return user_code.file_of(function, path) if path.suffix == PICKLED else path.absolute()


def _names(path: Path, content: bytes) -> set[str]:
    try:
        table = symtable.symtable(content.decode(), str(path), "exec")
    except (SyntaxError, ValueError) as error:  # a null byte, or no UTF-8, is a ValueError
        words = (
            user_code.in_one_line(error, path)
            if isinstance(error, SyntaxError)
            else f"{path} is no Python file: {error}"
        )
        raise UserCodeError(words) from None
    return {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported()}


def _pickled_names(content: bytes) -> set[str]:
    return {FUNCTIONS[framework] for framework in pickle.loads(content)}

"""The file with a user's two steps: what it defines, read without running it; its functions, in a worker."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import pickle
import symtable
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxopt_study.bench.task import Refused

FUNCTIONS = {"jax": "jax_step", "torch": "torch_step"}
"""Framework -> the function of the user's file."""
PICKLED = ".pkl"
"""The suffix of a file that `pickled` wrote."""
TEMPLATE = Path(__file__).with_name("template.txt")


class SourceError(ValueError):
    """The file cannot be used; the words say why, in one line."""


def frameworks(path: Path) -> tuple[str, ...]:
    """Return the frameworks for which the file has a function; it is not run.

    Raises:
        SourceError: It cannot be read, is no Python, or has none of the functions.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise SourceError(f"{path} does not exist; make one by --new-experiment {path}") from None
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from None
    names = _pickled_names(content) if path.suffix == PICKLED else _names(path, content)
    found = tuple(framework for framework, name in FUNCTIONS.items() if name in names)
    if not found:
        wanted = " nor ".join(FUNCTIONS.values())
        near = [n for name in FUNCTIONS.values() for n in difflib.get_close_matches(name, sorted(names), n=1)]
        hint = f"; it defines {', '.join(dict.fromkeys(near))}" if near else ""
        raise SourceError(f"{path} defines neither {wanted}{hint}")
    return found


def digest(path: Path) -> str:
    """Return the SHA-256 of the file, in short."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def load(path: Path, framework: str) -> Callable[[], Any]:
    """Return the user's function for a framework; this runs the file.

    Raises:
        Refused: The file raises, or has no such function; the words give the file's own error and line.
    """
    name = FUNCTIONS[framework]
    if path.suffix == PICKLED:
        function = pickle.loads(pickle.loads(path.read_bytes())[framework])
    else:
        function = getattr(_module(path), name, None)
    if not callable(function):
        raise Refused(f"{path.name}: {name} is no function but a {type(function).__name__}")
    return function


def written_in(path: Path, function: Any) -> Path:
    """Return the file of a function's code: of one that was pickled, it is where it came from."""
    code = getattr(function, "__code__", None)
    return Path(code.co_filename) if path.suffix == PICKLED and code is not None else path.absolute()


def pickled(functions: Mapping[str, Callable[[], Any]]) -> bytes:
    """Return the content of a file with these functions, by framework; they may be those of a notebook.

    Raises:
        SourceError: One cannot be pickled.
    """
    import joblib  # scikit-learn brings it; it pickles functions of a notebook by their code

    parts = {}
    for framework, function in functions.items():
        try:
            parts[framework] = pickle.dumps(joblib.wrap_non_picklable_objects(function, keep_wrapper=False))
        except Exception as error:  # of whatever the function holds
            name = FUNCTIONS[framework]
            raise SourceError(f"{name} cannot be sent to another process: {type(error).__name__}: {error}") from None
    return pickle.dumps(parts)


def own_error(error: BaseException, path: Path) -> str:
    """Return a user's error in one line: the last line of the user's file `path` that led to it, and its words."""
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno}: SyntaxError: {error.msg}"
    theirs = [frame for frame in frames if Path(frame.filename) == path]
    theirs = theirs or [frame for frame in frames if "jaxopt_study" not in frame.filename] or list(frames)
    words = (str(error).strip().splitlines() or ["no message"])[0]
    return f"{Path(theirs[-1].filename).name}:{theirs[-1].lineno}: {type(error).__name__}: {words}"


def _names(path: Path, content: bytes) -> set[str]:
    try:
        table = symtable.symtable(content.decode(), str(path), "exec")
    except (SyntaxError, ValueError) as error:  # a null byte, or no UTF-8, is a ValueError
        words = own_error(error, path) if isinstance(error, SyntaxError) else f"{path} is no Python file: {error}"
        raise SourceError(words) from None
    return {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported()}


def _pickled_names(content: bytes) -> set[str]:
    return {FUNCTIONS[framework] for framework in pickle.loads(content)}


def _module(path: Path) -> Any:
    name = f"_experiment_{path.stem}"  # no name that a library may have
    spec = importlib.util.spec_from_file_location(name, path.absolute())
    if spec is None or spec.loader is None:
        raise Refused(f"{path} is no Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.absolute().parent))  # as `python FILE` does
    sys.modules[name] = module  # dataclasses and pickles look their module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever the user's file raises
        raise Refused(own_error(error, path.absolute())) from None
    return module

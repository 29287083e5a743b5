"""Files of data: `.npz` with X and y, `.csv` and `.parquet` with a column of targets."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from jaxopt_study.data.given import DataError, Given, arrays, nearest

__all__ = ["SUFFIXES", "read"]


def read(path: Path, target: str | None) -> Given:
    """Return the rows of a file, checked.

    Args:
        path: A file whose name ends in one of `SUFFIXES`.
        target: The column of the targets, for tables; all others are inputs.

    Raises:
        DataError: It cannot be read, or what it holds cannot be trained on.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{suffix or 'no suffix'!r} is no format: choose from {', '.join(SUFFIXES)}")
    if suffix == ".npz" and target is not None:
        raise DataError(f"--target {target} is for tables: a .npz file has its targets in y")
    try:
        if not path.is_file():
            raise DataError("there is no such file" if not path.exists() else "it is not a file")
        if not path.stat().st_size:
            raise DataError("the file is empty")
        if suffix == ".npz":
            return _arrays(path)
        return _table(_frame(path, SUFFIXES[suffix]), path.name, target)
    except OSError as error:
        raise DataError(f"it cannot be read: {error.strerror or error}") from None


def _arrays(path: Path) -> Given:
    try:
        with np.load(path, allow_pickle=False) as file:
            held = {name: file[name] for name in file.files}
    except (ValueError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise DataError(f"it is no .npz file of numbers: {_line(error)}") from None
    if not {"X", "y"} <= set(held):
        raise DataError(f"it holds {', '.join(held) or 'nothing'}: it must hold X and y")
    return arrays(held["X"], held["y"], path.name)


def _frame(path: Path, reader: Callable[[Any, Path], Any]) -> Any:
    """Return the table that pandas reads."""
    for package in ("pandas",) if path.suffix.lower() == ".csv" else ("pandas", "pyarrow"):
        if find_spec(package) is None:
            raise DataError(f"to read it, {package} must be installed: python -m pip install {package}")
    import pandas as pd

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return reader(pd, path)
    except OSError as error:
        if error.strerror:
            raise
        raise DataError(f"it is no {path.suffix[1:]} file: {_line(error)}") from None
    except pd.errors.EmptyDataError:
        raise DataError("the file is empty") from None
    except pd.errors.ParserWarning:
        raise DataError("its rows have more fields than the header") from None
    except (pd.errors.ParserError, UnicodeDecodeError, ValueError) as error:
        words = _line(error).removeprefix("Error tokenizing data. C error: ")
        raise DataError(f"its rows cannot be read: {words}") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _table(frame: Any, name: str, target: str | None) -> Given:
    """Return a table's rows; each column but the target's must be numbers."""
    columns = [str(column) for column in frame.columns]
    frame.columns = columns
    _check_names(columns)
    if len(columns) < 2:
        raise DataError(f"it has one column, {columns[0]!r}: columns are separated by commas, and there must be two")
    if not len(frame):
        raise DataError("it has a header and no rows")
    if target is None:
        raise DataError(f"--target is needed, the column to predict: {nearest('y', columns)}")
    if target not in columns:
        raise DataError(f"--target {target} is no column: {nearest(target, columns)}")
    names = [column for column in columns if column != target]
    inputs = np.column_stack([_numbers(frame[column], column) for column in names])
    return arrays(inputs, _targets(frame[target], target), name, names, target)


def _check_names(columns: list[str]) -> None:
    """Refuse a name that two columns have, and a column without a name: pandas' own index, or a slip."""
    for number, column in enumerate(columns, 1):
        # An index that was written and read again has the second name.
        if not column.strip() or column.startswith("Unnamed: "):
            advice = "write the table without its index, to_csv(index=False), or name the column"
            raise DataError(f"column {number} is unnamed: {advice}")
        if (count := columns.count(column)) > 1:
            raise DataError(f"{count} columns are named {column!r}: the header must name each column differently")


def _targets(column: Any, name: str) -> Any:
    """Return the column of the targets as numbers, or as text."""
    if column.dtype.kind == "f":
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    missing = column.isna().to_numpy()
    if missing.any():
        first = f"the first in row {missing.argmax() + 1}, column {name!r}"
        raise DataError(f"of {len(missing):,} targets {missing.sum():,} are missing: {first}")
    import pandas as pd

    if pd.api.types.infer_dtype(column) == "decimal":
        return column.to_numpy(dtype=np.float64)
    return (column if column.dtype.kind in "biu" else column.astype(str)).to_numpy()


def _numbers(column: Any, name: str) -> Any:
    """Return a column of a table as numbers; what is missing is NaN."""
    if column.dtype.kind in "biuf":
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    import pandas as pd

    # pandas takes a date, a duration or a period for a whole number: of microseconds, or of months.
    time = column.dtype.kind in "mM" or isinstance(column.dtype, pd.PeriodDtype)
    numbers = pd.to_numeric(column.astype(str) if time else column, errors="coerce")
    text = (numbers.isna() & column.notna()).to_numpy()
    if text.any():
        row = int(text.argmax())
        raise DataError(f"row {row + 1}, column {name!r} holds {str(column.iloc[row])!r}, which is no number")
    return numbers.to_numpy(dtype=np.float64, na_value=np.nan)


def _read_csv(pd: Any, path: Path) -> Any:
    """Return the table of a file, with the names as they are written: pandas alone makes `y` and `y.1` of `y` twice."""
    # Without index_col=False, pandas takes the first column for an index where rows have a field too many.
    read = partial(pd.read_csv, path, index_col=False, skipinitialspace=True)
    frame = read()
    frame.columns = read(header=None, nrows=1, dtype=str, keep_default_na=False).iloc[0]
    return frame


SUFFIXES: dict[str, Any] = {
    ".npz": None,
    ".csv": _read_csv,
    ".parquet": lambda pd, path: pd.read_parquet(path),
}
"""The formats -> what reads them with pandas."""

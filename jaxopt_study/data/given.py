"""A user's own data: a file or two arrays, read and checked, and the workload that is made of them."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np

from jaxopt_study.data.networks import Array, Convolutional, Dense, Network
from jaxopt_study.data.workload import LOSSES, Rows, Workload, split, standardize
from jaxopt_study.data.workloads import shuffled, standardized_targets
from jaxopt_study.terminal import counted

__all__ = ["BATCH_SIZE", "DataError", "Given", "arrays", "network"]

BATCH_SIZE = 32
"""The rows of a step where nothing is said; all of the training part if it has fewer."""
MOST_CLASSES = 100
"""Targets that are whole numbers are classes where they have at most so many values, and numbers otherwise."""
FEWEST_ROWS = 10
CHANNELS = (8, 16)


class DataError(ValueError):
    """The data cannot be trained on; the message is one line that names the place and what is allowed."""


@dataclass(frozen=True)
class Given:
    """Rows that were read and checked.

    Attributes:
        name: The file's name, or `arrays`.
        inputs: (rows, features), float64, finite.
        targets: (rows,), the numbers of classes, or float64.
        classes: The names of the classes, in the order of their numbers; none for a regression.
        target: What is predicted, in words.
    """

    name: str
    inputs: Array
    targets: Array
    classes: tuple[str, ...]
    target: str

    def parts(self, standardized: bool) -> tuple[Rows, ...]:
        """Return the parts for training, validation and testing: 60, 20 and 20 %, always the same rows.

        Args:
            standardized: Whether each column is shifted and scaled to mean 0 and deviation 1 of the training part, and
                so are the targets of a regression.
        """
        parts: tuple[Rows, ...] = split((self.inputs, self.targets), np.random.default_rng(0))
        if not standardized:
            return parts
        inputs = standardize(*(inputs for inputs, _ in parts))
        parts = tuple(zip(inputs, (targets for _, targets in parts), strict=True))
        return parts if self.classes else standardized_targets(parts)

    def workload(
        self, network: Network, standardized: bool, seed: int, epochs: int, batch_size: int, loss: str = ""
    ) -> Workload:
        """Return what is trained; by default with the loss that the targets ask for."""
        return shuffled(self.name, network, self.parts(standardized), seed, epochs, batch_size, loss or self.loss)

    @property
    def loss(self) -> str:
        """The loss that the targets ask for."""
        return "cross_entropy" if self.classes else "squared_error"

    @property
    def outputs(self) -> int:
        """How many numbers the network returns for a row."""
        return len(self.classes) or 1

    @property
    def batch_size(self) -> int:
        """The rows of a step where nothing is said."""
        return min(BATCH_SIZE, self.training_rows)

    @property
    def training_rows(self) -> int:
        """How many rows are trained on."""
        return len(self.targets) * 3 // 5

    def facts(self, network: Network, standardized: bool, loss: str = "") -> tuple[str, ...]:
        """Return what a reader is told of the data, each fact as `name: value`."""
        rows, features = self.inputs.shape
        train, validation, test = (counted(len(targets), "row") for _, targets in self.parts(False))
        what = f"classification, {len(self.classes)} classes" if self.classes else "regression"
        both = "inputs" if self.classes else "inputs and targets"
        return (
            f"data: {self.name}, {counted(rows, 'row')} of {counted(features, 'number')}",
            f"target: {self.target}: {what}",
            f"parts: {train} for training, {validation} for validation, {test} for testing, drawn at random",
            f"scale: {f'{both} standardized on the training part' if standardized else 'as given'}",
            f"network: {network.words}",
            f"loss: {loss or LOSSES[self.loss]}",
            f"sha256: {self._digest()}",
        )

    def _digest(self) -> str:
        found = hashlib.sha256(np.ascontiguousarray(self.inputs).data)
        found.update(np.ascontiguousarray(self.targets).data)
        return found.hexdigest()[:16]


def network(model: str, features: int, outputs: int) -> Network:
    """Return the network that `linear`, `mlp:64,32` (hidden widths, ReLU) or `cnn:28x28` (height, width) names.

    Raises:
        DataError: It names none, or the sides of a cnn do not multiply to the features.
    """
    kind, _, rest = model.partition(":")
    numbers = [int(part) if part.strip().isdecimal() else 0 for part in rest.split("x" if kind == "cnn" else ",")]
    if model == "linear":
        return Dense((features, outputs))
    if kind == "mlp" and all(numbers):
        return Dense((features, *numbers, outputs), "relu")
    if kind == "cnn" and all(numbers) and len(numbers) == 2:
        height, width = numbers
        if height * width != features:
            raise DataError(f"the data have {features} features, and {height} x {width} are {height * width}")
        return Convolutional((height, width), CHANNELS, outputs)
    raise DataError(f"{model!r} is no model: write linear, mlp:64,32 (hidden widths) or cnn:28x28 (height x width)")


def arrays(inputs: Any, targets: Any, name: str = "arrays", names: Sequence[str] = (), target: str = "y") -> Given:
    """Return two arrays, checked: inputs (rows, features), or (rows, ...) that are made flat, and targets (rows,).

    Args:
        inputs: Numbers.
        targets: Text, true and false, or whole numbers of at most `MOST_CLASSES` values for a classification; other
            numbers for a regression.
        name: Where they come from, for titles.
        names: The names of the columns of inputs; by default x[0], x[1], ...
        target: The name of the targets.

    Raises:
        DataError: They cannot be trained on.
    """
    for letter, given in (("X", inputs), ("y", targets)):
        if isinstance(given, np.ma.MaskedArray):
            raise DataError(f"{letter} is a masked array: it must be a plain array, with no value missing")
    x, y = _real(inputs), _of_one_type(np.asarray(targets))
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if x.ndim < 2 or y.ndim != 1 or len(x) != len(y):
        raise DataError(f"X has shape {x.shape} and y {y.shape}: they must be (rows, features) and (rows,)")
    x = x.reshape(len(x), -1)
    if len(x) < FEWEST_ROWS or not x.shape[1]:
        found = f"{counted(len(x), 'row')} of {counted(x.shape[1], 'number')}"
        raise DataError(f"{found} are too few: there must be {FEWEST_ROWS} rows or more")
    _check_finite(x, names or [f"x[{number}]" for number in range(x.shape[1])])
    if y.dtype.kind == "f":
        _check_finite(y[:, None], [target])
    elif y.dtype.kind not in "biuUST":
        raise DataError(f"targets of type {y.dtype} are neither real numbers nor text")
    numbers, classes = _classes(y, target)
    return Given(name, x, numbers, classes, target)


def nearest(name: str, choices: Sequence[str], most: int = 10) -> str:
    """Return the choices in words, with the one that a misspelt name is nearest to."""
    near = difflib.get_close_matches(name, choices, n=1)
    more = f" and {len(choices) - most} more" if len(choices) > most else ""
    return f"choose from {', '.join(choices[:most])}{more}" + (f"; did you mean {near[0]!r}?" if near else "")


def _real(inputs: Any) -> Array:
    """Return the inputs in float64; NumPy alone would take dates, durations and complex numbers too."""
    try:
        x = np.asarray(inputs)
        odd = [kind.__name__ for kind in _types(x) if not (_is_number(kind) or issubclass(kind, str))]
        if not odd and x.dtype.kind not in "mMc":
            return x.astype(np.float64)
        why = f"its type is {', '.join(odd) or x.dtype}"
    except (TypeError, ValueError) as error:
        why = str(error)
    raise DataError(f"X holds something that is no number: {why}")


def _of_one_type(targets: Array) -> Array:
    """Return an array of objects as an array of text or of numbers; another array as it is."""
    if targets.dtype.kind != "O":
        return targets
    kinds = _types(targets)
    if all(issubclass(kind, str) for kind in kinds):
        return targets.astype(str)
    if all(_is_number(kind) for kind in kinds):
        found = np.array(targets.tolist())
        return targets.astype(np.float64) if found.dtype.kind == "O" else found  # decimals, and large integers
    names = ", ".join(kind.__name__ for kind in kinds)
    raise DataError(f"the targets have the types {names}: they must be all numbers or all text")


def _types(values: Array) -> list[type]:
    """Return the types of the values in an array of objects; none for another array."""
    found = {type(value) for value in values.flat} if values.dtype.kind == "O" else set()
    return sorted(found, key=lambda kind: kind.__name__)


def _is_number(kind: type) -> bool:
    return issubclass(kind, Real | Decimal | np.bool_) and not issubclass(kind, np.timedelta64)


def _check_finite(values: Array, names: Sequence[str]) -> None:
    bad = ~np.isfinite(values)
    if bad.any():
        row, column = divmod(int(bad.argmax()), values.shape[1])
        count = int(bad.sum())
        first = f"in row {row + 1}, column {names[column]!r}"
        raise DataError(
            f"{count:,} number{'s are' if count > 1 else ' is'} missing, NaN or infinite: "
            f"{'the first ' if count > 1 else ''}{first}"
        )


def _classes(targets: Array, name: str) -> tuple[Array, tuple[str, ...]]:
    """Return the targets as numbers of classes with the classes' names, or as they are with no names."""
    values, numbers, counts = np.unique(targets, return_inverse=True, return_counts=True)
    if len(values) == 1:
        raise DataError(f"all {len(targets):,} targets in {name!r} are {values[0]}: there is nothing to tell apart")
    whole = targets.dtype.kind in "biu" or (targets.dtype.kind == "f" and bool((values == np.floor(values)).all()))
    if targets.dtype.kind not in "UST" and not (whole and len(values) <= MOST_CLASSES):
        return targets.astype(np.float64), ()
    if counts.min() == 1:
        alone = values[counts.argmin()]
        raise DataError(f"class {alone} of {name!r} has one row: each of the {len(values)} classes must have two")
    return numbers.astype(np.int64), tuple(map(str, values))

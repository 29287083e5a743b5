"""One side of a comparison: what a user's function for one framework returned, checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from jaxopt_study import user_code
from jaxopt_study.backends import Backend
from jaxopt_study.bench.case import Plan
from jaxopt_study.bench.record import digest
from jaxopt_study.bench.task import Refused
from jaxopt_study.parity.trees import Leaves, flatten
from jaxopt_study.studies.steps import initial, source

STEPS = 32
"""Steps of a run: those that are compared, and those that are timed."""
BATCHES_BYTES = 2**29
"""All batches of a run lie in memory, stacked for `lax.scan` too."""

ENTRIES = ("state", "step", "batches")
PARAMS = "params"
"""An entry that may be left out."""


@dataclass(frozen=True)
class Side:
    """A user's training in one framework.

    Attributes:
        name: The user's function.
        path: The file of the user's code, for errors.
        state: The state before the first step; it is never used up.
        step: step(state, batch) returns (state, loss).
        batches: One batch for each of `STEPS` steps, as NumPy arrays.
        params: params(state) returns the parameters by name, or None where it finds none.
    """

    name: str
    path: Path
    state: Any
    step: Callable[[Any, Any], tuple[Any, Any]]
    batches: list[Any]
    params: Callable[[Any], Any]

    def leaves(self, state: Any) -> Leaves:
        """Return the parameters of a state, each as an array of its own.

        Raises:
            Refused: They cannot be read.
        """
        found = self.call(lambda: self.params(state))
        if found is None:
            raise Refused(
                f"{self.name}: no parameters are found in the state: return {PARAMS} too, a function of the state that "
                "returns named arrays, or torch's modules"
            )
        try:
            leaves = flatten(found, f"{self.name}: {PARAMS}")
        except ValueError as error:
            raise Refused(str(error)) from None
        if not any(leaf.size for leaf in leaves.values()):
            raise Refused(f"{self.name}: {PARAMS} has no numbers")
        # NumPy alone has no bfloat16.
        return {
            name: leaf.astype("float32") if leaf.dtype.name == "bfloat16" else leaf.copy()
            for name, leaf in leaves.items()
        }

    def call(self, function: Callable[[], Any]) -> Any:
        """Return function(); an error of the user's code is refused with its own line."""
        try:
            return function()
        except Refused:
            raise
        except Exception as error:  # whatever the user's code raises
            raise Refused(f"{self.name}: {user_code.in_one_line(error, self.path)}") from None


_SIDES: dict[tuple[str, str, str], Side] = {}


def side(backend: Backend, framework: str, plan: Plan) -> Side:
    """Return the side of a framework; a process runs the user's file once.

    Raises:
        Refused: The file, or what its function returns, cannot be used.
    """
    key = plan.experiment, plan.experiment_digest, framework
    if key not in _SIDES:
        _SIDES[key] = _made(backend, framework, plan)
    return _SIDES[key]


def _made(backend: Backend, framework: str, plan: Plan) -> Side:
    name, path = source.FUNCTIONS[framework], Path(plan.experiment)
    function = source.load(path, framework)
    path = source.written_in(path, function)
    given = [initial.of_torch(plan)] if framework == "jax" and initial.wanted(function) else []
    try:
        made = backend.steps.build(function, *given)
    except Exception as error:  # whatever the user's code raises
        raise Refused(f"{name}: {user_code.in_one_line(error, path)}") from None
    every = (*ENTRIES, PARAMS)
    entries = made if isinstance(made, Mapping) else {key: getattr(made, key) for key in every if hasattr(made, key)}
    missing = [key for key in ENTRIES if key not in entries]
    if missing:
        what = ", ".join(map(str, entries)) if isinstance(made, Mapping) else f"a {type(made).__name__}"
        raise Refused(f"{name} returns no {missing[0]}: it must return a dict of {', '.join(ENTRIES)}, and not {what}")
    for key in ("step", PARAMS):
        if key in entries and not callable(entries[key]):
            raise Refused(f"{name}: {key} is no function but a {type(entries[key]).__name__}")
    batches = _batches(name, entries["batches"])
    params = partial(backend.parameters.read, params=entries.get(PARAMS))
    return Side(name, path, entries["state"], entries["step"], batches, params)


def _batches(name: str, given: Any) -> list[Any]:
    """Return a batch for each step: the first ones, or all of them again and again."""
    if not isinstance(given, Iterable) or isinstance(given, Mapping | str):
        raise Refused(f"{name}: batches is no list of batches but a {type(given).__name__}")
    some = list(islice(given, STEPS))
    if not some:
        raise Refused(f"{name}: batches is empty")
    size = sum(leaf.nbytes for batch in some for leaf in numbers(name, batch).values())
    if size * STEPS / len(some) > BATCHES_BYTES:
        raise Refused(
            f"{name}: {STEPS} batches are {size / 2**20:.0f} MiB; at most {BATCHES_BYTES // 2**20} are allowed"
        )
    return list(islice(cycle(some), STEPS))


def numbers(name: str, batch: Any) -> Leaves:
    """Return the arrays of a batch by their names.

    Raises:
        Refused: It holds something else.
    """
    try:
        return flatten({"batch": batch}, f"{name}: batches")
    except ValueError as error:
        raise Refused(str(error)) from None


def batch_digest(name: str, batch: Any, dtype: str) -> str:
    """Return the digest of what a step is given: floating point numbers in the run's type."""
    leaves = numbers(name, batch)
    return digest({k: v.astype(dtype) if v.dtype.kind == "f" else v.astype(np.int64) for k, v in leaves.items()})

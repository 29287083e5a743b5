"""The step as given, from its initial state on: what the other side, and every other way to loop, is compared with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from jaxopt_study.backends import Backend
from jaxopt_study.bench.case import Plan
from jaxopt_study.bench.task import Refused
from jaxopt_study.parity.rounding import Scale, precision
from jaxopt_study.parity.trees import Leaves, flatten
from jaxopt_study.studies.steps.side import STEPS, Side, side

PATH_BYTES = 2**25
"""A record keeps the parameters after each step, in so many bytes at most; of larger ones, every k-th element."""
UNITS_OF_LOSS = 512
"""Units in the last place by which two losses may differ. Measured: 49 in 32 steps of an MLP under Adam."""
LOCATED = 10
"""Steps over which parameters are compared one by one. In 32 steps rounding switched a ReLU of 512 on or off."""
NOISE = 1 / 8
"""An element is left to rounding where one unit in the last place of the initial parameters moves it by more than this
part of the locator's tolerance. Of 401,408 weights under Adam these were 29, and the others came to 0.54 of it."""
MOVEMENT = 5e-3
"""Part of a leaf's movement by which two ways to loop may differ at the end, as vectors. Measured: 2e-6, and 8e-4 where
rounding switched a ReLU (of JAX from PyTorch)."""
SENSITIVITY = 4
"""Times the sensitivity to rounding, which two right ways may differ by as well."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Reference:
    """A run of the step as given.

    Attributes:
        losses: The loss of each step.
        path: Each leaf before the first step and after the first ones, (LOCATED + 1, ...); of large ones, every k-th
            element.
        noise: Which elements of a path are left to rounding; leaves without any are left out.
        last: Each leaf after the last step.
        allowed: The length of the difference that rounding explains there, leaf by leaf.
        loss_allowed: The same for the losses.
        loss_sensitivity: How far the losses move when each initial number is moved by one unit in the last place.
    """

    losses: Array
    path: Leaves
    noise: Leaves
    last: Leaves
    allowed: Mapping[str, float]
    loss_allowed: float
    loss_sensitivity: float


_REFERENCES: dict[tuple[str, str, str], Reference] = {}


def reference(backend: Backend, framework: str, plan: Plan) -> Reference:
    """Return the run of the step as given; a process makes it once.

    Raises:
        Refused: The step cannot be used.
    """
    key = plan.experiment, plan.experiment_digest, framework
    if key not in _REFERENCES:
        _REFERENCES[key] = _made(backend, side(backend, framework, plan))
    return _REFERENCES[key]


def _made(backend: Backend, mine: Side) -> Reference:
    trees, losses = _run(backend, mine, mine.state)
    _require_same_again(backend, mine, trees[0], losses)
    _require_movement(mine, trees)
    moved, others = _run(backend, mine, backend.steps.moved(mine.state))
    sensitivity = float(np.max(np.abs(losses - others)))
    allowed = {
        name: precision(leaf.dtype) * length(leaf)
        + MOVEMENT * length(leaf, trees[0][name])
        + SENSITIVITY * length(leaf, moved[-1][name])
        for name, leaf in trees[-1].items()
    }
    unit = max(precision(leaf.dtype) for leaf in trees[0].values())
    loss_allowed = UNITS_OF_LOSS * unit * max(1.0, float(np.abs(losses).max())) + SENSITIVITY * sensitivity
    path, other = _path(trees[: LOCATED + 1]), _path(moved[: LOCATED + 1])
    masks = {name: _noise(path[name], other[name]) for name in path}
    mostly = 2 * sum(mask.sum() for mask in masks.values()) > sum(mask.size for mask in masks.values())
    noise = {} if mostly else {name: mask for name, mask in masks.items() if mask.any()}
    return Reference(losses, path, noise, trees[-1], allowed, loss_allowed, sensitivity)


def _run(backend: Backend, mine: Side, state: Any, steps: int = STEPS) -> tuple[list[Leaves], Array]:
    """Make steps; return the parameters before the first and after each, and the losses."""
    loop = backend.steps.as_given(mine.step, state)
    state = mine.call(loop.start)
    trees, losses = [mine.leaves(state)], []
    for number, batch in enumerate(loop.load(mine.batches[:steps]), start=1):
        output = mine.call(partial(mine.step, state, batch))
        if not (isinstance(output, tuple) and len(output) == 2):
            raise Refused(f"{mine.name}: step must return (state, loss), and returned a {type(output).__name__}")
        state, loss = output
        losses.append(_loss(mine, loss, number))
        trees.append(mine.leaves(state))
        _require_alike(mine, trees[0], trees[-1], number)
    return trees, np.array(losses)


def _loss(mine: Side, loss: Any, number: int) -> float:
    try:
        leaf = flatten({"loss": loss}, f"{mine.name}: step")["loss"]
    except (KeyError, ValueError):  # a tree, None, or text
        raise Refused(f"{mine.name}: the loss is no scalar but a {type(loss).__name__}") from None
    if leaf.size != 1:
        raise Refused(f"{mine.name}: the loss is no scalar but has shape {leaf.shape}")
    value = float(leaf.ravel()[0])
    if number == 1 and not math.isfinite(value):
        raise Refused(f"{mine.name}: the loss of the first step is {value}")
    return value


def _require_alike(mine: Side, first: Leaves, now: Leaves, number: int) -> None:
    for name in dict.fromkeys((*first, *now)):
        shapes = [tree[name].shape if name in tree else None for tree in (first, now)]
        if shapes[0] != shapes[1]:
            raise Refused(f"{mine.name}: step {number} changes {name} from shape {shapes[0]} to {shapes[1]}")


def _require_same_again(backend: Backend, mine: Side, initial: Leaves, losses: Array) -> None:
    """Make the first steps again: a step may change its state, and nothing else."""
    again, others = _run(backend, mine, mine.state, 2)
    changed = [name for name, leaf in initial.items() if not np.array_equal(leaf, again[0][name], equal_nan=True)]
    if changed or not np.allclose(losses[:2], others, rtol=1e-3, atol=0, equal_nan=True):
        what = f"{changed[0]} begins elsewhere" if changed else f"the losses are {others} instead of {losses[:2]}"
        raise Refused(
            f"{mine.name}: run again from the same state, {what}: what step changes, and what params reads, must be "
            "in the state (model and optimizer, say)"
        )


def _require_movement(mine: Side, trees: list[Leaves]) -> None:
    if all(np.array_equal(trees[0][name], leaf, equal_nan=True) for name, leaf in trees[-1].items()):
        raise Refused(
            f"{mine.name}: no parameter changed in {STEPS} steps: does step return the new state, does the loss have a "
            "gradient?"
        )


def length(leaf: Array, other: Array | None = None) -> float:
    """Return the length of a leaf as a vector, or of its difference from another."""
    return float(np.linalg.norm(leaf.astype(float) - (0 if other is None else other.astype(float))))


def _path(trees: list[Leaves]) -> Leaves:
    """Return each leaf's path; of large leaves, so many elements that all paths together have `PATH_BYTES`."""
    most = PATH_BYTES // (len(trees) * len(trees[0]))
    found = {}
    for name, leaf in trees[0].items():
        stride = math.ceil(leaf.nbytes / most)
        label = name if stride <= 1 else f"{name} (one element in {stride})"
        found[label] = np.stack([tree[name] if stride <= 1 else tree[name].ravel()[::stride] for tree in trees])
    return found


def _noise(path: Array, moved: Array) -> Array:
    """Return which elements are left to rounding.

    Adam makes full steps of a gradient that is 0 but for rounding, as that of the bias of attention's keys, and in a
    large leaf a few gradients are near 0 by chance. A leaf may hold such elements among others.
    """
    unit, scale, found = precision(path.dtype), Scale(), np.zeros(path.shape[1:], bool)
    for step, now in enumerate(path):
        scale = scale.after((path[step - 1],) * 2 if step else None, (now, now))
        change = (now.astype(float) - path[0]) - (moved[step].astype(float) - moved[0])
        least = np.maximum(NOISE * scale.allowed(unit), 2 * unit * np.abs(now.astype(float)))
        found |= np.abs(change) > least
    return found

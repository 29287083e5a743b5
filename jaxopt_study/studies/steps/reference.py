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
from jaxopt_study.parity.trees import Leaves, distance, flatten
from jaxopt_study.studies.steps.side import STEPS, Side, side

PATH_BYTES = 2**25
"""A record keeps the parameters after each step, in so many bytes at most; of larger ones, every k-th element."""
UNITS_OF_LOSS = 128
"""Units in the last place by which two losses may differ; see tests/test_experiment.py for what was measured."""
NOISE = 0.1
"""An element is rounding alone where one unit in the last place changes its first update by more than this part."""
SENSITIVITY = 4
"""Times the sensitivity to rounding, which two right ways may differ by as well."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Reference:
    """A run of the step as given.

    Attributes:
        losses: The loss of each step.
        path: Each leaf before the first step and after each, (steps + 1, ...); of large ones, every k-th element.
        noise: Where in a path the first update is rounding alone; leaves without any are left out.
        last: Each leaf after the last step.
        allowed: The largest difference that rounding explains there, leaf by leaf.
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
        name: _scale(trees, name).allowed(precision(leaf.dtype))
        + SENSITIVITY * float(distance(leaf, moved[-1][name]).max(initial=0))
        for name, leaf in trees[-1].items()
    }
    unit = max(precision(leaf.dtype) for leaf in trees[0].values())
    loss_allowed = UNITS_OF_LOSS * unit * max(1.0, float(np.abs(losses).max())) + SENSITIVITY * sensitivity
    path, other = _path(trees), _path(moved)
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


def _scale(trees: list[Leaves], name: str) -> Scale:
    scale, before = Scale(), None
    for tree in trees:
        now = tree[name], tree[name]
        scale, before = scale.after(before, now), now
    return scale


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
    """Return which elements have a first update that is rounding alone, as a bias of attention's keys has.

    Its true gradient is 0, and Adam makes full steps of what rounding leaves of it. A leaf may hold such elements among
    others, as the bias of queries, keys and values in one does.
    """
    update, other = (p[1].astype(float) - p[0] for p in (path, moved))
    size = 8 * precision(path.dtype) * np.abs(path[0].astype(float))
    return np.abs(update - other) > np.maximum(NOISE * np.abs(update), size)

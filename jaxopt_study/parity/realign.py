"""All faults of a training: each step is made from the other training's parameters, so that none hides the next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from jaxopt_study.parity.causes import part
from jaxopt_study.parity.compared import Compared, Pair
from jaxopt_study.parity.difference import at
from jaxopt_study.parity.pairs import Trajectory, pairs_of
from jaxopt_study.parity.patterns import Pattern, recognize
from jaxopt_study.parity.quantities import split
from jaxopt_study.parity.report import Report
from jaxopt_study.parity.seen import Seen
from jaxopt_study.parity.trees import Leaves, Tree, copied, flatten


@dataclass(frozen=True)
class Fault:
    """A difference that some steps have of themselves.

    Attributes:
        steps: The steps, counted from 1.
        report: What the first of them looks like.
    """

    steps: tuple[int, ...]
    report: Report

    def __str__(self) -> str:
        first, last = self.steps[0], self.steps[-1]
        which = f"step {first}" if first == last else f"{len(self.steps)} steps from {first} to {last}"
        return f"{which}: {self.report}"


def realigned(
    step: Callable[[Any, Any], Any],
    state: Any,
    batches: Iterable[Any],
    first: Iterable[Tree],
    restore: Callable[[Any, Leaves], Any],
    params: Callable[[Any], Tree] = lambda state: state,
) -> Iterator[Tree]:
    """Yield the parameters after each step, where each step begins at the other training's parameters.

    The optimizer's state stays that of this training. Its gradients are those at the other's parameters, so it is the
    other's state as well, unless a step was wrong.

    Args:
        step: step(state, batch) makes one step and returns the new state, or None where it changed `state` in place.
        state: The state before the first step.
        batches: What each step is given.
        first: The other training: its trees, the initial parameters first, as `load_trajectory` gives them.
        restore: restore(state, leaves) returns the state with these parameters, or None where it changed `state` in
            place. The leaves have the names of `params`.
        params: params(state) is the tree of the parameters; with names that begin with @, what else is known.

    Example:
        >>> import numpy as np
        >>> first = [{"w": np.array(w)} for w in (0.0, 1.0, 5.0)]
        >>> def step(state, by):
        ...     return {"w": state["w"] + by}
        >>> [float(tree["w"]) for tree in realigned(step, first[0], [1, 2], first, lambda _, leaves: leaves)]
        [0.0, 1.0, 3.0]
    """
    trees = iter(first)
    before, _ = split(flatten(next(trees)))
    yield before
    for batch, tree in zip(batches, trees, strict=False):
        restored = restore(state, before)
        state = state if restored is None else restored
        after = step(state, batch)
        state = state if after is None else after
        yield copied(params(state))
        before, _ = split(flatten(tree))


def locate_each(first: Trajectory, second: Trajectory) -> list[Fault]:
    """Find all steps that differ of themselves.

    Args:
        first: A trajectory.
        second: The same steps, each made from the first's parameters, by `realigned`.

    Returns:
        The faults, in the order of their first steps. Steps whose difference has one name and one set of leaves are one
        fault.

    Raises:
        ValueError: As `locate`.
    """
    found: dict[tuple[str, tuple[str, ...]], Fault] = {}
    seen = Seen()
    for number, ((start, _), (pair, extras)) in enumerate(pairwise(pairs_of(first, second)), 1):
        if number == 1:
            seen.add(start, extras)
        # Both made the step from the first's parameters.
        seen.add((pair[0], pair[0]), extras)
        report = _of_one_step(number, start[0], pair, seen)
        if report.difference:
            key = report.pattern.name, report.leaves
            steps = (*found[key].steps, number) if key in found else (number,)
            found[key] = Fault(steps, found[key].report if key in found else report)
    return list(found.values())


def _of_one_step(number: int, start: Leaves, pair: Pair, seen: Seen) -> Report:
    compared = Compared(None)
    for trees in ((start, start), pair):
        names = compared.differing(trees, lambda _: [], seen.faint)
    if names:
        window = compared.window(names, [])
        pattern = part(seen, number) if seen.told(number) & set(names) else recognize(window)
        return compared.report(at(number, compared.most(list(window.leaves)), *pair), tuple(names), pattern)
    gradients = seen.other_gradients(number)
    if gradients is None:
        return compared.report(None, (), Pattern("equal", "this step is the same"))
    place, leaves, allowed = gradients
    return compared.report(place, leaves, part(seen, number), allowed)

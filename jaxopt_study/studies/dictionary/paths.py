"""The paths of parameters that are compared: who makes them, from which parameters, with which gradients or data.

In a **replay** both frameworks are given the same gradients, so that the optimizer's arithmetic alone differs. In a
**closed loop** each computes its own. The **sensitivity to rounding** is how far PyTorch differs from itself where each
initial parameter is moved by one unit in the last place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxopt_study.backends import Backend
from jaxopt_study.bench.case import Plan
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.task import Skipped, Task, Value, single
from jaxopt_study.data.workload import Array, ParameterTree, Workload, draw_params, next_up, ravel
from jaxopt_study.dictionary import build
from jaxopt_study.dictionary.rules import translate
from jaxopt_study.dictionary.table import TABLE, Row
from jaxopt_study.studies.tolerances import PINNED_WORKLOAD

METHODS = {"jax": "optax", "torch": "torch.optim"}
ROWS = {row.key: row for row in TABLE}
FIRST = tuple(next(row for row in TABLE if row.name == name) for name in dict.fromkeys(row.name for row in TABLE))
"""The first row of each class."""
MLP = (64, 16, 10)

WHAT = {
    "replay": "replayed parameters",
    "schedule": "replayed parameters, with a learning rate that changes",
    "digits": "parameters trained on digits",
    "mlp": "parameters of a small network, trained with a learning rate that changes",
}
"""The paths of a row, in words."""
REPLAYS = ("replay", "schedule")
"""Those with given gradients; the others are closed loops."""


@dataclass(frozen=True)
class Differences:
    """How far two paths of parameters differ.

    Attributes:
        steps: After how many steps they are compared.
        distance: The largest difference of a parameter at each of them; infinite where it is not a number.
        sensitivity: PyTorch's sensitivity to rounding at each of them, at least one unit in the last place.
    """

    steps: tuple[int, ...]
    distance: tuple[float, ...]
    sensitivity: tuple[float, ...]


def differences(jax: Array, torch: Array, moved: Sequence[float] | None, steps: Sequence[int]) -> Differences:
    """Compare two paths; `moved` are the distances of PyTorch's moved path from its own, where there is one."""
    with np.errstate(invalid="ignore"):  # inf - inf
        distance = np.where(jax == torch, 0.0, np.abs(jax - torch)).max(axis=1)
    unit = np.spacing(np.abs(torch).max(axis=1))
    sensitivity = unit if moved is None else np.maximum(moved, unit)
    return Differences(
        tuple(steps), tuple(np.where(np.isfinite(distance), distance, np.inf).tolist()), tuple(sensitivity.tolist())
    )


def pairs(records: Sequence[Record]) -> Iterator[tuple[str, Record, Record]]:
    """Yield each subject that both frameworks computed, with the record of JAX and that of PyTorch."""
    computed = {(r.subject, r.framework): r for r in records if r.ok}
    for subject in dict.fromkeys(r.subject for r in records):
        if {(subject, "jax"), (subject, "torch")} <= computed.keys():
            yield subject, computed[subject, "jax"], computed[subject, "torch"]


def computed_in(dtype: str, backend: Backend, plan: Plan, compute: Callable[[], Value]) -> Task:
    """Return the task that computes a value in this type, whatever the plan's, and sets the plan's again."""

    def run() -> Value:
        backend.runtime.configure(dtype, plan.device, plan.threads)
        try:
            return compute()
        finally:
            backend.runtime.configure(plan.dtype, plan.device, plan.threads)

    return single(run, lambda value: value)


def require_pinned(workload: Workload) -> None:
    """Raise `Skipped` for another workload than the one on which the bounds were measured."""
    if workload.name != PINNED_WORKLOAD:
        raise Skipped(
            f"the dictionary is checked on {PINNED_WORKLOAD}, at whose learning rates training is not chaotic"
        )


@dataclass(frozen=True)
class Trainer:
    """What makes the paths of one row in one framework."""

    backend: Backend
    framework: str
    row: Row
    workload: Workload
    seed: int

    def path(self, name: str, steps: Sequence[int], moved: str = "") -> Array:
        """Return the parameters after each number of steps, as one line each.

        Args:
            name: One of `WHAT`.
            steps: The numbers of steps.
            moved: The type by whose unit in the last place each initial parameter is moved; none if empty.
        """
        changes = name == "schedule" or (name == "mlp" and self.row.name != "LBFGS")
        optimizer = self.optimizer(falling(max(steps)) if changes else None)
        if name not in REPLAYS:
            return self.train(optimizer, name, steps, moved)
        params, gradients = draw_replay(self.row, max(steps), self.seed)
        start = next_up(params, moved) if moved else params
        return flat(self.backend.trajectories.replay(optimizer, start, gradients, steps))

    def train(self, optimizer: Any, name: str, steps: Sequence[int], moved: str = "") -> Array:
        """Return the path of a closed loop: on `digits`; or `mlp`, the same between 0 and 1 by a network with tanh."""
        widths = self.workload.widths if name == "digits" else MLP
        params = self.workload.params if name == "digits" else draw_params(MLP, self.seed + 1)
        inputs, targets = self.workload.train
        rows = np.arange(len(targets))
        # L-BFGS compares gradients of one function: every step has all rows.
        order = np.tile(rows, (max(steps), 1)) if self.row.name == "LBFGS" else np.resize(rows, max(steps))
        model, start = self.backend.models.network(widths), next_up(params, moved) if moved else params
        data = (inputs if name == "digits" else inputs / 16, targets)
        return flat(self.backend.trajectories.train(model, optimizer, start, data, order, steps))

    def search(self) -> Value:
        """Return the losses of a minimization by line searches, and how often they were computed."""
        inputs, targets = self.workload.train
        model, data = self.backend.models.network(self.workload.widths), (inputs / 16, targets)
        iterations = self.row.options["max_iter"]
        return self.backend.trajectories.search(model, self.optimizer(), self.workload.params, data, iterations)

    def optimizer(self, factors: Array | None = None) -> Any:
        """Return the row's optimizer; the learning rate of step t is its own times factors[t]."""
        return MAKERS[self.framework](self.backend, self.row, factors)


def in_optax(backend: Backend, row: Row, factors: Array | None) -> Any:
    """Return the transformation that the dictionary says, with plain gradient descent for what Muon does not take."""
    translation = translate(row.name, row.options, "" if factors is None else "schedule")
    expression, rate = translation.expression, translation.options["lr"]
    if row.name == "Muon":
        expression = f'optax.partition({{"matrix": {expression}, "rest": optax.sgd({rate!r})}}, labels)'
    rates: Any = None if factors is None else backend.runtime.from_numpy(factors * rate)
    return build(expression, schedule=lambda count: rates[count], labels=matrices)


def in_torch(backend: Backend, row: Row, factors: Array | None) -> Any:
    """Return torch's own optimizer."""
    trajectories: Any = backend.trajectories  # `make` is torch_reference's alone
    return trajectories.make(row.name, row.options, factors)


MAKERS: dict[str, Callable[[Backend, Row, Array | None], Any]] = {"jax": in_optax, "torch": in_torch}


def matrices(params: Mapping[str, Any]) -> dict[str, Any]:
    """Say of each leaf whether it is a `matrix`, or belongs to the `rest`."""
    return {
        name: matrices(node) if isinstance(node, Mapping) else ("matrix" if node.ndim == 2 else "rest")
        for name, node in params.items()
    }


def draw_replay(row: Row, steps: int, seed: int) -> tuple[ParameterTree, ParameterTree]:
    """Draw parameters, and gradients for every step: of several sizes, many of them zero, whole rows among them."""
    generator = np.random.default_rng(seed)
    params = draw_params((7, 5), seed)
    if row.name == "Muon":
        params = {"layer1": {"kernel": params["layer1"]["kernel"]}}

    def draw(shape: tuple[int, ...]) -> Array:
        sizes = 10.0 ** -generator.integers(0, 4, shape)  # an element's own size, the same at every step
        gradients = generator.standard_normal((steps, *shape)) * sizes
        gradients *= generator.random((steps, *shape)) < np.linspace(0.1, 1, shape[-1])
        if len(shape) == 2:
            gradients[generator.random(steps) < 0.3, :, 0] = 0  # an output without a gradient: a row in torch's layout
        return gradients

    return params, {
        layer: {name: draw(leaf.shape) for name, leaf in leaves.items()} for layer, leaves in params.items()
    }


def falling(steps: int) -> Array:
    """Return the factors of a learning rate that rises for 10 steps and then falls by half a cosine."""
    warm = np.minimum(1, np.arange(1, steps + 1) / 10)
    return warm * (0.55 + 0.45 * np.cos(np.pi * np.arange(steps) / steps))


def flat(leaves: Mapping[str, Array]) -> Array:
    """Return the parameters of each step as one line, from leaves with the steps as first axis."""
    steps = len(next(iter(leaves.values())))
    return np.stack([ravel({name: leaf[step] for name, leaf in leaves.items()}) for step in range(steps)])

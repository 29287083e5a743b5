"""The ranking's trainings, made of a backend's functions: a whole grid in JAX, one point of it in either framework."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxopt_study.backends import Backend
from jaxopt_study.bench.task import Skipped
from jaxopt_study.data.workload import Array
from jaxopt_study.studies.ranking.problems import Problem


def whole_grid(backend: Backend, problem: Problem, optimizer: str, way: str) -> Callable[[Array], Any]:
    """Return the function of the learning rates (points, epochs, steps) that makes all trainings of a grid.

    Args:
        backend: One that has whole grids.
        problem: What is trained.
        optimizer: A row of the backend's `more_optimizers`.
        way: `vmapped` or `sequential`.

    Returns:
        The function returns `Curves` with the axes (starts, points).
    """
    grid = getattr(backend.grid, way)(_training(backend, problem, optimizer))
    load = backend.runtime.from_numpy
    params, orders = backend.runtime.params_from_numpy(problem.params), load(problem.orders)
    data = _data(backend, problem)
    return lambda rates: backend.runtime.wait(grid(params, orders, load(rates), *data))


def one_training(backend: Backend, problem: Problem, optimizer: str, start: int = 0) -> Callable[[Array], Any]:
    """Return the function of the learning rates (epochs, steps) that makes one training, as `Curves`.

    Args:
        backend: Either framework's.
        problem: What is trained.
        optimizer: A row of the backend's `more_optimizers`.
        start: The number of the start.
    """
    run = _training(backend, problem, optimizer)
    load = backend.runtime.from_numpy
    tree = {layer: {name: leaf[start] for name, leaf in leaves.items()} for layer, leaves in problem.params.items()}
    params, order, data = backend.runtime.params_from_numpy(tree), load(problem.orders[start]), _data(backend, problem)
    return lambda rates: backend.runtime.wait(run(params, order, load(rates), *data))


def _training(backend: Backend, problem: Problem, optimizer: str) -> Any:
    table = backend.more_optimizers.OPTIMIZERS
    if optimizer not in table:
        raise Skipped("this backend has no such optimizer")
    model = problem.workload.network.make(backend)
    return backend.grid.training(model, table[optimizer], getattr(backend.models, problem.workload.loss))


def _data(backend: Backend, problem: Problem) -> list[tuple[Any, Any]]:
    load = backend.runtime.from_numpy
    return [(load(inputs), load(targets)) for inputs, targets in problem.parts]

"""The ranking's trainings, made of a backend's functions: a whole grid in JAX, one point of it in either framework."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from jaxopt_study.backends import Backend
from jaxopt_study.bench.case import Plan
from jaxopt_study.bench.task import Skipped
from jaxopt_study.data.workload import Array, Workload
from jaxopt_study.studies import trained
from jaxopt_study.studies.ranking import points, problems
from jaxopt_study.studies.ranking.problems import Problem


def problem(backend: Backend, name: str, given: Workload, plan: Plan, initializations: int, epochs: int) -> Problem:
    """Return the problem of that name, whose network may draw its own parameters: see `problems.make`."""
    return problems.make(name, given, plan, initializations, epochs, partial(trained.draw, backend))


def check_matrices(optimizer: str, plan: Plan, problem: Problem) -> None:
    """Raise `Skipped` where an optimizer for matrices has none."""
    row = points.ranked(optimizer, plan)
    if row and row.matrices and not problem.matrices:
        raise Skipped("this network has no matrix of more than one row")


def whole_grid(backend: Backend, problem: Problem, optimizer: str, way: str, plan: Plan) -> Callable[[Array], Any]:
    """Return the function of the learning rates (points, epochs, steps) that makes all trainings of a grid.

    Args:
        backend: JAX's, which has whole grids.
        problem: What is trained.
        optimizer: A row of the backend's `more_optimizers`, or one of the user's.
        way: `vmapped` or `sequential`.
        plan: What the run was asked for.

    Returns:
        The function returns `Curves` with the axes (starts, points).
    """
    from_tree = trained.conversion(backend, "jax", problem.workload.network).from_tree
    params, start = from_tree(problem.params), from_tree(problem.start(0))
    made = optimizer_in_jax(backend, optimizer, plan, start)
    grid = getattr(backend.grid, way)(_training(backend, problem, made, plan))
    load = backend.runtime.from_numpy
    orders, data = load(problem.orders), _data(backend, problem)
    return lambda rates: backend.runtime.wait(grid(params, orders, load(rates), *data))


def one_training(
    backend: Backend, framework: str, problem: Problem, optimizer: str, plan: Plan, start: int = 0
) -> Callable[[Array], Any]:
    """Return the function of the learning rates (epochs, steps) that makes one training, as `Curves`.

    Args:
        backend: Either framework's.
        framework: Its name.
        problem: What is trained.
        optimizer: A row of the backend's `more_optimizers`, or one of the user's.
        plan: What the run was asked for.
        start: The number of the start.
    """
    run = _training(backend, problem, trained.by_rate(backend, framework, optimizer, plan), plan)
    load = backend.runtime.from_numpy
    from_tree = trained.conversion(backend, framework, problem.workload.network).from_tree
    params, order, data = from_tree(problem.start(start)), load(problem.orders[start]), _data(backend, problem)
    return lambda rates: backend.runtime.wait(run(params, order, load(rates), *data))


def optimizer_in_jax(backend: Backend, name: str, plan: Plan, params: Any) -> Callable[[Any], Any]:
    """Return the function of the learning rate that makes the optimizer for these parameters.

    Raises:
        NotImplementedError: JAX has none of that name, or it is a user's whose learning rate cannot be data.
    """
    made = trained.by_rate(backend, "jax", name, plan)
    if points.ranked(name, plan) is None:
        getattr(backend.registered, "check_by_rate")(made, params)  # noqa: B009 - JAX's alone
    return made


def _training(backend: Backend, problem: Problem, optimizer: Callable[[Any], Any], plan: Plan) -> Any:
    model = trained.model(backend, problem.workload.network)
    return backend.grid.training(model, optimizer, trained.output_loss(backend, problem.workload, plan))


def _data(backend: Backend, problem: Problem) -> list[tuple[Any, Any]]:
    load = backend.runtime.from_numpy
    return [(load(inputs), load(targets)) for inputs, targets in problem.parts]

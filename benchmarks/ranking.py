"""How fast the ranking's sweep trains many small networks, beside other ways to do so.

    python benchmarks/ranking.py

Adam trains `digits-linear` in float32. One process on one core measures each way once per round. A time is that of one
step of one network. A ratio is the median of the rounds' ratios, with its exact 95 % interval. All ways make the first
network's steps, and the mean loss of its first epoch is compared before a time is shown.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from jaxopt_study import backends
from jaxopt_study.bench.environment import worker_cores
from jaxopt_study.bench.stats import ratio, scaled_distance
from jaxopt_study.bench.task import Task
from jaxopt_study.bench.timing import Stepper
from jaxopt_study.config import Config, check
from jaxopt_study.data.workload import draw_order, stack_params
from jaxopt_study.data.workloads import WORKLOADS
from jaxopt_study.studies.ranking import points, problems, trainings
from jaxopt_study.studies.ranking.problems import Problem

PLAN = check(Config(studies=("ranking",)))
ROUNDS = 7
RATE = 1e-3
EPOCHS = 3
STARTS, RATES = 5, 7
"""Networks of the sweep's ways: so many starts, each at so many rates with two schedules."""
MODELS = (64, 1024, 16384)
LOSSES = 2e-5
"""Relative distance of the first network's losses that is allowed. Measured: 2.1e-6."""

Way = tuple[Callable[[], Any], int]
"""A function that trains and returns the first network's mean loss in epoch 1; and the steps of all networks."""


def main() -> None:
    """Print a table for each number of rows, and the throughput by the number of models."""
    os.sched_setaffinity(0, worker_cores(1))
    loaded = {name: backends.load(name) for name in ("jax", "torch")}
    for backend in loaded.values():
        backend.runtime.configure("float32", "cpu", 1)
    for rows in (1, 32):
        problem = made(rows)
        print(
            f"Adam on digits-linear, {rows} rows per step", *measured(ways(loaded, problem)), sep="\n    ", flush=True
        )
    print("Models at once by vmap, 32 rows per step")
    for name, way in by_models(loaded["jax"]).items():  # one after the other: the largest empties all caches
        print("   ", *measured({name: way}), flush=True)


def made(rows: int, starts: int = STARTS) -> Problem:
    """Return what is trained, from several starts on the same rows in the same order."""
    plan = replace(PLAN, batch_size=rows, overview=True)  # which lets a step have one row
    problem = problems.make("digits-linear", WORKLOADS["digits-linear"](0, 1, 1), plan, starts, EPOCHS)
    order = draw_order(len(problem.workload.train[1]), EPOCHS, rows)
    return replace(problem, orders=np.stack([order] * len(problem.orders)))


def ways(loaded: dict[str, Any], problem: Problem) -> dict[str, Way]:
    """Return the ways to train; the first one is that of the sweep."""
    jax, torch = loaded["jax"], loaded["torch"]
    single = problem.orders.ndim == 3
    found = {
        ("the sweep, one network after the other, native" if single else "the sweep, by vmap"): sweep(
            jax, problem, "natively" if single else "vmapped"
        )
    }
    if single:
        for name in ("adam", "folded_adam"):
            found[f"JAX: 64 runs in sequence, native, {name}"] = ladder(jax, problem, getattr(jax.optimizers, name))
    found["PyTorch: its own loop, one network"] = own_loop(torch, problem)
    found["PyTorch: torch.func.vmap over 64 networks"] = by_torch_vmap(torch, problem, compiled=False)
    found["PyTorch: the same under torch.compile"] = by_torch_vmap(torch, problem, compiled=True)
    return found


def sweep(jax: Any, problem: Problem, way: str, rates: int = RATES) -> Way:
    """Return the way of the ranking's sweep. The first point has the constant learning rate `RATE`."""
    epochs, steps = problem.orders.shape[1:3]
    grid = points.by_step(np.full(rates, RATE), epochs, steps)
    train = trainings.whole_grid(jax, problem, "adam", way, PLAN)
    return lambda: train(grid).training[0, 0, 0], len(problem.orders) * len(grid) * epochs * steps


def ladder(jax: Any, problem: Problem, optimizer: Any, runs: int = 64) -> Way:
    """Return the fastest way of the study of loops, which evaluates nothing and has one learning rate."""
    loop = jax.sweep.sequential(jax.loops.native_scan(problem.workload.network.make(jax), optimizer(RATE)))
    data, order = tuple(map(loop.load, problem.workload.train)), loop.load(problem.orders[0, 0])
    states = loop.init(jax.runtime.params_from_numpy(stack_params([first(problem.params)] * runs)))
    return lambda: jax.runtime.wait(loop.run(states, data, order)[1])[0].mean(), runs * len(order)


def own_loop(torch: Any, problem: Problem) -> Way:
    """Return PyTorch's usual loop over one network."""
    epochs, steps = problem.orders.shape[1:3]
    train = trainings.one_training(torch, "torch", problem, "adam", PLAN)
    return lambda: train(points.by_step(np.array([RATE]), epochs, steps)[0]).training[0], epochs * steps


def by_torch_vmap(torch: Any, problem: Problem, compiled: bool, models: int = 64) -> Way:
    """Return a loop whose step is `torch.func.vmap` over the networks, with pure functions and rates as data."""
    from torch import compile as torch_compile
    from torch import stack, tensor
    from torch.func import functional_call, grad_and_value, vmap

    from torch_reference.functional import adam

    network, loss = problem.workload.network.make(torch), torch.models.cross_entropy

    def step(params: Any, state: Any, rate: Any, inputs: Any, targets: Any) -> Any:
        gradient, value = grad_and_value(lambda p: loss(functional_call(network, p, (inputs,)), targets))(params)
        return (*adam(rate).update(gradient, state, params), value)

    of_all = vmap(step, (0, 0, 0, None, None))
    if compiled:
        of_all = torch_compile(of_all)
    load, rates = torch.runtime.from_numpy, tensor([RATE] * models)
    order, (inputs, targets) = load(problem.orders[0, 0]), map(load, problem.workload.train)
    start = torch.runtime.params_from_numpy(first(problem.params))
    each = {name: stack([leaf] * models) for name, leaf in start.items()}
    zero = tensor([0.0] * models, dtype=rates.double().dtype)

    def train() -> Any:
        params, losses = each, []
        state = (zero, {name: (leaf * 0, leaf * 0) for name, leaf in each.items()})
        for rows in order:
            params, state, values = of_all(params, state, rates, inputs[rows], targets[rows])
            losses.append(values[0])
        return stack(losses).mean()

    return train, models * len(order)


def first(params: Any) -> Any:
    """Return the first of several starts."""
    return {layer: {name: leaf[0] for name, leaf in leaves.items()} for layer, leaves in params.items()}


def by_models(jax: Any) -> dict[str, Way]:
    """Return the sweep's way by `vmap`, with more and more networks at once."""
    problem = made(32, starts=1)
    once = replace(problem, params=stack_params([first(problem.params)]), orders=problem.orders[:1])
    return {f"{models:,} models": sweep(jax, once, "vmapped", models // 2) for models in MODELS}


def measured(table: dict[str, Way]) -> Iterator[str]:
    """Yield each way's time per step and network, and its ratio to the first way's."""
    from jaxopt_study.backends.numpy import runtime

    steppers = {name: Stepper(task(train), runtime) for name, (train, _) in table.items()}
    for stepper in steppers.values():
        stepper.first()
    laps = {name: stepper.calibrate() for name, stepper in steppers.items()}
    times: dict[str, list[float]] = {name: [] for name in table}
    for _ in range(ROUNDS):
        for name, stepper in steppers.items():
            times[name].append(stepper.sample() / laps[name] / table[name][1])
    losses = {name: stepper.finish()["loss"] for name, stepper in steppers.items()}
    base = next(iter(table))
    for name, of_rounds in times.items():
        distance = scaled_distance(losses[name], losses[base])
        if not distance < LOSSES:
            yield f"{name}: its losses differ by {distance:.1e}"
            continue
        found = ratio(of_rounds, times[base])
        words = f"{found.value:.3g} [{found.low:.3g}, {found.high:.3g}]"
        yield f"{name}: {1e9 * np.median(of_rounds):,.0f} ns" + (f", {words} times the first" if name != base else "")


def task(train: Callable[[], Any]) -> Task:
    """Return the task of one lap, which waits for its output by taking it to NumPy."""

    def run(_: Any) -> Iterator[Any]:
        yield np.asarray(train())

    return Task(run, lambda loss: {"loss": np.atleast_1d(loss)})


if __name__ == "__main__":
    main()

"""The ranking's grids of trainings: each run is what it is alone, and a run that diverges harms no other."""

from functools import cache

import numpy as np
import optax
import pytest

from jaxopt_study.data.workload import stack_params
from jaxopt_study.data.workloads import WORKLOADS
from jaxopt_study.studies.ranking import alone, beforehand, points, problems, trainings
from tests.conftest import load_backend, make_plan

EPOCHS = 3
PLAN = make_plan(workload="wine")
PARTS = ("training", "validation", "test")
RATES = np.array([1e-3, 1e-2])
ALONE = [(name, "vmapped") for name in ("adam", "nesterov", "muon", "schedule_free")] + [("adam", "sequential")]


@pytest.fixture(scope="module")
def problem():
    return problems.make("wine", WORKLOADS["wine"](0, 1), PLAN, initializations=2, epochs=EPOCHS)


@pytest.fixture(scope="module")
def jax_backend():
    return load_backend("jax")


@pytest.fixture(scope="module")
def train(problem, jax_backend):
    """Return the function of an optimizer's name and a way that returns its grid, compiled once."""
    return cache(lambda name, way: trainings.whole_grid(jax_backend, problem, name, way, PLAN))


def rates_of(problem, rates=RATES):
    return points.by_step(rates, EPOCHS, problem.orders.shape[2])


def made_alone(backend, problem, name, schedule, rate, start):
    """Return each epoch's mean training loss and validation loss, by optax's own schedule and a loop of Python."""
    import jax

    steps = EPOCHS * problem.orders.shape[2]
    schedules = {"constant": optax.constant_schedule(rate), "cosine": optax.cosine_decay_schedule(rate, steps)}
    optimizer = backend.more_optimizers.OPTIMIZERS[name](schedules[schedule])
    loss = backend.models.batch_loss(problem.workload.network.make(backend), backend.models.cross_entropy)
    step = jax.jit(backend.training.make_step(loss, optimizer))
    (inputs, targets), validation, _ = problem.parts
    params = backend.runtime.params_from_numpy(problem.workload.network.draw(start))
    state = backend.training.State(params, optimizer.init(params))
    curves = []
    for epoch in problem.orders[start]:
        losses = []
        for rows in epoch:
            state, value = step(state, (inputs[rows], targets[rows]))
            losses.append(float(value))
        evaluated = backend.more_optimizers.evaluated(state.params, state.optimizer)
        curves.append((np.mean(losses), float(loss(evaluated, validation))))
    return np.array(curves).T


@pytest.mark.parametrize(("name", "way"), ALONE)
def test_a_run_of_a_grid_is_the_same_run_alone(name, way, problem, jax_backend, train):
    curves = train(name, way)(rates_of(problem))
    for number, schedule in enumerate(points.SCHEDULES):
        start, place = number, 1 - number
        expected = made_alone(jax_backend, problem, name, schedule, RATES[place], start)
        point = number * len(RATES) + place
        found = np.stack([curves.training[start, point], curves.validation[start, point]])
        np.testing.assert_allclose(found, expected, rtol=1e-12)  # 3.5e-16 measured


def test_both_ways_make_the_same_runs(problem, train):
    vmapped, sequential = (train("adam", way)(rates_of(problem)) for way in beforehand.WAYS)
    for part in PARTS:
        np.testing.assert_allclose(getattr(sequential, part), getattr(vmapped, part), rtol=1e-13)  # 3.5e-16 measured


@pytest.mark.parametrize("name", ["adam", "schedule_free"])
def test_one_native_function_makes_the_same_runs(name, problem, jax_backend):
    single = problems.Problem(problem.workload, problem.params, problem.orders[..., 0])
    rates = rates_of(problem)
    natively, usual = (
        trainings.whole_grid(jax_backend, single, name, way, PLAN)(rates) for way in ("natively", "sequential")
    )
    for part in PARTS:
        np.testing.assert_allclose(getattr(natively, part), getattr(usual, part), rtol=1e-13)  # 2.2e-16 measured


@pytest.mark.parametrize("way", beforehand.WAYS)
def test_a_run_that_is_not_a_number_leaves_all_bits_of_the_others(way, problem, train):
    rates = rates_of(problem)
    good, spoiled = train("adam", way)(rates), rates.copy()
    spoiled[1, 0, 1] = np.nan
    bad = train("adam", way)(spoiled)
    others = [0, 2, 3]
    for part in PARTS:
        before, after = (np.asarray(getattr(curves, part)) for curves in (good, bad))
        assert np.isnan(after[:, 1]).any()
        assert before[:, others].tobytes() == after[:, others].tobytes()


@pytest.mark.parametrize("name", ["adam", "nesterov"])
def test_the_frameworks_make_the_same_run(name, problem, train):
    rates, torch = rates_of(problem), load_backend("torch")
    curves, there = (
        train(name, "vmapped")(rates),
        trainings.one_training(torch, "torch", problem, name, PLAN, start=1)(rates[3]),
    )
    for part in PARTS:
        np.testing.assert_allclose(getattr(curves, part)[1, 3], getattr(there, part), rtol=1e-12)  # 3.5e-16 measured


@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_an_epoch_that_is_timed_alone_is_the_first_one_of_the_grid(framework, problem, train):
    mine = alone.Alone()
    case = mine.case("adam on wine", framework, alone.LOOPS[framework])
    task = mine.task(load_backend(framework), case, WORKLOADS["wine"](0, 1), PLAN)
    *_, output = task.run(task.start())
    found = mine.summarize(case, task.export(output), WORKLOADS["wine"](0, 1), PLAN)
    curves = train("adam", "vmapped")(rates_of(problem))
    assert found["validation"] == pytest.approx(float(curves.validation[0, 0, 0]), rel=1e-13)
    assert abs(found["moved"] / found["validation"] - 1) < 1e-12
    assert task.steps == problem.orders.shape[2]


def test_every_optimizer_and_framework_starts_alike(problem):
    again = problems.make("wine", WORKLOADS["wine"](0, 1), PLAN, 2, EPOCHS)
    np.testing.assert_array_equal(again.orders, problem.orders)
    drawn = stack_params([problem.workload.network.draw(seed) for seed in (0, 1)])
    np.testing.assert_array_equal(problem.params["layer1"]["kernel"][:2], drawn["layer1"]["kernel"])
    assert (problem.orders[0] != problem.orders[1]).any()
    np.testing.assert_array_equal(problem.orders[2], problem.orders[0])  # the start that is moved
    up = problem.params["layer1"]["kernel"][2] - problem.params["layer1"]["kernel"][0]
    assert up.min() > 0
    assert up.max() < 1e-16

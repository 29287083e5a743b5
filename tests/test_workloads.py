"""Every built-in workload: its parts, and its training in both frameworks by each kind of optimizer."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.signal import correlate2d

from jaxopt_study.bench import stats
from jaxopt_study.data.networks import Convolutional
from jaxopt_study.data.workload import draw_order, ravel, split, stack_params, standardize
from jaxopt_study.data.workloads import WORKLOADS, whole_breast_cancer
from tests.conftest import load_backend

EPOCHS, STEPS, BATCH_SIZE = 2, 4, 16  # of an epoch its first steps

# Loss of an epoch, relative; parameters, relative to the largest. Beside each bound the worst of all workloads, with
# batches of 16 or 112 rows.
BOUNDS = {
    "float64": {
        "adam": (3e-15, 3e-14),  # 2.8e-16, 3.2e-15
        "rmsprop": (4e-15, 6.5e-13),  # 3.7e-16, 6.5e-14
        "momentum": (3e-15, 4e-15),  # 4.4e-16, 1.2e-15
        "adagrad": (4e-15, 6e-16),  # 4.2e-16, 5.6e-17
        "adamw": (1.5e-14, 4e-14),  # 1.5e-15, 4.2e-15
    },
    "float32": {
        "adam": (3e-5, 2e-4),  # 3.1e-6, 1.8e-5
        "rmsprop": (2.4e-6, 1.5e-4),  # 2.4e-7, 1.5e-5
        "momentum": (2e-6, 2.2e-6),  # 2.1e-7, 2.6e-7
        "adagrad": (2.3e-6, 3.5e-7),  # 2.3e-7, 3.5e-8
        "adamw": (3e-5, 2e-4),  # 3.2e-6, 2.1e-5
    },
}
BACKENDS = ("jax", "torch")
OPTIMIZERS = tuple(BOUNDS["float64"])


def in_jax(workload, dtype):
    """Train by all optimizers in one compiled program, which holds the gradient once: compiling is most of the time."""
    backend = load_backend("jax", dtype)
    loss = backend.models.batch_loss(workload.network.make(backend), getattr(backend.models, workload.loss))
    rules = [backend.optimizers.OPTIMIZERS[name](1e-3) for name in OPTIMIZERS]
    inputs, targets = (backend.runtime.from_numpy(array) for array in workload.train)

    def step(states, rows):
        batch = inputs[rows], targets[rows]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(state.params for state in states))
        losses, gradients = jax.lax.map(lambda params: jax.value_and_grad(loss)(params, batch), stacked)
        return [updated(n, state, gradients) for n, state in enumerate(states)], losses

    def updated(number, state, gradients):
        gradient = jax.tree.map(lambda leaf: leaf[number], gradients)
        updates, memory = rules[number].update(gradient, state.optimizer, state.params)
        return backend.training.State(optax.apply_updates(state.params, updates), memory)

    params = backend.runtime.params_from_numpy(workload.params)
    start = [backend.training.State(params, rule.init(params)) for rule in rules]
    states, losses = jax.jit(lambda *given: jax.lax.scan(step, *given))(start, workload.steps)
    return {
        name: (np.asarray(losses[:, number]), ravel(backend.runtime.params_to_numpy(states[number].params)))
        for number, name in enumerate(OPTIMIZERS)
    }


def in_torch(workload, dtype, name):
    backend = load_backend("torch", dtype)
    optimizer, output_loss = backend.optimizers.OPTIMIZERS[name](1e-3), getattr(backend.models, workload.loss)
    loop = backend.loops.prepared(workload.network.make(backend), optimizer, output_loss)
    data, order = tuple(map(loop.load, workload.train)), loop.load(workload.steps)
    state, losses = loop.run(loop.init(backend.runtime.params_from_numpy(workload.params)), data, order)
    return backend.runtime.to_numpy(losses), ravel(backend.runtime.params_to_numpy(state.params))


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("name", WORKLOADS)
def test_the_frameworks_train_alike(name, dtype):
    workload = WORKLOADS[name](0, EPOCHS, BATCH_SIZE)
    workload = replace(workload, order=workload.order[:, :STEPS])
    found = in_jax(workload, dtype)
    for optimizer, (loss_bound, params_bound) in BOUNDS[dtype].items():
        losses, params = in_torch(workload, dtype, optimizer)
        epochs = [values.reshape(EPOCHS, STEPS).mean(axis=1) for values in (found[optimizer][0], losses)]
        assert stats.relative_distance(*epochs) < loss_bound, optimizer
        assert stats.scaled_distance(found[optimizer][1], params) < params_bound, optimizer
        assert not np.array_equal(params, ravel(workload.params)), "nothing was trained"


def test_a_single_row_is_trained_on_as_a_batch_of_one():
    """A step on one row has no batch axis: the networks take both."""
    for name in ("digits-cnn", "diabetes"):
        workload = WORKLOADS[name](0, 1)
        one = replace(workload, order=workload.order[:, :3])
        batch = replace(one, order=one.order[..., None])
        (losses, params), (others, more) = (in_torch(w, "float64", "momentum") for w in (one, batch))
        assert np.abs(losses - others).max() < 1e-14
        assert np.abs(params - more).max() < 1e-14


@pytest.mark.parametrize("name", BACKENDS)
def test_a_convolution_is_converted_and_comes_back(name):
    backend, network = load_backend(name), Convolutional((5, 4), (2, 3), 6)
    for tree in (network.draw(0), stack_params([network.draw(seed) for seed in range(2)])):
        back = backend.runtime.params_to_numpy(backend.runtime.params_from_numpy(tree))
        assert np.array_equal(ravel(back), ravel(tree))


def test_the_convolutions_are_those_of_scipy():
    """On images whose sides differ and are odd, where strides, paddings and layouts would show."""
    network = Convolutional((5, 7), (2, 3), 4)
    tree, image = network.draw(1), np.random.default_rng(0).random((5, 7))
    channels = image[None]
    for name, stride in (("conv1", 1), ("conv2", 2)):
        kernel, bias = tree[name]["kernel"], tree[name]["bias"]
        channels = np.stack([
            sum(correlate2d(np.pad(c, 1), kernel[:, :, i, o], "valid") for i, c in enumerate(channels)) + bias[o]
            for o in range(kernel.shape[3])
        ])[:, ::stride, ::stride].clip(min=0)  # fmt: skip
    expected = channels.transpose(1, 2, 0).ravel() @ tree["layer1"]["kernel"] + tree["layer1"]["bias"]
    for name in BACKENDS:
        backend = load_backend(name)
        predict = backend.models.predict(network.make(backend))
        found = predict(backend.runtime.params_from_numpy(tree), backend.runtime.from_numpy(image.ravel()))
        assert np.abs(backend.runtime.to_numpy(found) - expected).max() < 1e-14


def test_an_epoch_has_every_row_once_in_an_order_of_its_own():
    order = draw_order(10, 3, 1, np.random.default_rng(0))
    assert order.shape == (3, 10)
    assert all(sorted(epoch) == list(range(10)) for epoch in order)
    assert not np.array_equal(order[0], order[1])
    batches = draw_order(10, 3, 4, np.random.default_rng(0))
    assert batches.shape == (3, 2, 4)
    assert np.array_equal(batches.reshape(3, 8), order[:, :8])
    assert np.array_equal(draw_order(4, 2, 2), [[[0, 1], [2, 3]]] * 2)


def test_three_parts_share_no_row():
    rows = np.arange(50.0)[:, None], np.arange(50)
    parts = split(rows, np.random.default_rng(0))
    assert [len(targets) for _, targets in parts] == [30, 10, 10]
    assert sorted(np.concatenate([targets for _, targets in parts])) == list(range(50))
    assert all(np.array_equal(inputs[:, 0], targets) for inputs, targets in parts)


PARTS = {
    "digits-mlp": (898, 449, 450),
    "digits-cnn": (898, 449, 450),
    "breast-cancer-raw": (341, 114, 114),
    "breast-cancer-standardized": (341, 114, 114),
    "wine": (106, 36, 36),
}


@pytest.mark.parametrize("name", PARTS)
def test_a_workload_trains_validates_and_tests_on_different_rows(name):
    workload = WORKLOADS[name](0, 1)
    parts = workload.train, workload.validation, workload.test
    assert tuple(len(targets) for _, targets in parts) == PARTS[name]
    rows = np.concatenate([np.column_stack(part) for part in parts])
    assert len(np.unique(rows, axis=0)) == len(rows)
    assert sorted(workload.order[0]) == list(range(PARTS[name][0]))


def test_the_notebook_tests_on_all_that_it_does_not_train_on():
    workload = WORKLOADS["digits-linear"](0, 1)
    assert (len(workload.train[1]), workload.validation, len(workload.test[1])) == (898, None, 899)


def test_the_training_part_alone_is_of_mean_0_and_deviation_1():
    workload = WORKLOADS["breast-cancer-standardized"](0, 1)
    assert np.abs(workload.train[0].mean(axis=0)).max() < 1e-14
    assert np.abs(workload.train[0].std(axis=0) - 1).max() < 1e-14
    assert np.abs(workload.test[0].mean(axis=0)).max() > 0.01  # 0.21 was measured
    raw = WORKLOADS["breast-cancer-raw"](0, 1)
    assert all(np.array_equal(a[1], b[1]) for a, b in ((raw.train, workload.train), (raw.test, workload.test)))


@pytest.mark.parametrize("name", ["breast-cancer-raw", "breast-cancer-standardized"])
def test_the_problem_of_all_rows_has_those_of_scikit_learn(name):
    from sklearn.datasets import load_breast_cancer

    inputs, targets = load_breast_cancer(return_X_y=True)
    workload = whole_breast_cancer(name)
    expected = inputs if name.endswith("raw") else (inputs - inputs.mean(axis=0)) / inputs.std(axis=0)
    assert workload.train is workload.test
    assert np.array_equal(workload.train[0], expected)
    assert np.array_equal(workload.train[1], targets)


def test_standardization_is_fitted_on_the_training_part():
    generator = np.random.default_rng(0)
    first, second = (np.column_stack([scale * generator.random(9) + 5, np.full(9, 7.0)]) for scale in (1, 9))
    train, other = standardize(first, second)
    assert np.abs(train[:, 0].mean()) < 1e-14
    assert np.abs(train[:, 0].std() - 1) < 1e-14
    assert np.array_equal(other, (second - first.mean(axis=0)) / [first[:, 0].std(), 1])
    assert not train[:, 1].any()  # a constant column

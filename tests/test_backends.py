"""The parts of the backends, each against something that shares no code with it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_study.backends.jax import models
from jaxopt_study.backends.numpy import closed_form
from jaxopt_study.data.problem import Problem
from jaxopt_study.data.workload import draw_params, enumerate_params, ravel, stack_params
from jaxopt_study.data.workloads import digits_linear
from jaxopt_study.studies.registry import OPTIMIZERS
from tests.conftest import load_backend

BACKENDS = ("jax", "torch")
widths = st.lists(st.integers(1, 5), min_size=2, max_size=4).map(tuple)


@pytest.fixture(params=BACKENDS)
def backend(request):
    return load_backend(request.param)


@given(widths=widths, seed=st.integers(0, 99))
@settings(deadline=None, max_examples=20)
@pytest.mark.parametrize("name", BACKENDS)
def test_parameters_are_converted_and_come_back(name, widths, seed):
    backend, tree = load_backend(name), draw_params(widths, seed)
    back = backend.runtime.params_to_numpy(backend.runtime.params_from_numpy(tree))
    assert np.array_equal(ravel(back), ravel(tree))


@pytest.mark.parametrize("name", BACKENDS)
def test_a_stack_of_networks_is_converted_and_comes_back(name):
    backend = load_backend(name)
    tree = stack_params([draw_params((3, 4, 2), seed) for seed in range(5)])
    back = backend.runtime.params_to_numpy(backend.runtime.params_from_numpy(tree))
    assert np.array_equal(back["layer2"]["kernel"], tree["layer2"]["kernel"])


@given(widths=widths)
@settings(deadline=None, max_examples=20)
@pytest.mark.parametrize("name", BACKENDS)
def test_places_bring_a_backends_order_to_the_projects(name, widths):
    from jaxopt_study.studies.hessian.methods import places

    backend, tree = load_backend(name), draw_params(widths, 0)
    problem = Problem(widths, tree, (np.zeros((1, widths[0])), np.zeros(1, int)))
    vector = backend.runtime.to_numpy(backend.runtime.ravel(backend.runtime.params_from_numpy(tree)))
    assert np.array_equal(vector[places(backend, problem.params)], ravel(tree))


@given(widths=widths)
def test_enumerated_parameters_count_from_zero(widths):
    tree = draw_params(widths, 0)
    assert np.array_equal(ravel(enumerate_params(tree)), np.arange(ravel(tree).size))


def test_the_networks_predict_alike(digits):
    tree = draw_params((64, 7, 10), 3)
    inputs = digits.train[0][:20]
    logits = []
    for name in BACKENDS:
        backend = load_backend(name)
        predict = backend.models.predict(backend.models.network((64, 7, 10)))
        logits.append(
            backend.runtime.to_numpy(
                predict(backend.runtime.params_from_numpy(tree), backend.runtime.from_numpy(inputs))
            )
        )
    layer1, layer2 = tree["layer1"], tree["layer2"]
    by_hand = np.tanh(inputs @ layer1["kernel"] + layer1["bias"]) @ layer2["kernel"] + layer2["bias"]
    # 5.6e-16 was the worst seen.
    assert np.abs(logits[0] - by_hand).max() < 6e-15
    assert np.abs(logits[1] - by_hand).max() < 6e-15


def test_the_transposing_network_has_the_loss_and_the_gradient_of_the_network(digits):
    shape = (64, 7, 5, 10)
    batch = tuple(jnp.asarray(array[:20]) for array in digits.train)
    params = load_backend("jax").runtime.params_from_numpy(draw_params(shape, 3))
    found = [
        jax.jit(jax.value_and_grad(models.loss(make(shape))))(params, batch)
        for make in (models.network, models.transposing_network)
    ]
    for one, other in zip(*map(jax.tree.leaves, found), strict=True):
        assert np.abs(one - other).max() < 3e-16  # 2.8e-17 was measured
    drawn = models.transposing_network(shape).init(jax.random.key(0), batch[0])["params"]
    assert jax.tree.map(jnp.shape, drawn) == jax.tree.map(jnp.shape, params)


def test_the_closed_form_gradient_is_the_backends(backend, digits):
    gradient = backend.derivatives.gradient(backend.models.loss(backend.models.network((64, 10))))
    batch = tuple(backend.runtime.from_numpy(array) for array in digits.train)
    tree = backend.runtime.params_to_numpy(gradient(backend.runtime.params_from_numpy(digits.params), batch))
    expected = closed_form.gradient_closed_form(digits.params, digits.train)
    assert np.abs(ravel(tree) - expected).max() / np.abs(expected).max() < 3e-14  # 3.1e-15 was the worst seen


def test_the_closed_form_hessian_is_the_difference_of_gradients(digits):
    """Central differences of the gradient along random directions share nothing with the products of the Hessian."""
    matrix = closed_form.hessian_closed_form(digits.params, digits.train)
    generator = np.random.default_rng(0)
    step = 1e-6
    for _ in range(3):
        direction = generator.standard_normal(650)
        gradients = []
        for sign in (1, -1):
            vector = ravel(digits.params) + sign * step * direction
            layer = {"bias": vector[:10], "kernel": vector[10:].reshape(64, 10)}
            gradients.append(closed_form.gradient_closed_form({"layer1": layer}, digits.train))
        difference = (gradients[0] - gradients[1]) / (2 * step)
        # The differences' own error: 5e-10 was measured.
        assert np.abs(matrix @ direction - difference).max() / np.abs(difference).max() < 5e-9


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("jax", "hessian_forward_over_reverse"),
        ("torch", "hessian_forward_over_reverse"),
        ("torch", "hessian_double_backward"),
    ],
)
def test_hessians_of_a_deeper_network_agree_with_differences_of_its_gradient(name, method, digits):
    backend = load_backend(name)
    shape = (64, 3, 10)
    loss = backend.models.loss(backend.models.network(shape))
    inputs, targets = digits.train
    batch = (backend.runtime.from_numpy(inputs[:40] / 16), backend.runtime.from_numpy(targets[:40]))
    params = backend.runtime.params_from_numpy(draw_params(shape, 1))
    matrix = backend.runtime.to_numpy(getattr(backend.derivatives, method)(loss)(params, batch))
    assert np.abs(matrix - matrix.T).max() < 7e-16  # 6.9e-17 was the worst seen
    gradient = backend.derivatives.gradient(loss)

    def slope(shift):
        moved = {
            "jax": lambda p: jax.tree.map(lambda x: x + shift, p),
            "torch": lambda p: {k: v + shift for k, v in p.items()},
        }
        return backend.runtime.to_numpy(backend.runtime.ravel(gradient(moved[name](params), batch)))

    difference = (slope(1e-6) - slope(-1e-6)) / 2e-6
    # The differences' own error: 5.5e-10 was measured.
    assert np.abs(matrix.sum(axis=1) - difference).max() / np.abs(difference).max() < 5e-9


@given(data=st.data())
@settings(deadline=None, max_examples=15)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_identical_gradients_give_identical_updates(name, data):
    """Replay: only the optimizer's arithmetic differs. Gradients of many sizes, zero among them."""
    seed = data.draw(st.integers(0, 2**31))
    learning_rate = data.draw(st.sampled_from([1e-4, 1e-3, 1e-1]))
    scale = data.draw(st.sampled_from([1e-6, 1.0, 1e3]))
    generator = np.random.default_rng(seed)
    gradients = scale * generator.standard_normal((50, 6)) * generator.integers(0, 2, (50, 6))
    in_jax, in_torch = load_backend("jax"), load_backend("torch")
    start = generator.standard_normal(6)
    rule = in_jax.optimizers.OPTIMIZERS[name](learning_rate)
    params = in_jax.runtime.from_numpy(start)
    state = rule.init(params)
    leaf = torch.nn.Parameter(in_torch.runtime.from_numpy(start.copy()))
    optimizer = in_torch.optimizers.OPTIMIZERS[name](learning_rate)([leaf])
    for gradient in gradients:
        updates, state = rule.update(in_jax.runtime.from_numpy(gradient), state, params)
        params = optax.apply_updates(params, updates)
        leaf.grad = in_torch.runtime.from_numpy(gradient)
        optimizer.step()
    size = max(1.0, np.abs(np.asarray(params)).max())
    # 8.1e-16 of the largest parameter was the worst seen.
    assert np.abs(np.asarray(params) - in_torch.runtime.to_numpy(leaf)).max() <= 1e-14 * size


def test_minibatches_agree(digits):
    """The same loops on minibatches: an entry of the order may name several rows."""
    order = np.random.default_rng(0).integers(0, len(digits.train[0]), (30, 16))
    losses = []
    for name, loop_name in (("jax", "scan"), ("torch", "notebook")):
        backend = load_backend(name)
        loop = getattr(backend.loops, loop_name)(backend.models.network((64, 10)), backend.optimizers.adam(1e-3))
        data = tuple(loop.load(array) for array in digits.train)
        state = loop.init(backend.runtime.params_from_numpy(digits.params))
        losses.append(np.asarray(loop.run(state, data, loop.load(order))[1]))
    assert np.abs(losses[0] - losses[1]).max() < 1e-14  # 8.9e-16 was the worst seen


def test_many_runs_at_once_are_the_single_runs(digits):
    backend = load_backend("jax")
    loop = backend.loops.scan(backend.models.network((64, 10)), backend.optimizers.adam(1e-3))
    many = backend.sweep.vmapped(loop)
    trees = [draw_params((64, 10), seed) for seed in range(3)]
    data = tuple(loop.load(array) for array in digits.train)
    order = loop.load(digits.order[0][:200])
    stacked = backend.runtime.params_from_numpy(stack_params(trees))
    together = np.asarray(many.run(many.init(stacked), data, order)[1])
    for tree, losses in zip(trees, together, strict=True):
        single = np.asarray(loop.run(loop.init(backend.runtime.params_from_numpy(tree)), data, order)[1])
        assert np.abs(single - losses).max() < 7e-14  # 7.1e-15 was the worst seen


def test_the_step_compiles_once(digits):
    backend = load_backend("jax")
    loop = backend.loops.scan(backend.models.network((64, 10)), backend.optimizers.adam(1e-3))
    data = tuple(loop.load(array) for array in digits.train)
    order = loop.load(digits.order[0][:5])
    state = loop.init(backend.runtime.params_from_numpy(digits.params))
    before = backend.runtime.compilations()
    for _ in range(3):
        state, _ = loop.run(state, data, order)
    assert backend.runtime.compilations() == before + 1


def test_the_workload_is_the_notebooks():
    from sklearn.datasets import load_digits

    workload = digits_linear(seed=5, epochs=3)
    everything = load_digits()
    assert np.array_equal(np.concatenate([workload.train[0], workload.test[0]]), everything.data)
    assert (len(workload.train[0]), len(workload.test[0])) == (898, 899)
    assert workload.order.shape == (3, 898)
    assert np.array_equal(workload.order[2], np.arange(898))
    kernel = workload.params["layer1"]["kernel"]
    assert np.abs(kernel).max() <= 1 / 8
    assert abs(kernel.std() - 1 / 8 / np.sqrt(3)) < 0.005

"""The Hessian of a network with a linear last layer: against the frameworks' own, and what it refuses."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

BOTH = ("jax", "torch")
SEPARATOR = {"jax": "/", "torch": "."}


@pytest.fixture(scope="module")
def loaded(backends):
    return backends


def array(name, values, dtype="float64"):
    values = np.array(values, dtype)
    return jnp.asarray(values) if name == "jax" else torch.as_tensor(values)


def softmax(name, logits, targets):
    lse = partial(jax.nn.logsumexp, axis=-1) if name == "jax" else partial(torch.logsumexp, dim=-1)
    return (lse(logits) - (logits * targets).sum(-1)).mean()


def squares(name, outputs, targets):
    return ((outputs - targets) ** 2).sum()


LOSSES = {"softmax": softmax, "squares": squares}


def network(name, widths, outputs_first, bias, order):
    """Return predict, and parameters: one layer with tanh before the last one, where there are three widths."""
    draw = np.random.default_rng(len(widths)).standard_normal
    tanh = jnp.tanh if name == "jax" else torch.tanh
    *before, features, outputs = widths
    last = {"kernel": draw((outputs, features) if outputs_first else (features, outputs))}
    last |= {"bias": draw(outputs)} if bias else {}
    layers = {"last": last} | ({"first": {"kernel": draw((before[0], features))}} if before else {})
    tree = {key: {k: array(name, v) for k, v in layers[key].items()} for key in sorted(layers, reverse=order)}

    def predict(params, x):
        hidden = tanh(x @ params["first"]["kernel"]) if before else x
        kernel = params["last"]["kernel"]
        found = hidden @ (kernel.T if outputs_first else kernel)
        return found + params["last"]["bias"] if bias else found

    return predict, tree


def own(name, loss, params, loaded):
    vector, unravel = ravel_pytree(params) if name == "jax" else loaded[name].runtime.ravel_tree(params)
    hessian = jax.jit(jax.hessian(lambda v: loss(unravel(v)))) if name == "jax" else torch.func.hessian(
        lambda v: loss(unravel(v)))  # fmt: skip
    return np.asarray(hessian(vector))


def both_forms(name, loaded, predict, output_loss, params, batch, last="last", **options):
    """Return the Hessian by a call, and by the named way."""
    backend = loaded[name]
    yield backend.derivatives.hessian_of_network(predict, output_loss, params, *batch, last=last, **options)
    yield backend.last_layer.hessian_last_layer(predict, output_loss, last)(params, batch)


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("name", BOTH)
@given(
    widths=st.sampled_from([(4, 3), (3, 3), (2, 1), (1, 4), (3, 4, 2), (2, 3, 3)]),
    outputs_first=st.booleans(),
    bias=st.booleans(),
    order=st.booleans(),
    sequences=st.booleans(),
)
def test_any_shape_has_the_frameworks_own_hessian(name, kind, loaded, widths, outputs_first, bias, order, sequences):
    """Square kernels too, whose layout is told by a product; the last layer first in the tree; rows of rows."""
    predict, params = network(name, widths, outputs_first, bias, order)
    draw, rows = np.random.default_rng(0).standard_normal, (5, 2) if sequences else (5,)
    x, y = array(name, draw((*rows, widths[0]))), array(name, abs(draw((*rows, widths[-1]))))
    output_loss = partial(LOSSES[kind], name)
    expected = own(name, lambda p: output_loss(predict(p, x), y), params, loaded)
    for found in both_forms(name, loaded, predict, output_loss, params, (x, y)):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14 * np.abs(expected).max())  # 1.2e-15 measured


@pytest.mark.parametrize("name", BOTH)
def test_float32_and_blocks_of_any_size(name, loaded):
    predict, params = network(name, (3, 4, 2), True, True, False)
    cast = (lambda a: a.astype("float32")) if name == "jax" else (lambda a: a.float())
    params = {key: {k: cast(v) for k, v in leaves.items()} for key, leaves in params.items()}
    x, y = (array(name, np.random.default_rng(1).random((6, n)), "float32") for n in (3, 2))
    output_loss = partial(softmax, name)
    expected = own(name, lambda p: output_loss(predict(p, x), y), params, loaded)
    for size in (1, 5, 100):
        for found in both_forms(name, loaded, predict, output_loss, params, (x, y), chunk_size=size):
            assert "float32" in str(found.dtype)
            np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6 * np.abs(expected).max())  # 3.0e-7 measured


def test_a_part_whose_derivative_is_no_number_stays_one_and_is_reported(loaded):
    predict, params = network("jax", (3, 2), True, False, False)
    x, y = jnp.ones((4, 3)), jnp.zeros((4, 2))
    zero = {"last": {"kernel": 0 * params["last"]["kernel"]}}
    loss = lambda outputs, targets: (abs(outputs) ** 1.5).sum()  # noqa: E731
    with pytest.warns(RuntimeWarning, match="not finite at .* a power of 0"), pytest.warns(UserWarning, match="kinks"):
        found = loaded["jax"].derivatives.hessian_of_network(predict, loss, zero, x, y, last="last")
    assert not np.isfinite(found).all()


@pytest.mark.parametrize("name", BOTH)
def test_a_second_derivative_that_is_rounding_alone_is_refused_by_nobody(name, loaded):
    """The softmax of one output is 1; and a network that is sure of all rows."""
    for widths, factor in (((2, 1), 1.0), ((3, 3), 1e3)):
        predict, params = network(name, widths, True, False, False)
        x, y = array(name, np.eye(widths[0])), array(name, np.eye(*widths))
        sure = {"last": {"kernel": factor * params["last"]["kernel"]}}
        for found in both_forms(name, loaded, predict, partial(softmax, name), sure, (x, y)):
            assert np.abs(np.asarray(found)).max() < 1e-15


def test_it_can_be_transformed_in_jax(loaded):
    predict, params = network("jax", (3, 4, 2), False, True, False)
    x, y, output_loss = jnp.ones((4, 3)), jnp.ones((4, 2)), partial(squares, "jax")
    hessian = partial(loaded["jax"].derivatives.hessian_of_network, predict, output_loss, last="last")
    np.testing.assert_allclose(jax.jit(hessian)(params, x, y), hessian(params, x, y), rtol=0, atol=1e-14)


def wrong(name, kind):
    """Return a network that is none, or a loss that is no sum over rows."""
    predict, params = network(name, (3, 4, 2), True, True, False)
    lib = jnp if name == "jax" else torch
    stopped = jax.lax.stop_gradient if name == "jax" else torch.Tensor.detach
    squared = partial(squares, name)

    def with_last(change):
        return lambda p, x: predict({**p, "last": change(p["last"])}, x)

    def positive(p, x):
        return abs(predict(p, x)) + 0.1

    return {
        "another operation": (lambda p, x: lib.tanh(predict(p, x)), squared),
        "an operation without a number at random kernels": (lambda p, x: positive(p, x) ** 0.5, squared),
        "used twice": (lambda p, x: predict(p, x) @ p["last"]["kernel"][:, :2] ** 2, squared),
        "a frozen kernel": (with_last(lambda last: last | {"kernel": stopped(last["kernel"])}), squared),
        "a frozen bias": (with_last(lambda last: last | {"bias": stopped(last["bias"])}), squared),
        "a kernel's power": (with_last(lambda last: last | {"kernel": last["kernel"] ** 3}), squared),
        "a bias's power": (with_last(lambda last: last | {"bias": last["bias"] ** 3}), squared),
        "coupled rows": (predict, lambda outputs, targets: (outputs - targets).sum() ** 2),
        "coupled rows, without a number at random outputs": (
            lambda p, x: predict(p, x) + 50, lambda outputs, targets: (outputs**0.5).mean() ** 2
        ),
    }[kind], params  # fmt: skip


KINDS = (
    "another operation", "an operation without a number at random kernels", "used twice", "a frozen kernel",
    "a frozen bias", "a kernel's power", "a bias's power", "coupled rows",
    "coupled rows, without a number at random outputs",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", BOTH)
@pytest.mark.filterwarnings("ignore:the loss has kinks")
def test_what_is_no_last_linear_layer_is_refused(name, kind, loaded):
    (predict, output_loss), params = wrong(name, kind)
    batch = tuple(array(name, np.random.default_rng(2).standard_normal((6, n))) for n in (3, 2))
    with pytest.raises(ValueError, match=r"would differ by .* of their size from those of the loss: the layer"):
        loaded[name].derivatives.hessian_of_network(predict, output_loss, params, *batch, last="last")
    with pytest.raises(ValueError, match="the loss is no sum over rows"):
        loaded[name].last_layer.hessian_last_layer(predict, output_loss, "last")(params, batch)


@pytest.mark.parametrize(
    ("last", "words"),
    [
        ("lost", "last 'lost' names no layer of params, which have first, last"),
        ("first", r"'first' is no linear layer for outputs \(5, 2\): it has first.kernel \(3, 4\), and a linear layer"),
    ],
)
@pytest.mark.parametrize("name", BOTH)
def test_a_name_that_is_no_last_layer_is_refused_with_those_there_are(name, last, words, loaded):
    predict, params = network(name, (3, 4, 2), True, True, False)
    batch = array(name, np.ones((5, 3))), array(name, np.ones((5, 2)))
    with pytest.raises(ValueError, match=words):
        loaded[name].derivatives.hessian_of_network(predict, partial(squares, name), params, *batch, last=last)


def test_a_modules_named_parameters_are_taken_with_its_own_names(loaded):
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).double()
    params, x, y = dict(model.named_parameters()), torch.ones(5, 3).double(), torch.zeros(5, dtype=torch.int64)
    predict = partial(torch.func.functional_call, model)
    loss = torch.nn.functional.cross_entropy
    found = loaded["torch"].derivatives.hessian_of_network(predict, loss, params, (x,), y, last="2")
    expected = loaded["torch"].derivatives.hessian(lambda p: loss(predict(p, (x,)), y), params)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-15)
    assert not found.requires_grad

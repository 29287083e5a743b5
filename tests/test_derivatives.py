"""`hessian`, `hvp`, `gauss_newton` and `diagonal` of both backends, and what they refuse and report."""

import re
import warnings
from functools import partial
from typing import Any, NamedTuple

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.differentiate
import torch
from hypothesis import given
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree
from torch import nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from jaxopt_study import derivatives as face
from tests.conftest import load_backend

BOTH = ("jax", "torch")


class Layer(NamedTuple):
    kernel: Any
    bias: Any


TREES = {
    "nested dicts": {"dense": {"bias": (2,), "kernel": (2, 3)}, "scale": ()},
    "named tuple": Layer((2, 3), ()),
    "list and tuple": [(3,), ((), (2, 2))],
    "array": (5,),
}
IS_SHAPE = lambda node: type(node) is tuple and all(isinstance(n, int) for n in node)  # noqa: E731


def make(name, tree, values):
    """Return a backend's tree with these shapes, filled in the order of its leaves."""
    if name == "jax":
        leaves, structure = jax.tree.flatten(tree, is_leaf=IS_SHAPE)
    else:
        leaves, structure = pytree.tree_flatten(tree, is_leaf=IS_SHAPE)
    ends = np.cumsum([0, *(int(np.prod(shape)) for shape in leaves)])
    parts = [values[a:b].reshape(shape) for a, b, shape in zip(ends, ends[1:], leaves, strict=False)]
    if name == "jax":
        return jax.tree.unflatten(structure, [jnp.asarray(part) for part in parts])
    return pytree.tree_unflatten([torch.as_tensor(np.array(part)) for part in parts], structure)


def flat(name, tree):
    return ravel_pytree(tree)[0] if name == "jax" else torch.cat([x.reshape(-1) for x in pytree.tree_leaves(tree)])


def size_of(tree):
    return sum(int(np.prod(shape)) for shape in jax.tree.leaves(tree, is_leaf=IS_SHAPE))


def coupled(x, weight):
    """A function of a vector, in arithmetic that NumPy, JAX and PyTorch share."""
    return weight * (x[1:] ** 2 * x[:-1]).sum(0) + 1.5 ** x[0] + x[-1] ** 3


def array(name, values, dtype="float64"):
    values = np.array(values, dtype)
    return jnp.asarray(values) if name == "jax" else torch.as_tensor(values)


def numpy(tensor):
    return np.asarray(tensor)


@pytest.fixture(scope="module")
def loaded(backends):
    return backends


# Values.


@pytest.mark.parametrize("name", BOTH)
@given(
    tree=st.sampled_from(sorted(TREES)),
    chunk_size=st.sampled_from(["auto", None, 1, 3]),
    values=st.lists(st.floats(-2, 2, allow_subnormal=False), min_size=9, max_size=9),
    weight=st.floats(0.5, 2),
)
def test_all_agree_with_differences_by_scipy(name, loaded, tree, chunk_size, values, weight):
    derivatives, size = loaded[name].derivatives, size_of(TREES[tree])
    start = np.array(values[:size])
    params = make(name, TREES[tree], start)

    def loss(tree, weight):
        return coupled(flat(name, tree), weight)

    expected = scipy.differentiate.hessian(lambda x: coupled(x, weight), start).ddf
    close = partial(np.testing.assert_allclose, rtol=0, atol=4e-8)  # 4e-9 was measured
    close(numpy(derivatives.hessian(loss, params, weight, chunk_size=chunk_size)), expected)
    close(numpy(derivatives.diagonal(loss, params, weight, chunk_size=chunk_size)), np.diag(expected))
    vector = make(name, TREES[tree], np.arange(1.0, size + 1))
    close(
        numpy(flat(name, derivatives.hvp(loss, params, vector, weight))), expected @ np.arange(1.0, size + 1), atol=2e-6
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", BOTH)
def test_a_network_agrees_with_the_frameworks_own_hessian(name, dtype, loaded):
    """With a softmax, tanh, and a further argument that is a tree."""
    own = {"jax": lambda f: jax.jit(jax.hessian(f)), "torch": torch.func.hessian}[name]
    tanh, lse = (jnp.tanh, jax.nn.logsumexp) if name == "jax" else (torch.tanh, partial(torch.logsumexp, dim=-1))
    generator = np.random.default_rng(0)
    params = make(name, TREES["nested dicts"], generator.standard_normal(9).astype(dtype))
    batch = {"x": array(name, generator.standard_normal((5, 2)), dtype), "pull": array(name, 0.7, dtype)}

    def loss(p, batch):
        z = tanh(batch["x"] @ p["dense"]["kernel"]) @ p["dense"]["kernel"].T + p["dense"]["bias"]
        lines = lse(z, axis=-1) if name == "jax" else lse(z)
        return (p["scale"] * lines).sum() + batch["pull"] * p["scale"] ** 2

    vector, unravel = ravel_pytree(params) if name == "jax" else loaded[name].runtime.ravel_tree(params)
    expected = numpy(own(lambda v: loss(unravel(v), batch))(vector))
    found = loaded[name].derivatives.hessian(loss, params, batch)
    assert str(found.dtype).removeprefix("torch.") == dtype
    # 4e-16 and 2e-7 were measured.
    assert np.abs(numpy(found) - expected).max() < {"float64": 4e-15, "float32": 2e-6}[dtype] * np.abs(expected).max()


@pytest.mark.parametrize("name", BOTH)
def test_gauss_newton_is_that_of_the_frameworks_jacobian(name, loaded):
    generator = np.random.default_rng(1)
    params = {"w": array(name, generator.standard_normal((2, 3)))}
    x, y = (array(name, generator.standard_normal(shape)) for shape in ((4, 2), (4, 3)))
    tanh, jacobian = (jnp.tanh, jax.jacrev) if name == "jax" else (torch.tanh, torch.func.jacrev)
    predict = lambda p, x: tanh(x @ p["w"])  # noqa: E731
    output_loss = lambda out, y: ((out - y) ** 4).sum()  # noqa: E731
    j = numpy(jacobian(predict)(params, x)["w"]).reshape(12, 6)
    h = 12 * numpy(predict(params, x) - y).ravel() ** 2
    found = loaded[name].derivatives.gauss_newton(predict, output_loss, params, x, y, chunk_size=2)
    np.testing.assert_allclose(numpy(found), j.T @ np.diag(h) @ j, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "order"), [("jax", "ab"), ("torch", "ba")])
def test_rows_have_the_order_of_the_trees_leaves(name, order, loaded):
    """JAX sorts the keys of a dict; in PyTorch they stay as they are."""
    params = {"b": array(name, 1.0), "a": array(name, 1.0)}
    found = numpy(loaded[name].derivatives.diagonal(lambda p: p["a"] ** 2 + 5 * p["b"] ** 2, params))
    assert found.tolist() == [{"a": 2.0, "b": 10.0}[key] for key in order]


@pytest.mark.parametrize("name", BOTH)
def test_what_the_loss_does_not_depend_on_has_zeros(name, loaded):
    params = {"a": array(name, [1.0, 2.0]), "b": array(name, [3.0])}
    derivatives = loaded[name].derivatives
    losses = {0.0: lambda p: 0 * p["b"].sum() + array(name, 3.0), 1.0: lambda p: p["a"].sum(), 2.0: square_of_a}
    for curvature, loss in losses.items():
        expected = np.diag([curvature, curvature, 0]) * (curvature == 2)
        assert numpy(derivatives.hessian(loss, params)).tolist() == expected.tolist()
        assert numpy(flat(name, derivatives.hvp(loss, params, params))).tolist() == (expected @ [1, 2, 3]).tolist()
    constant = lambda p, batch: array(name, 3.0)  # noqa: E731
    assert numpy(flat(name, derivatives.gradient(constant)(params, None))).tolist() == [0, 0, 0]
    if name == "torch":
        assert not derivatives.hessian_double_backward(constant)(params, None).any()
        assert numpy(derivatives.hessian_double_backward(lambda p, _: square_of_a(p))(params, None))[0, 0] == 2


def square_of_a(p):
    return (p["a"] ** 2).sum()


ROUTES = ("hessian_forward_over_reverse", "hessian_reverse_over_reverse", "hessian_functional",
          "hessian_functional_vectorized", "hessian_functional_forward", "hessian_double_backward")  # fmt: skip


@pytest.mark.parametrize("route", [*ROUTES, "hessian_blocked"])
def test_pytorchs_named_routes_take_nested_trees(route, loaded):
    backend, start = loaded["torch"], np.arange(1.0, 10) / 4
    module = backend.blocks if route == "hessian_blocked" else backend.derivatives
    found = getattr(module, route)(lambda tree, weight: coupled(flat("torch", tree), weight))
    expected = scipy.differentiate.hessian(lambda x: coupled(x, 1.5), start).ddf
    matrix = found(make("torch", TREES["nested dicts"], start), 1.5)
    np.testing.assert_allclose(matrix.detach(), expected, rtol=0, atol=1e-8)


def test_a_modules_named_parameters_are_taken_as_they_come(loaded):
    """They require a gradient; the results have no graph, also where the caller wants none."""
    derivatives = loaded["torch"].derivatives
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1)).double()
    params, x = dict(model.named_parameters()), torch.ones(3, 2, dtype=torch.float64)
    loss = lambda p: (functional_call(model, p, (x,)) ** 2).sum()  # noqa: E731
    with torch.no_grad():
        found = derivatives.hessian(loss, params)
    product = derivatives.hvp(loss, params, params)
    assert found.shape == (9, 9)
    assert not found.requires_grad
    assert not any(leaf.requires_grad for leaf in product.values())
    np.testing.assert_allclose(flat("torch", product), found @ flat("torch", params).detach(), rtol=0, atol=1e-14)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_jaxs_functions_can_be_transformed_and_a_fresh_function_compiles_nothing(loaded):
    derivatives, x = loaded["jax"].derivatives, jnp.array([1.0, 2.0])
    cubic = lambda x: (x**3).sum()  # noqa: E731
    assert jax.jit(partial(derivatives.hessian, cubic))(x).tolist() == [[6, 0], [0, 12]]
    assert jax.grad(lambda x: derivatives.hessian(cubic, x).sum())(x).tolist() == [6, 6]
    assert jax.vmap(partial(derivatives.diagonal, cubic))(x[:, None]).tolist() == [[6], [12]]
    shift = jnp.array([1.0, 1.0])
    assert derivatives.hessian(lambda x: ((x - shift) ** 4).sum(), x)[0, 0] == 0
    before, shift = loaded["jax"].runtime.compilations(), jnp.array([0.0, 1.0])
    assert derivatives.hessian(lambda x: ((x - shift) ** 4).sum(), x)[0, 0] == 12
    assert loaded["jax"].runtime.compilations() == before


def test_the_public_face_has_all_that_the_backend_makes_public(loaded):
    assert face.hessian is loaded["jax"].derivatives.hessian
    assert set(face.__all__) == set(loaded["jax"].derivatives.__all__)


# What is refused, by name.

LEAVES = {
    "jax": [
        (None, ValueError, "there are no parameters in params"),
        ({"a": {"b": "word"}}, TypeError, r"params\['a'\]\['b'\] is a str, and no array"),
        ([1, 2], TypeError, r"params\[0\] is int\d+, and only floating point numbers have derivatives"),
        ({"a": np.zeros(0)}, ValueError, "there are no parameters in params"),
        ([np.ones(2), np.ones(1, np.float32)], TypeError, "leaves of float32 and float64: give them one type"),
        ({"a": np.array([1, np.nan])}, ValueError, r"params\['a'\] holds NaN or infinite values"),
    ],
    "torch": [
        (None, TypeError, "params is a NoneType, and no tensor"),
        ({"a": {"b": "word"}}, TypeError, r"params\['a'\]\['b'\] is a str, and no tensor"),
        ({"a": None}, TypeError, r"params\['a'\] is a NoneType, and no tensor"),
        ([1.0, 2.0], TypeError, r"params\[0\] is a float, and no tensor"),
        (Layer(np.ones(1), np.ones(1)), TypeError, r"params.kernel is a ndarray, and no tensor"),
        (nn.Linear(1, 1), TypeError, r"params is a Linear, and no tensor: give dict\(module.named_parameters\(\)\)"),
        (nn.Linear(1, 1).parameters(), TypeError, r"is a generator, .*: give dict\(module.named_parameters\(\)\)"),
        ({"a": torch.ones(1, dtype=torch.int64)}, TypeError, r"params\['a'\] is torch.int64, and only floating point"),
        ({}, ValueError, "there are no parameters in params"),
        ([torch.ones(2).double(), torch.ones(2).float()], TypeError, "leaves of torch.float32 and torch.float64: give"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "params", "error", "words"), [(n, *row) for n in BOTH for row in LEAVES[n]])
def test_parameters_that_are_no_floating_point_arrays_of_one_type_are_refused(name, params, error, words, loaded):
    for compute in ("hessian", "diagonal"):
        with pytest.raises(error, match=words):
            getattr(loaded[name].derivatives, compute)(lambda params: 1.0, params)
    if "NaN" not in words:
        with pytest.raises(error, match=words):
            loaded[name].derivatives.hvp(lambda params: 1.0, params, params)


def test_plain_numbers_are_parameters_in_jax_as_everywhere_there(loaded):
    assert loaded["jax"].derivatives.hessian(lambda p: p[0] ** 2 * p[1], [1.0, 2.0]).tolist() == [[4, 2], [2, 0]]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"dense": {"kernel": [[1.0, 2.0]] * 3, "bias": [1.0]}}, ValueError,
         r"vector\['dense'\]\['kernel'\] has shape \(3, 2\), params\['dense'\]\['kernel'\] \(2, 3\)"),
        ({"dense": {"kernel": [[1.0] * 3] * 2}}, ValueError, r"vector lacks the leaf \['dense'\]\['bias'\] of params"),
        ({"more": [1.0]}, ValueError, r"vector has the leaf \['more'\], which params have not"),
        ({"dense": {"kernel": "word", "bias": [1.0]}}, TypeError, r"vector\['dense'\]\['kernel'\] is a str, and no"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", BOTH)
def test_a_vector_unlike_the_parameters_is_refused_by_name(name, change, error, words, loaded):
    def arrays(tree):
        if isinstance(tree, dict):
            return {key: arrays(value) for key, value in tree.items()}
        return tree if isinstance(tree, str) else array(name, tree)

    params = {"dense": {"kernel": [[1.0] * 3] * 2, "bias": [1.0]}}
    with pytest.raises(error, match=words):
        loaded[name].derivatives.hvp(lambda p: 1.0, arrays(params), arrays(params | change))


@pytest.mark.parametrize("name", BOTH)
def test_a_vectors_type_counts_and_the_order_of_its_keys_does_not(name, loaded):
    loss, params = lambda p: p["a"] ** 2 * p["b"], {"a": array(name, 1.0), "b": array(name, 2.0)}
    product = loaded[name].derivatives.hvp(loss, params, {"b": array(name, 0.0), "a": array(name, 1.0)})
    assert (float(product["a"]), float(product["b"])) == (4, 2)
    with pytest.raises(TypeError, match=r"vector\['a'\] is \S*float32, params\['a'\] \S*float64"):
        loaded[name].derivatives.hvp(loss, params, {key: array(name, 1.0, "float32") for key in "ab"})


@pytest.mark.parametrize("chunk_size", [0, -1, 2.5, True, "all"])
@pytest.mark.parametrize("name", BOTH)
def test_a_chunk_size_that_is_not_allowed_is_refused(name, chunk_size, loaded):
    with pytest.raises(ValueError, match=f"chunk_size {chunk_size!r} is not a positive whole number"):
        loaded[name].derivatives.hessian(lambda p: p.sum(), array(name, [1.0]), chunk_size=chunk_size)


@pytest.mark.parametrize("name", BOTH)
def test_a_loss_of_shape_one_is_told_how_to_be_a_scalar(name, loaded):
    for compute in (loaded[name].derivatives.hessian, lambda f, p: loaded[name].derivatives.hvp(f, p, p)):
        with pytest.raises(TypeError, match=r"returns shape \(1,\), \S+: return value.reshape\(\(\)\)"):
            compute(lambda p: (p**2).sum().reshape(1), array(name, [1.0]))


def test_an_argument_that_is_no_array_is_told_where_to_put_it_in_jax_and_taken_in_pytorch(loaded):
    def loss(p, reduction):
        return getattr(p**2, reduction)()

    with pytest.raises(TypeError, match=r"args\[0\] is a str, .* put it into the function, as in hessian\(lambda"):
        loaded["jax"].derivatives.hessian(loss, jnp.array([1.0, 2.0]), "sum")
    assert loaded["torch"].derivatives.hessian(loss, torch.tensor([1.0, 2.0]), "mean").tolist() == [[1, 0], [0, 1]]


# The number of products at a time.


@pytest.mark.parametrize("name", BOTH)
def test_a_chunk_is_as_large_as_was_asked(name, loaded, monkeypatch):
    sizes, blocks = [], loaded[name].blocks
    rows_of = blocks.rows_of
    monkeypatch.setattr(blocks, "rows_of", lambda *given: sizes.append(given[2]) or rows_of(*given))
    for chunk_size in (3, None, "auto"):
        loaded[name].derivatives.hessian(lambda p: (p**5).sum(), array(name, np.ones(40)), chunk_size=chunk_size)
    assert sizes == [3, 40, {"jax": 16, "torch": 40}[name]]


@pytest.mark.parametrize("name", BOTH)
def test_short_memory_makes_small_chunks(name, loaded, monkeypatch):
    """A loss of 1,000 numbers for each vector, also inside `jit` and in each of three steps of a `scan`."""
    blocks, params = loaded[name].blocks, array(name, np.ones(100))
    wave = lambda p: (array(name, np.ones((10, 100))) * p).sum() ** 2  # noqa: E731
    monkeypatch.setattr(blocks, "_memory_at_hand", lambda *device: 2**40)
    assert blocks.block_size_for(wave, params) == blocks.CACHED_VECTORS
    kept = loaded[name].inspection.kept_bytes(wave, params)
    assert 8_000 <= kept <= 20_000
    monkeypatch.setattr(blocks, "_memory_at_hand", lambda *device: 40 * kept)
    assert blocks.block_size_for(wave, params) == {"jax": 8, "torch": 5}[name]
    if name == "jax":
        assert loaded[name].inspection.kept_bytes(jax.jit(wave), params) == kept
        steps = lambda p: jax.lax.fori_loop(0, 3, lambda i, total: total + wave(p), 0.0)  # noqa: E731
        assert loaded[name].inspection.kept_bytes(steps, params) >= 3 * kept


@pytest.mark.parametrize("name", BOTH)
def test_a_loss_is_called_as_few_times_as_can_be(name, loaded):
    """Once by the check and once to be differentiated; JAX traces it once in all. Before, the routes made 14 checks."""
    calls = []

    def loss(p, batch):
        calls.append(1)
        return (p**2).sum()

    params, backend = array(name, [1.0, 2.0]), loaded[name]
    for route in ROUTES if name == "torch" else ROUTES[:2]:
        calls.clear()
        compute = getattr(backend.derivatives, route)(loss)
        compute(params, None)
        assert len(calls) <= 2, route
        compute(params, None)
        assert len(calls) <= 3, route
    calls.clear()
    backend.derivatives.hessian(loss, params, None)
    assert len(calls) == {"jax": 0, "torch": 2}[name]  # JAX knows its trace of this function already


# Where the second derivative does not exist.


def powers(p):
    return (abs(p["a"]["b"]) ** 1.5).sum()


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize(("count", "more"), [(1, ""), (2, " and 1 more entry"), (3, " and 2 more entries")])
def test_further_entries_are_counted(name, count, more, loaded):
    params = {"a": array(name, [1.0, 2.0, 3.0])}
    found = loaded[name].finiteness.name_entries([[place] for place in range(count)], params)
    assert found == f"(params['a'][0]){more}"


@pytest.mark.parametrize("name", BOTH)
def test_entries_that_are_not_finite_are_named_with_the_likely_cause(name, loaded):
    where, sqrt = (jnp.where, jnp.sqrt) if name == "jax" else (torch.where, torch.sqrt)
    params = {"a": {"b": array(name, [[1.0, 0.0]])}, "z": array(name, 0.0)}
    entry = r"\(params\['a'\]\['b'\]\[0, 1\], params\['a'\]\['b'\]\[0, 1\]\)"
    found = reported(loaded[name].derivatives.hessian, powers, params)
    assert_match(rf"not finite at {entry} and \d more entries, where the loss and its gradient are; likely cause: "
                 "a power of 0$", found)  # fmt: skip
    found = reported(loaded[name].derivatives.diagonal, jax.jit(powers) if name == "jax" else powers, params)
    assert_match(r"not finite at \(params\['a'\]\['b'\]\[0, 1\]\), where .* a power of 0", found)
    selected = lambda p: where(p["z"] > 0, p["z"] ** 1.5, 0.0)  # noqa: E731
    found = reported(loaded[name].derivatives.hessian, selected, {"z": params["z"]})
    assert_match(r"\(params\['z'\], params\['z'\]\), .* a power of 0, which a comparison does not hide", found)
    found = reported(loaded[name].derivatives.hessian, lambda p: sqrt(p["z"]), params)
    assert_match(r"the gradient of the loss is not finite at \(params\['z'\]\), where the loss is; .* sqrt of 0", found)
    found = reported(loaded[name].derivatives.hessian, lambda p: 1 / p["z"], params)
    assert_match("the loss is inf at params, and so its second derivative is not finite", found)
    found = reported(loaded[name].derivatives.hessian, lambda p: (p["z"] + 1) ** 2 * 1e308, params)
    assert_match("overflow", found)


def assert_match(words, text):
    assert re.search(words, text), text


def reported(compute, loss, params):
    """Return the words of the warning about what is not finite, which stands at the line of the caller."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        compute(loss, params)
    (warning,) = [w for w in caught if w.category is RuntimeWarning]
    assert warning.filename == __file__
    return str(warning.message)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (torch.linalg.norm, "norm of 0"),
        (lambda p: torch.pdist(p[:, None]).sum(), "pdist of equal points"),
        (lambda p: torch.std(p), "std of 0"),
    ],
)
def test_pytorchs_norms_and_distances_are_named_too(function, words, loaded):
    assert words in loaded["torch"].finiteness.infinite_points(function, torch.zeros(3))
    assert loaded["torch"].finiteness.infinite_points(function, torch.tensor([1.0, 2.0, 4.0])) == []


KINKED = {
    "jax": {
        "relu": jax.nn.relu,
        "leaky_relu": jax.nn.leaky_relu,
        "hard_tanh": jax.nn.hard_tanh,
        "elu": jax.nn.elu,
        "clip": lambda x: jnp.clip(x, -1, 1),
        "clamp": lambda x: jax.lax.clamp(-1.0, x, 1.0),
        "where": lambda x: jnp.where(x > 1, x, x**2),
        "product with a comparison": lambda x: x * (x > 0),
        "jit": jax.jit(abs),
        "cond": lambda x: jax.lax.cond(x.sum() > 1, lambda y: y, lambda y: y**2, x),
        "branch of cond": lambda x: jax.lax.cond(True, abs, lambda y: y, x),
        "scan": lambda x: jax.lax.scan(lambda carry, y: (carry + 1.0, carry * jnp.maximum(y, 0)), 1.0, x)[1],
        "carry of scan": lambda x: jax.lax.scan(lambda carry, y: (carry + y, abs(carry)), 1.0, x)[1],
        "checkpoint": jax.checkpoint(abs),
        "max": jnp.max,
        "sort": jnp.sort,
        "max pooling": lambda x: flax.linen.max_pool(x[None, :, None], (2,)),
        "relu of a difference of squares": lambda x: jnp.maximum(0, (x**2).mean() - x.sum() ** 2),
        "relu of a variance and a number": lambda x: jnp.maximum(0, (x**2).mean() - x.mean() ** 2 - 1),
        "largest of a variance and a number": lambda x: jnp.maximum(1.0, (x**2).mean() - x.mean() ** 2),
        "relu of the variance's opposite": lambda x: jnp.maximum(0, x.mean() ** 2 - (x**2).mean()),
    },
    "torch": {
        "relu": torch.relu,
        "leaky_relu": nn.functional.leaky_relu,
        "hard_tanh": nn.functional.hardtanh,
        "elu": nn.functional.elu,
        "celu": nn.functional.celu,
        "hardswish": nn.functional.hardswish,
        "clamp": lambda x: x.clamp(-1, 1),
        "clamp from below": lambda x: x.clamp_min(0),
        "where": lambda x: torch.where(x > 1, x, x**2),
        "product with a comparison": lambda x: x * (x > 0),
        "product with its floats": lambda x: x * x.gt(0).double(),
        "index": lambda x: x[x > 0],
        "masked_fill": lambda x: x.masked_fill(x < 0, 0.0),
        "argmax": lambda x: x[x.argmax()],
        "max": torch.max,
        "sort": lambda x: x.sort()[0],
        "max pooling": lambda x: nn.functional.max_pool1d(x[None], 2),
        "huber": lambda x: nn.functional.huber_loss(x, torch.zeros(3)),
        "set": lambda x: set_to_zero(x.clone()),
    },
}  # fmt: skip
SMOOTH = {
    "jax": {
        "softplus": jax.nn.softplus,
        "log_sigmoid": jax.nn.log_sigmoid,
        "logsumexp": jax.nn.logsumexp,
        "softmax": jax.nn.softmax,
        "gelu": jax.nn.gelu,
        "without its largest": lambda x: x - jax.lax.stop_gradient(x.max()),
        "mask of data": lambda x: jnp.where(jnp.arange(3) > 1, x, 0),
        "isfinite": lambda x: jnp.where(jnp.isfinite(x), x, 0),
        "solve": lambda x: jnp.linalg.solve(jnp.eye(3) + jnp.outer(x, x), x),
        "slogdet": lambda x: jnp.linalg.slogdet(jnp.eye(3) + jnp.outer(x, x))[1],
        "square of abs": lambda x: abs(x) ** 2,
        "counted, not used": lambda x: (x**2, (x > 0).sum())[0],
        "LayerNorm": lambda x: flax.linen.LayerNorm().apply({"params": {"scale": x, "bias": x}}, jnp.outer(x, x)),
        "GroupNorm": lambda x: flax.linen.GroupNorm(1).apply({"params": {"scale": x, "bias": x}}, jnp.outer(x, x)),
        "loop over indices": lambda x: jax.lax.fori_loop(0, 3, lambda i, total: total + x[i] ** 2, 0.0),
    },
    "torch": {
        "softplus": nn.functional.softplus,
        "log_sigmoid": nn.functional.logsigmoid,
        "logsumexp": lambda x: torch.logsumexp(x, 0),
        "softmax": lambda x: x.softmax(0),
        "gelu": nn.functional.gelu,
        "without its largest": lambda x: x - x.max().detach(),
        "mask of data": lambda x: torch.where(torch.arange(3) > 1, x, 0),
        "isfinite": lambda x: torch.where(x.isfinite(), x, 0),
        "solve": lambda x: torch.linalg.solve(torch.eye(3, dtype=x.dtype) + torch.outer(x, x), x),
        "counted, not used": lambda x: (x**2, (x > 0).sum())[0],
        "checked": lambda x: x**2 if (x > -9).all() else x,
    },
}  # fmt: skip


def set_to_zero(x):
    x[x < 0] = 0
    return x


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name in BOTH for kind in KINKED[name]])
def test_kinks_are_found_however_they_are_written(name, kind, loaded):
    assert loaded[name].inspection.inspect(lambda x: KINKED[name][kind](x).sum(), array(name, [1.0, -2.0, 0.5])).kinks


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name in BOTH for kind in SMOOTH[name]])
def test_smooth_functions_have_none(name, kind, loaded):
    params, function = array(name, [1.0, -2.0, 0.5]), SMOOTH[name][kind]
    assert loaded[name].inspection.inspect(lambda x: function(x).sum(), params).kinks == []


@pytest.mark.parametrize("name", BOTH)
def test_the_note_on_kinks_names_them_and_stands_at_the_callers_line(name, loaded):
    derivatives, params = loaded[name].derivatives, array(name, [1.0, -2.0])
    loss = lambda p: (p**2 * (p > 0)).sum()  # noqa: E731
    for compute in (derivatives.hessian, derivatives.diagonal, lambda f, p: derivatives.hvp(f, p, p)):
        with pytest.warns(UserWarning, match=r"the loss has kinks \(comparison\)") as caught:
            compute(loss, params)
        assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        derivatives.hvp(loss, params, params)  # noted once for a function, since it is called in loops


# Losses that change something of their own.


def normalized(momentum=0.1):
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3, momentum=momentum)).double()
    x = torch.as_tensor(np.random.default_rng(0).standard_normal((5, 2)))
    return model, dict(model.named_parameters()), lambda p, batch=None: (functional_call(model, p, (x,)) ** 3).sum()


@pytest.mark.parametrize("route", [*ROUTES, "hessian", "diagonal", "hvp", "gauss_newton"])
def test_batch_normalization_in_training_mode_is_refused_and_its_statistics_stay(route, loaded):
    model, params, loss = normalized()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    function = getattr(loaded["torch"].derivatives, route)
    call = {
        "hessian": lambda: function(loss, params),
        "diagonal": lambda: function(loss, params),
        "hvp": lambda: function(loss, params, params),
        "gauss_newton": lambda: function(loss, lambda out, _: out, params, None, None),
    }.get(route, lambda: function(loss)(params, None))
    with pytest.raises(ValueError, match=r"batch normalization in training mode .*: call model.eval\(\), or"):
        call()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def row_by_row(loss, params, loaded):
    """Return the Hessian by one backward pass for each row, without vmap."""
    _, unravel = loaded["torch"].runtime.ravel_tree(params)
    return torch.autograd.functional.hessian(lambda v: loss(unravel(v)), flat("torch", params).detach()).numpy()


@pytest.mark.parametrize(
    "norm", [nn.LayerNorm(3), nn.InstanceNorm1d(3, affine=True), nn.GroupNorm(1, 3), nn.RMSNorm(3)]
)
def test_the_weights_of_normalizations_have_their_rows(norm, loaded):
    """In `torch.func.hessian` the first two differ by 0.18 and 0.22 of the largest entry; here by 5e-16."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 9), nn.Unflatten(1, (3, 3)), norm, nn.Flatten(), nn.Linear(9, 2)).double()
    x = torch.as_tensor(np.random.default_rng(0).standard_normal((5, 2)))
    params = dict(model.named_parameters())
    loss = lambda p: (functional_call(model, p, (x,)) ** 3).mean()  # noqa: E731
    expected = row_by_row(loss, params, loaded)
    found = loaded["torch"].derivatives.hessian(loss, params)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14 * np.abs(expected).max())
    product = loaded["torch"].derivatives.hvp(loss, params, params)
    np.testing.assert_allclose(
        flat("torch", product), expected @ flat("torch", params).detach().numpy(), rtol=0, atol=1e-13
    )


@pytest.mark.parametrize("module", ["attention", "encoder"])
def test_attention_has_second_derivatives(module, loaded):
    """PyTorch's fused kernels have none; by matrix products there are. The differences' own error is 1e-9."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, dtype=torch.float64)
    if module == "attention":
        model = nn.MultiheadAttention(4, 2, batch_first=True).double()
        predict = lambda p: functional_call(model, p, (x, x, x), {"need_weights": False})[0]  # noqa: E731
    else:
        model = nn.TransformerEncoderLayer(4, 2, 5, 0.0, nn.functional.gelu, batch_first=True).double()
        predict = lambda p: functional_call(model, p, (x,))  # noqa: E731
    loss, params = lambda p, batch=None: (predict(p) ** 3).mean(), dict(model.named_parameters())
    derivatives = loaded["torch"].derivatives
    vector = {name: torch.randn_like(leaf) for name, leaf in params.items()}
    ends = [derivatives.gradient(loss)({n: leaf + e * vector[n] for n, leaf in params.items()}, None)
            for e in (1e-6, -1e-6)]  # fmt: skip
    expected = (flat("torch", ends[0]) - flat("torch", ends[1])) / 2e-6
    found = derivatives.hessian(loss, params)
    np.testing.assert_allclose(found @ flat("torch", vector), expected, rtol=0, atol=1e-8)
    np.testing.assert_allclose(flat("torch", derivatives.hvp(loss, params, vector)), expected, rtol=0, atol=1e-8)
    np.testing.assert_allclose(derivatives.diagonal(loss, params), found.diagonal(), rtol=0, atol=1e-14)
    if module == "attention":  # an encoder has LayerNorm, whose rows torch.func gets wrong
        named = derivatives.hessian_reverse_over_reverse(loss)(params, None)
        np.testing.assert_allclose(named, found, rtol=0, atol=1e-14)


def test_an_operation_that_can_be_differentiated_only_once_is_named_and_the_remedies_work(loaded):
    def call(model):
        x = torch.ones(1, 2, 2, dtype=model.bias_hh_l0.dtype)
        loss = lambda p: (functional_call(model, p, (x,))[0] ** 2).sum()  # noqa: E731
        return loaded["torch"].derivatives.hessian(loss, dict(model.named_parameters()))

    model = nn.LSTM(2, 1).float()
    with pytest.raises(
        NotImplementedError, match=r"nn\.LSTM in float32 on a CPU has no second derivative: use float64"
    ):
        call(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about Intel's GPUs
        with torch.backends.mkldnn.flags(enabled=False):
            found = call(model)
    np.testing.assert_allclose(found, call(model.double()), rtol=0, atol=1e-6)


@pytest.mark.parametrize("normalize", [nn.utils.parametrizations.weight_norm, nn.utils.weight_norm])
def test_weight_norm_is_refused_since_its_second_derivative_is_wrong(normalize, loaded):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the older function
        layer = normalize(nn.Linear(3, 2))
    params = {name: p.detach() for name, p in layer.named_parameters()}
    with pytest.raises(NotImplementedError, match="the second derivative of weight_norm is wrong in PyTorch"):
        loaded["torch"].derivatives.hessian(
            lambda p: torch.func.functional_call(layer, p, (torch.ones(4, 3),)).tanh().sum(), params
        )


def test_hardsigmoid_is_named_and_its_remedy_is_the_same_function(loaded):
    x = torch.tensor([-4.0, -1.0, 0.5, 4.0])
    with pytest.raises(NotImplementedError, match=r"hardsigmoid has no second derivative .*: write it as torch.clamp"):
        loaded["torch"].derivatives.hessian(lambda p: (nn.functional.hardsigmoid(p) ** 2).sum(), x)
    same = lambda p: torch.clamp(p / 6 + 0.5, 0, 1)  # noqa: E731
    np.testing.assert_allclose(same(x), nn.functional.hardsigmoid(x), rtol=0, atol=1e-7)
    with pytest.warns(UserWarning, match="the loss has kinks"):
        found = loaded["torch"].derivatives.hessian(lambda p: (same(p) ** 2).sum(), x)
    np.testing.assert_allclose(found.diagonal(), [0, 1 / 18, 1 / 18, 0], rtol=1e-6)


def test_a_list_for_a_loss_that_needs_names_is_told_how_to_give_them(loaded):
    model = nn.Linear(2, 2)
    loss = lambda p: functional_call(model, p, (torch.ones(1, 2),)).sum()  # noqa: E731
    with pytest.raises(TypeError, match=r"params are a list, and .* needs names: give dict\(module.named_parameters"):
        loaded["torch"].derivatives.hessian(loss, list(model.parameters()))


def test_both_remedies_that_the_message_names_work(loaded):
    hessian = loaded["torch"].derivatives.hessian
    model, params, loss = normalized()
    model.eval()
    assert hessian(loss, params).shape == (15, 15)
    model.train()
    torch.func.replace_all_batch_norm_modules_(model)
    np.testing.assert_allclose(hessian(loss, params), row_by_row(loss, params, loaded), rtol=0, atol=1e-9)


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(2, momentum=None), nn.InstanceNorm1d(2, track_running_stats=True)])
def test_any_change_of_a_tensor_from_outside_is_refused(norm, loaded):
    count, before = torch.zeros(()), {name: value.clone() for name, value in norm.state_dict().items()}

    def counted(p):
        count.add_(1)
        return (p**2).sum()

    for loss in (counted, lambda p: norm(p.expand(3, 2, 2)).sum()):
        with pytest.raises(ValueError, match="changes a tensor that it did not make"):
            loaded["torch"].derivatives.hessian(loss, torch.ones(2))
    assert count == 0
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())
    own = lambda p: torch.zeros(2).add_(p).mul_(torch.tensor([1.0, 2.0]).add_(1)).pow(2).sum()  # noqa: E731
    assert loaded["torch"].derivatives.hessian(own, torch.ones(2)).tolist() == [[8, 0], [0, 18]]


def test_flaxs_batch_normalization_returns_its_statistics_and_is_differentiated(loaded):
    model, x = flax.linen.BatchNorm(use_running_average=False), jnp.array([[1.0, 2.0], [0.5, 3.0], [2.0, 1.0]])
    variables = model.init(jax.random.key(0), x)

    def loss(params):
        return (model.apply(variables | {"params": params}, x, mutable=["batch_stats"])[0] ** 3).sum()

    vector, unravel = ravel_pytree(variables["params"])
    expected = jax.jit(jax.hessian(lambda v: loss(unravel(v))))(vector)
    found = loaded["jax"].derivatives.hessian(loss, variables["params"])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)  # flax's own type is float32 here: 1e-6 was measured


def test_float32_is_as_it_is_when_nothing_was_set():
    load_backend("jax", "float32")
    try:
        found = face.hessian(lambda p: (p**3).sum(), np.array([1.0, 2.0]))
        assert (found.dtype, found.tolist()) == ("float32", [[6, 0], [0, 12]])
    finally:
        load_backend("jax", "float64")

"""`native`: any function of arrays as one native function, or the reason why not."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_study.backends.jax import compiling
from jaxopt_study.native import native, suspects
from tests.conftest import load_backend

X = np.linspace(0.1, 0.9, 8)
MATRIX = np.eye(8) + np.outer(X, X)


@pytest.fixture(autouse=True)
def _double_precision():
    load_backend("jax", "float64")


def looped(body):
    return lambda x: jax.lax.fori_loop(0, 3, lambda i, s: body(s, i), x)


TAKEN = {
    "a single index set": looped(lambda s, i: s.at[i].set(2 * s[i])),
    "several indices added": looped(lambda s, i: s.at[jnp.array([1, 1, 3])].add(s[i])),
    "gather": looped(lambda s, i: s + s[jnp.array([1, 0, 3, 2, 5, 4, 7, 6])]),
    "matrix product": looped(lambda s, i: 0.1 * (jnp.outer(s, s) @ jnp.asarray(MATRIX))[0]),
    "batched product": looped(
        lambda s, i: 0.01 * jnp.einsum("bij,bjk->k", jnp.ones((4, 8, 8)) * s, jnp.ones((4, 8, 8)))
    ),
    "branches": looped(lambda s, i: jax.lax.switch(i, [jnp.sin, jnp.cos, jnp.tanh], s)),
    "random numbers": looped(lambda s, i: s + jax.random.normal(jax.random.fold_in(jax.random.key(0), i), s.shape)),
    "while": lambda x: jax.lax.while_loop(lambda s: s[0] < 10, lambda s: 1.5 * s, x),
    "cumulative sum": looped(lambda s, i: 0.1 * jnp.cumsum(s)),
    "special functions": looped(lambda s, i: jax.scipy.special.gammaln(1 + s)),
}
REFUSED = {
    "cholesky (LAPACK)": looped(lambda s, i: s + jnp.linalg.cholesky(jnp.asarray(MATRIX) * s[0])[0]),
    "tridiagonal_solve (LAPACK)": looped(
        lambda s, i: jax.lax.linalg.tridiagonal_solve(*[jnp.ones(8), 4 * jnp.ones(8), jnp.ones(8)], s[:, None])[:, 0]
    ),
    "sort (a call of XLA": looped(lambda s, i: jnp.sort(1.1 * s)),
    "fft (a call of XLA": looped(lambda s, i: jnp.abs(jnp.fft.fft(s))),
    "array without elements (XLA would end": lambda x: x + x[:0].sum(),
    "pure_callback (a call of Python)": looped(lambda s, i: jax.pure_callback(lambda a: a * 2, s, s)),
}


@pytest.mark.parametrize("function", TAKEN.values(), ids=TAKEN)
def test_a_native_function_returns_what_jit_returns(function):
    np.testing.assert_allclose(native(function)(X), jax.jit(function)(X), rtol=1e-14)  # 2.3e-16 measured


@pytest.mark.parametrize(("words", "function"), REFUSED.items(), ids=REFUSED)
def test_what_a_native_function_cannot_hold_is_named_beforehand_and_xla_says_nothing(words, function, capfd):
    with pytest.raises(NotImplementedError, match="a native function cannot hold") as raised:
        native(function)(X)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("words", "function"), REFUSED.items(), ids=REFUSED)
def test_auto_goes_without_where_it_must_and_says_why_and_xla_says_nothing(words, function, capfd):
    auto = native(function, mode="auto")
    np.testing.assert_array_equal(auto(X), jax.jit(function)(X))
    assert auto.choices["float64[8]"].startswith(f"jax.jit: a native function cannot hold {words}")
    assert capfd.readouterr().err == ""


def test_auto_goes_without_where_only_xla_knows_that_it_must(monkeypatch):
    for module in ("native", "backends.jax.native"):
        monkeypatch.setattr(f"jaxopt_study.{module}.suspects", lambda *given: [])
    auto = native(REFUSED["cholesky (LAPACK)"], mode="auto")
    auto(X)
    assert auto.choices["float64[8]"].startswith("jax.jit: XLA makes no native function of")


def test_auto_chooses_once_for_each_shape_and_type_and_takes_the_faster_one(monkeypatch):
    asked = []

    def least(call):
        asked.append(call)
        return (2.0, 1.0, 1.0, 2.0)[len(asked) - 1]  # jax.jit, native; jax.jit, native

    monkeypatch.setattr("jaxopt_study.native._least", least)
    auto = native(TAKEN["while"], mode="auto")
    for given in (X, X + 1, X[:4]):
        np.testing.assert_allclose(auto(given), jax.jit(TAKEN["while"])(given), rtol=1e-14)
    assert len(asked) == 4
    assert auto.choices == {
        "float64[8]": "native: native takes 0.5 of the time of jax.jit",
        "float64[4]": "jax.jit: native takes 2 of the time of jax.jit",
    }


def test_auto_knows_the_structure_type_and_kind_of_its_arguments(monkeypatch):
    """The key of a choice is less than JAX's own; numbers, NumPy's arrays and tracers differ in it all the same."""
    asked = []
    monkeypatch.setattr("jaxopt_study.native._least", lambda call: asked.append(call) or 1.0)
    auto = native(lambda tree: jax.lax.fori_loop(0, 3, lambda _, x: 1.5 * x, sum(tree.values())), mode="auto")
    for tree in ({"a": 1.0}, {"b": 1.0}, {"a": jnp.ones(2)}, {"a": np.ones(2)}, {"a": jnp.ones(2, "float32")}):
        for _ in range(2):
            np.testing.assert_allclose(auto(tree), 1.5**3 * np.asarray(next(iter(tree.values()))), rtol=1e-6)
    assert len(asked) == 2 * 5
    assert jax.jit(auto)({"a": jnp.ones(2)}).shape == (2,)
    assert len(asked) == 2 * 5


@pytest.mark.parametrize("mode", ["always", "auto"])
def test_it_can_be_transformed(mode):
    function = TAKEN["branches"]
    made = native(function, mode)
    np.testing.assert_allclose(
        jax.vmap(made)(np.stack([X, 2 * X])), jax.vmap(function)(np.stack([X, 2 * X])), rtol=1e-14
    )
    for transformed in (jax.grad, lambda f: jax.jit(jax.grad(f))):
        of_sum = (transformed(lambda x, f=f: f(x).sum()) for f in (made, function))
        np.testing.assert_allclose(*(gradient(jnp.asarray(X)) for gradient in of_sum), rtol=1e-14)


@pytest.mark.parametrize("mode", ["always", "auto"])
def test_arguments_may_have_names(mode):
    made = native(lambda x, scale=1.0: looped(lambda s, i: scale * s)(x), mode)
    for options in ({}, {"scale": 0.5}):
        np.testing.assert_allclose(made(X, **options), X * options.get("scale", 1.0) ** 3)
    assert jax.jit(lambda x: made(x, scale=2.0))(X)[0] == 8 * X[0]


def test_a_function_may_return_nothing():
    assert native(lambda x: None)(X) is None


def test_what_is_no_function_is_refused():
    with pytest.raises(TypeError, match="3 is no function"):
        native(3)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="'fast' is none of always, auto"):
        native(jnp.sin, mode="fast")


def test_a_function_without_suspects_has_none():
    assert suspects(TAKEN["branches"], X) == []
    assert suspects(REFUSED["sort (a call of XLA"], X) == ["sort (a call of XLA's library)"]


def test_xla_does_not_make_larger_loops_native_by_itself():
    """Where this fails, `scan` has become what a native function is: docs/native.md must then say so."""
    loops = {
        rows: jax.jit(looped(lambda s, i: jnp.sin(s))).lower(np.ones(rows)).compile().as_text() for rows in (8, 4000)
    }
    assert "xla_cpu_small_call" in loops[8]
    assert "xla_cpu_small_call" not in loops[4000]


@pytest.fixture(scope="module")
def compared():
    path = Path(__file__).parents[1] / "benchmarks" / "native.py"
    spec = importlib.util.spec_from_file_location("benchmark_of_native", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_programs_of_the_benchmark_give_the_same_results(compared):
    for function, arguments in compared.programs().values():
        found, expected = native(function)(*arguments), jax.jit(function)(*arguments)
        np.testing.assert_allclose(found, expected, rtol=compared.DISTANCE, atol=1e-13)


def test_the_cable_of_the_benchmark_solves_its_systems(compared):
    v, currents = X.copy(), 0.1 * np.stack([X, X[::-1]])
    matrix, expected = 1.5 * np.eye(8) - 0.2 * (np.eye(8, k=1) + np.eye(8, k=-1)), []
    for current in currents:
        v = np.linalg.solve(matrix, v + 0.1 * np.tanh(v) + current)
        expected.append(v[0])
    found = compared.compartments(jnp.asarray(X), jnp.asarray(currents))
    np.testing.assert_allclose(found, expected, rtol=1e-14)


def test_an_option_that_this_xla_does_not_know_is_left_out():
    assert compiling.known({"xla_no_such_option": 1}) == {}
    assert compiling.known(compiling.QUICK | {"xla_no_such_option": 1}) == compiling.QUICK
    assert compiling.wide_options() == compiling.WIDE  # this jax knows it

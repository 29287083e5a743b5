"""Derivatives of a minimizer's result, and what JAX compiles for it: a function is known by what it computes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests.newton import METHODS, compilations


def ridge(x, w, rows):
    """A smooth convex objective whose minimizer depends on w."""
    return (jnp.cosh(rows @ x - w)).sum() + 0.1 * (x**2).sum()


ROWS = np.random.default_rng(0).standard_normal((5, 3))
W = np.array([0.3, -0.2, 0.5, 0.1, -0.4])
PULL = np.array([1.0, -2.0, 0.5])


def differences(f, w, size=1e-5):
    steps = size * np.eye(len(w))
    return np.array([(f(w + step) - f(w - step)) / (2 * size) for step in steps])


@pytest.fixture(scope="module")
def solve(backends):
    def solved(w, start=(0.0, 0.0, 0.0), method="exact", closed=False):
        if closed:
            return backends["jax"].newton.minimize(lambda x: ridge(x, w, ROWS), jnp.asarray(start), tolerance=1e-12)
        return backends["jax"].newton.minimize(ridge, jnp.asarray(start), w, ROWS, method=method, tolerance=1e-12)

    return solved


@pytest.fixture(scope="module")
def expected(solve):
    return differences(lambda w: float(PULL @ np.asarray(solve(w).x)), W)


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("at", ["start", "optimum"])
def test_the_solution_has_derivatives_in_both_modes(at, closed, solve, expected):
    """At the optimum no step is made, and differentiating the loop would give 0."""
    start = np.zeros(3) if at == "start" else np.asarray(solve(W).x)
    pulled = lambda w: PULL @ solve(w, start, closed=closed).x  # noqa: E731
    assert np.abs(expected).max() > 0.1
    assert np.abs(jax.grad(pulled)(jnp.asarray(W)) - expected).max() < 1e-8  # 1.5e-10 was measured
    for i in range(2):
        tangent = jax.jvp(pulled, (jnp.asarray(W),), (jnp.eye(5)[i],))[1]
        assert abs(tangent - expected[i]) < 1e-8


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_them_under_jit_and_vmap(method, solve, expected):
    many = jax.jit(jax.vmap(jax.grad(lambda w: PULL @ solve(w, method=method).x)))
    found = many(jnp.stack([jnp.asarray(W), jnp.zeros(5)]))
    assert np.abs(found[0] - expected).max() < 1e-6
    assert found.shape == (2, 5)


def torch_ridge(x, w, rows):
    return torch.cosh(rows @ x - w).sum() + 0.1 * (x**2).sum()


def torch_pulled(backends, w, start=(0.0, 0.0, 0.0), closed=False, method="exact"):
    """Return PULL' x in PyTorch, with w as an argument or closed over."""
    minimize, rows = backends["torch"].newton.minimize, torch.as_tensor(ROWS)
    fun, args = (lambda x: torch_ridge(x, w, rows), ()) if closed else (torch_ridge, (w, rows))
    x0 = torch.tensor(start, dtype=torch.float64)
    return torch.as_tensor(PULL) @ minimize(fun, x0, *args, method=method, tolerance=1e-12).x


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("closed", [False, True])
def test_pytorch_has_the_same_in_reverse_mode(closed, method, backends, expected, solve):
    w = torch.tensor(W, requires_grad=True)
    torch_pulled(backends, w, closed=closed, method=method).backward()
    assert np.abs(w.grad.numpy() - expected).max() < 1e-8  # 1.5e-10 was measured
    jax_gradient = jax.grad(lambda v: PULL @ solve(v).x)(jnp.asarray(W))
    assert np.abs(w.grad.numpy() - np.asarray(jax_gradient)).max() < 1e-12  # 1.2e-14 was measured


def test_pytorch_differentiates_the_solution_and_not_the_loop(backends, expected):
    """At the optimum no step is made."""
    w = torch.tensor(W, requires_grad=True)
    start = backends["torch"].newton.minimize(torch_ridge, np.zeros(3), torch.tensor(W), torch.as_tensor(ROWS)).x
    torch_pulled(backends, w, start.tolist()).backward()
    assert np.abs(w.grad.numpy() - expected).max() < 1e-6


def test_pytorch_solves_large_systems_by_conjugate_gradients(backends, expected, monkeypatch):
    monkeypatch.setattr("torch_reference.newton.implicit.DENSE", 1)
    w = torch.tensor(W, requires_grad=True)
    torch_pulled(backends, w).backward()
    assert np.abs(w.grad.numpy() - expected).max() < 1e-8


def test_jax_solves_large_systems_by_conjugate_gradients_in_both_modes(backends, monkeypatch):
    monkeypatch.setattr("jaxopt_study.backends.jax.newton.implicit.DENSE", 1)

    def end(c):
        return backends["jax"].newton.minimize(lambda x, c: ((x - c) ** 2).sum() + (x**4).sum(), jnp.zeros(3), c).x[1]

    slope = 1 / (1 + 6 * end(1.0) ** 2)  # 2 (x - c) + 4 x^3 = 0
    assert jax.grad(end)(1.0) == pytest.approx(float(slope), abs=1e-10)
    assert jax.jvp(end, (1.0,), (1.0,))[1] == pytest.approx(float(slope), abs=1e-10)


def test_pytorch_keeps_the_tree_and_a_singular_direction_counts_0(backends):
    w = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    x0 = {"a": torch.zeros(2, dtype=torch.float64), "free": torch.ones(1, dtype=torch.float64)}
    x = backends["torch"].newton.minimize(lambda x, w: ((x["a"] - w**2) ** 2).sum(), x0, w).x
    (x["a"].sum() + x["free"].sum()).backward()
    assert w.grad.item() == pytest.approx(8.0, abs=1e-12)


def test_pytorch_refuses_what_would_be_wrong(backends):
    """The second derivative would take the Hessian for a constant; torch.func cannot run a loop of numbers."""
    w = torch.tensor(W, requires_grad=True)
    with pytest.raises(RuntimeError, match="can be differentiated once"):
        torch.autograd.grad(torch_pulled(backends, w), w, create_graph=True)
    with pytest.raises(TypeError, match=r"cannot run inside torch.func's transforms"):
        torch.func.grad(lambda w: torch_pulled(backends, w))(torch.tensor(W))


def test_pytorch_gives_no_gradient_where_none_is_asked_for(backends):
    w = torch.tensor(W, requires_grad=True)
    with torch.no_grad():
        assert not torch_pulled(backends, w).requires_grad
    assert not torch_pulled(backends, w.detach()).requires_grad


def test_the_value_and_the_second_derivative_too(solve):
    best = lambda w: solve(w).value  # noqa: E731
    slope = differences(lambda w: float(solve(w).value), W)
    assert np.abs(jax.grad(best)(jnp.asarray(W)) - slope).max() < 1e-8
    one = lambda w: PULL @ solve(jnp.asarray(W).at[0].set(w)).x  # noqa: E731
    h = 1e-4
    second = (jax.grad(one)(W[0] + h) - jax.grad(one)(W[0] - h)) / (2 * h)
    assert float(jax.grad(jax.grad(one))(W[0])) == pytest.approx(float(second), abs=1e-5)


def test_targets_that_are_whole_numbers_have_none(backends):
    def value(x, classes, weight):
        return (weight * (x - classes) ** 2).sum() + (x**2).sum()

    found = jax.grad(lambda w: backends["jax"].newton.minimize(value, jnp.zeros(2), jnp.array([1, 2]), w).x.sum())(1.0)
    assert float(found) == pytest.approx(3 / 4, abs=1e-10)  # x = w c / (1 + w)


def test_a_new_lambda_start_tolerance_and_closed_array_compile_nothing(backends):
    newton = backends["jax"].newton

    def run(shift, start, **options):
        array = jnp.asarray(shift)
        return newton.minimize(lambda x: ((x - array) ** 2).sum() + (jnp.tanh(x) ** 4).sum(), start, **options)

    first = run([1.0, 2.0], jnp.zeros(2))
    before = backends["jax"].runtime.compilations()
    again = run([3.0, -1.0], jnp.ones(2), tolerance=1e-3, max_iterations=50)
    assert backends["jax"].runtime.compilations() == before
    assert first.x.tolist() != again.x.tolist()
    alone = newton.minimize(lambda x: ((x - jnp.array([3.0, -1.0])) ** 2).sum() + (jnp.tanh(x) ** 4).sum(), jnp.ones(2),
                            tolerance=1e-3)  # fmt: skip
    assert np.allclose(again.x, alone.x, atol=1e-14)


PAIRS = {
    "constant": (lambda x: ((x - 1.0) ** 2).sum(), lambda x: ((x - 2.0) ** 2).sum()),
    "operation": (lambda x: (jnp.cosh(x) - x).sum(), lambda x: (jnp.exp(x) - 2 * x).sum()),
    "order": (lambda x: (x[0] - 1) ** 2 + 2 * x[1] ** 2, lambda x: (x[1] - 1) ** 2 + 2 * x[0] ** 2),
    "power": (lambda x: ((x - 1) ** 2).sum(), lambda x: ((x - 1) ** 4 + x**2).sum()),
    "inner": (
        lambda x: jax.lax.fori_loop(0, 3, lambda i, s: s + ((x - 1) ** 2).sum(), 0.0),
        lambda x: jax.lax.fori_loop(0, 3, lambda i, s: s + ((x - 2) ** 2).sum(), 0.0),
    ),
    "own derivative": (lambda x: _half(2.0)(x), lambda x: _half(4.0)(x)),
}


def _half(curvature):
    """The same value, with another derivative: a trap for what compares values alone."""

    @jax.custom_jvp
    def fun(x):
        return ((x - 1) ** 2).sum()

    fun.defjvp(lambda p, t: (fun(*p), (curvature * (p[0] - curvature)) @ t[0]))
    return fun


@pytest.mark.parametrize("pair", PAIRS)
def test_functions_that_compute_something_else_are_told_apart(pair, backends):
    results = [backends["jax"].newton.minimize(f, jnp.full(2, 0.3), method="lbfgs") for f in PAIRS[pair]]
    ends = [np.append(r.x, r.gradient_norm) for r in results]
    assert np.abs(ends[0] - ends[1]).max() > 1e-2


class Unhashable:
    """A callable that compares by value, as an equinox module does."""

    __hash__ = None

    def __init__(self, shift):
        self.shift = jnp.asarray(shift)

    def __call__(self, x):
        return ((x - self.shift) ** 2).sum() + 0.5 * (x**2).sum()


def test_a_callable_that_cannot_be_hashed_is_minimized(backends):
    ends = [backends["jax"].newton.minimize(Unhashable(shift), jnp.zeros(2)).x for shift in ([1.0, 2.0], [3.0, 4.0])]
    assert np.allclose(ends, [[2 / 3, 4 / 3], [2, 8 / 3]])
    assert compilations(backends, Unhashable([5.0, 6.0]), jnp.zeros(2)) == 0

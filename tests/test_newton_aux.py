"""An objective that returns (value, aux): the result has the aux at its point, in both backends."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

NAMES = ["jax", "torch"]
METHODS = ["exact", "newton_cg", "trust_exact", "trust_krylov", "lbfgs", None]
as_array = {"jax": jnp.asarray, "torch": torch.as_tensor}


def fun(x, a):
    """Two squares that vanish at (a, a^2), and both of them beside their sum."""
    parts = {"near": (a - x[0]) ** 2, "valley": 100 * (x[1] - x[0] ** 2) ** 2}
    return parts["near"] + parts["valley"], {"parts": parts, "sum": x.sum() + a}


def value(x, a):
    return fun(x, a)[0]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NAMES)
def test_it_is_that_at_the_last_point_and_the_run_is_the_same(name, method, backends):
    newton, start = backends[name].newton, as_array[name](np.array([-1.2, 1.0]))
    for limit in (2, 100):
        with_it = newton.minimize(fun, start, 2.0, method=method, has_aux=True, max_iterations=limit)
        without = newton.minimize(value, start, 2.0, method=method, max_iterations=limit)
        assert np.array_equal(with_it.x, without.x)
        assert (with_it.counts, with_it.reason, with_it.methods) == (without.counts, without.reason, without.methods)
        assert without.aux is None
        near, valley = with_it.aux["parts"].values()
        # In JAX the two programs may round differently: 0 was measured, and so the bound is one rounding.
        assert float(near + valley) == pytest.approx(float(with_it.value), rel=5e-16, abs=0)
        assert float(with_it.aux["sum"]) == pytest.approx(float(with_it.x.sum() + 2), rel=5e-16)


@pytest.mark.parametrize("name", NAMES)
def test_it_may_be_any_tree_and_hold_more_than_arrays(name, backends):
    for aux in (None, "words", [3, {"a": np.ones(2)}], print):
        result = backends[name].newton.minimize(lambda x, aux=aux: ((x**2).sum(), aux), [1.0, 2.0], has_aux=True)
        assert result.converged
        assert str(result.aux) == str(aux) or np.allclose(result.aux[1]["a"], 1)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_computed_where_a_run_goes_on_by_another_method(name, backends):
    def rough(x):  # |x|^1.5 has no second derivative at 0
        return (abs(x) ** 1.5).sum() + ((x - 1) ** 2).sum(), x.sum()

    result = backends[name].newton.minimize(rough, as_array[name](np.zeros(2)), has_aux=True, method="exact")
    assert result.methods == ("exact", "lbfgs")
    assert float(result.aux) == pytest.approx(float(result.x.sum()))


def test_it_has_the_derivatives_of_the_solution(backends):
    """The aux's sum is a + a^2 + a at the solution (a, a^2), and so its derivative 2 + 2 a; closed over, too."""
    solve = lambda a: backends["jax"].newton.minimize(fun, jnp.zeros(2), a, has_aux=True).aux["sum"]  # noqa: E731
    closed = lambda a: backends["jax"].newton.minimize(lambda x: fun(x, a), jnp.zeros(2), has_aux=True).aux["sum"]  # noqa: E731
    for run in (solve, closed):
        assert float(jax.grad(run)(1.5)) == pytest.approx(5.0, abs=1e-6)
        assert float(jax.jvp(run, (1.5,), (1.0,))[1]) == pytest.approx(5.0, abs=1e-6)
    assert float(jax.jit(jax.grad(jax.grad(solve)))(1.5)) == pytest.approx(2.0, abs=1e-5)
    for close in (False, True):
        a = torch.tensor(1.5, requires_grad=True)
        objective, args = (lambda x, a=a: fun(x, a), ()) if close else (fun, (a,))
        aux = backends["torch"].newton.minimize(objective, torch.zeros(2), *args, has_aux=True).aux
        aux["sum"].backward()
        assert a.grad.item() == pytest.approx(5.0, abs=1e-6)
    with torch.no_grad():
        assert not backends["torch"].newton.minimize(fun, torch.zeros(2), a, has_aux=True).aux["sum"].requires_grad


def test_under_jit_and_vmap_and_in_many(backends):
    newton, rates = backends["jax"].newton, jnp.array([0.5, 1.0, 2.0])
    alone = [newton.minimize(fun, jnp.zeros(2), a, has_aux=True).aux["sum"] for a in rates]
    run = lambda a: newton.minimize(fun, jnp.zeros(2), a, has_aux=True).aux  # noqa: E731
    assert np.allclose(jax.vmap(run)(rates)["sum"], alone, rtol=1e-6)
    assert np.allclose(jax.jit(run)(2.0)["sum"], alone[2], rtol=1e-12)
    at_once = newton.many(fun, (None, 0), has_aux=True)(jnp.zeros(2), rates)
    assert np.allclose(at_once.aux["sum"], alone, rtol=1e-6)
    assert at_once.aux["parts"]["near"].shape == (3,)


def test_a_fresh_function_compiles_nothing_anew(backends):
    """A loop inside would: JAX knows the body of a `scan` by its object."""

    def run(shift):
        def total(x):
            last, path = jax.lax.scan(lambda c, y: (c + y**2, c), 0.0, x - shift)
            return last, {"path": path}

        return backends["jax"].newton.minimize(total, jnp.ones(3), has_aux=True)

    run(jnp.array(1.0))
    before = backends["jax"].runtime.compilations()
    assert run(jnp.array(2.0)).aux["path"].shape == (3,)
    assert backends["jax"].runtime.compilations() == before


class Unhashable(SimpleNamespace):
    __hash__ = None

    def __call__(self, x):
        return (self.scale * x**2).sum(), x


def test_a_callable_that_cannot_be_hashed_is_taken(backends):
    result = backends["jax"].newton.minimize(Unhashable(scale=jnp.ones(2)), jnp.ones(2), has_aux=True)
    assert np.array_equal(result.aux, result.x)


WRONG = [
    (lambda x: (x**2).sum(), r"the objective must return \(value, aux\), this one returns shape \(\)"),
    (lambda x: ((x**2).sum(), x, x), r"the objective must return \(value, aux\), this one returns a tuple"),
    (lambda x: (x, (x**2).sum()), r"the objective must be one floating point number, this one returns shape \(2,\)"),
]


@pytest.mark.parametrize(("wrong", "words"), WRONG, ids=["number", "three", "turned"])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_pair_is_refused(name, wrong, words, backends):
    with pytest.raises(TypeError, match=words) as caught:
        backends[name].newton.minimize(wrong, as_array[name](np.ones(2)), has_aux=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_composite_has_none(name, backends):
    newton = backends[name].newton
    with pytest.raises(TypeError, match=r"has_aux=True is for a function .*, and not for a Composite"):
        newton.minimize(newton.Composite(lambda x: x, lambda z: (z**2).sum()), as_array[name](np.ones(2)), has_aux=True)

"""The minimizers do not depend on the units of the variables, and the trust region's subproblem is solved."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxopt_study import backends as packages
from tests.newton import both, minimize
from tests.test_newton_reasons import MISRA_X, MISRA_Y, misra


@pytest.mark.parametrize("method", ["exact", "trust_exact"])
@pytest.mark.parametrize("name", ["jax", "torch"])
def test_a_badly_scaled_fit_ends_at_nists_values(name, method, backends):
    """The Hessian's diagonal spans 13 orders of magnitude."""
    result = minimize(backends, name, misra, (500.0, 0.0001), MISRA_X, MISRA_Y, method=method)
    assert float(result.value) == pytest.approx(0.075464681533, rel=1e-9)
    assert np.allclose(np.asarray(result.x), [337.99746163, 3.9039091287e-4], rtol=1e-4)
    assert int(result.iterations) < 60  # 25 and 24 were measured; over 1,000 with the largest entry for a unit


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_a_small_region_does_not_hide_the_rounding_level(name, backends):
    """The region is small when rounding fails each step; the whole Newton step, outside of it, promises no more."""
    for start in ((500.0, 0.0001), (250.0, 0.0005)):
        result = minimize(backends, name, misra, start, MISRA_X, MISRA_Y, method="trust_exact", tolerance=1e-12)
        assert "rounding level" in result.reason
        assert float(result.value) == pytest.approx(0.075464681533, rel=1e-10)


def stretched(x, units):
    y = x * units
    return (100 * (y[1] - y[0] ** 2) ** 2 + (1 - y[0]) ** 2).sum()


@pytest.mark.parametrize("method", ["exact", "trust_exact"])
@pytest.mark.parametrize("name", ["jax", "torch"])
def test_other_units_give_the_same_path(name, method, backends):
    paths = []
    for units in (np.array([1.0, 1.0]), np.array([2.0**20, 2.0**-15])):
        start = np.array([-1.2, 1.0]) / units
        result = minimize(backends, name, stretched, start, units, method=method, tolerance=1e-5, max_iterations=60)
        paths.append(np.asarray(result.path) * units)
    common = min(map(len, paths))
    assert common > 15
    assert np.abs(paths[0][:common] - paths[1][:common]).max() < 1e-9


def jennrich_sampson(exp, arange):
    def inner(x):
        i = arange(1.0, 11.0)
        return 2 + 2 * i - (exp(i * x[0]) + exp(i * x[1]))

    return inner, lambda r: (r**2).sum()


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_gauss_newton_is_damped_where_it_overshoots(name, backends):
    """Undamped, its steps grow without bound here; the least value is 124.36218 (More, Garbow and Hillstrom, 1981)."""
    exp, arange = both(name, (jnp.exp, jnp.arange), (torch.exp, lambda a, b: torch.arange(a, b, dtype=torch.float64)))
    fun = backends[name].newton.Composite(*jennrich_sampson(exp, arange))
    result = minimize(backends, name, fun, [0.3, 0.4], method="gauss_newton")
    assert float(result.value) == pytest.approx(124.362182356, rel=1e-9), result.reason


def problems():
    """Random matrices, definite and not, and the hard case: no gradient along the least eigenvector."""
    generator = np.random.default_rng(0)
    basis, _ = np.linalg.qr(generator.standard_normal((6, 6)))
    for values in ([1, 2, 3, 4, 5, 6], [-1, 0.5, 1, 2, 3, 4], [-3, -2, -1, 1, 2, 3], [0, 0, 1, 1, 2, 2]):
        matrix = basis * np.array(values, float) @ basis.T
        for hard in (False, True):
            gradient = generator.standard_normal(6)
            gradient -= hard * basis[:, 0] * (basis[:, 0] @ gradient)
            yield from ((matrix, gradient, radius, hard) for radius in (0.1, 1.0, 30.0))


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_the_subproblem_is_solved_nearly(name, backends):
    """Against the eigenvectors, from which the least value of the model in the ball is known."""
    find = importlib.import_module(f"{packages.BACKENDS[name]}.newton.subproblem").least_in_ball
    find, array = both(name, jax.jit(find), find), backends[name].runtime.from_numpy
    for matrix, gradient, radius, _ in problems():
        values = np.linalg.eigvalsh(matrix)
        convex = bool(values[0] > 1e-9)
        newton = -np.linalg.solve(matrix, gradient) if convex else np.zeros(6)
        given = (radius, array(newton), convex)
        size = both(name, (jnp.asarray(radius), given[1], jnp.asarray(convex)), given)
        step = np.asarray(find(array(matrix), array(gradient), *size).vector)
        assert np.linalg.norm(step) <= 1.1 * radius * (1 + 1e-9)
        promised = -(gradient @ step + step @ matrix @ step / 2)
        assert promised >= 0.8 * least(matrix, gradient, radius)


def least(matrix, gradient, radius):
    """Return the decrease of the model at its least value in the ball, by bisection on the shift."""
    values, vectors = np.linalg.eigh(matrix)
    slopes = vectors.T @ gradient
    low, high = max(0.0, -values[0]) + 1e-13, 1e6
    for _ in range(200):
        shift = (low + high) / 2
        low, high = (shift, high) if np.linalg.norm(slopes / (values + shift)) > radius else (low, shift)
    step = -slopes / (values + high)
    room = max(radius**2 - step @ step, 0)
    step[0] += np.sqrt(room) * (-1 if slopes[0] > 0 else 1) * (values[0] < -1e-9)
    return -(slopes @ step + values @ step**2 / 2)

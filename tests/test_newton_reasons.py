"""What a run of the minimizers says is true: scales, failed searches, derivatives that are not there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests.functions import rosenbrock
from tests.newton import METHODS, SECOND_ORDER, both, minimize

MISRA_X = np.array([77.6, 114.9, 141.1, 190.8, 239.9, 289.0, 332.8, 378.4, 434.8, 477.3, 536.8, 593.1, 689.1, 760.0])
MISRA_Y = np.array([10.07, 14.73, 17.94, 23.93, 29.61, 35.18, 40.02, 44.82, 50.76, 55.05, 61.01, 66.40, 75.47, 81.78])


def scaled(x, scale):
    return scale * rosenbrock(x)


def misra(x, rows, targets):
    """NIST's Misra1b, whose Hessian's entries differ by ten orders of magnitude."""
    return ((x[0] * (1 - (1 + x[1] * rows / 2) ** -2) - targets) ** 2).sum()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["jax", "torch"])
def test_a_small_scale_is_not_taken_for_a_small_gradient(name, method, backends):
    for scale in (1e-10, 1e10):
        result = minimize(backends, name, scaled, (-1.2, 1.0), scale, method=method)
        assert result.converged, result.reason
        assert np.abs(np.asarray(result.x) - 1).max() < 1e-5, (scale, result.x)  # 1.7e-6 was the worst measured


@pytest.mark.parametrize("method", ["exact", "lbfgs"])  # the driver of all looks further
@pytest.mark.parametrize("name", ["jax", "torch"])
def test_a_local_minimum_with_lower_values_far_away_is_a_minimum(name, method, backends):
    exp = both(name, jnp.exp, torch.exp)

    def value(x):
        """A well at 2 in a slope that goes on falling."""
        return (3 * exp(-(x**2) / 1e4) - exp(-((x - 2) ** 2))).sum()

    result = minimize(backends, name, value, [1.5], method=method)
    assert result.converged, result.reason
    assert float(result.x[0]) == pytest.approx(2, abs=1e-2)


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_lbfgs_starts_anew_where_its_memory_fails(name, backends):
    """NIST's certified sum of squares is 0.075464681533."""
    result = minimize(backends, name, misra, (500.0, 0.0001), MISRA_X, MISRA_Y, method="lbfgs")
    assert float(result.value) == pytest.approx(0.075464681533, rel=1e-6), result.reason


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_lbfgs_forgets_the_scale_of_a_steep_region(name, backends):
    """Its first step ends where a slope of 1e12 does; beyond, steps of that scale are too short to see."""
    where, size = both(name, (jnp.where, jnp.abs), (torch.where, torch.abs))

    def value(x):
        far = size(x - 50)
        slope = where(far > 1, far - 0.5, far**2 / 2)
        return (where(x < 1, 5e11 * (1 - x) ** 2, 0 * x) + 0.01 * slope + 1000).sum()

    result = minimize(backends, name, value, [0.0], method="lbfgs", tolerance=1e-8)
    assert result.converged, result.reason
    assert float(result.x[0]) == pytest.approx(50, abs=1e-3)


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_lbfgs_does_not_leap_out_of_the_valley(name, backends):
    """A first step as long as the point would end where the objective is 0, lower than here, and flat."""
    exp = both(name, jnp.exp, torch.exp)

    def value(x):
        return (exp(-((x - 100) ** 2)) - 2 * exp(-((x - 103) ** 2))).sum()

    result = minimize(backends, name, value, [100.5], method="lbfgs")
    assert float(result.value) == pytest.approx(-2, abs=1e-3), result.reason


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_a_failed_search_is_not_taken_for_the_rounding_level(name, backends):
    """The objective has a step down at the start: each trial is higher, whatever the slope promises."""
    where = both(name, jnp.where, torch.where)

    def value(x):
        return (where(x > 0, x + 1, -x)).sum() + 0 * (x**2).sum()

    result = minimize(backends, name, lambda x: value(x - 1), [1.0], method="lbfgs")
    assert "rounding level" not in result.reason


@pytest.mark.parametrize("method", SECOND_ORDER)
@pytest.mark.parametrize("name", ["jax", "torch"])
def test_a_hessian_that_is_not_finite_is_named_and_the_run_goes_on(name, method, backends):
    """At 0 the gradient of |x|^1.5 is 0, and its second derivative infinite."""
    size = both(name, jnp.abs, torch.abs)

    def value(x):
        return (size(x) ** 1.5).sum() + (x[0] + x[1] - 3) ** 2 + (x[1] - x[2]) ** 2 / 2

    result = minimize(backends, name, value, [0.0, 2.0, 0.5], method=method)
    assert np.asarray(result.not_finite).tolist() == [[0, 0], [1, 0], [2, 0]]  # 0 times infinity is not finite either
    assert (
        "no finite entry (x[0], x[0]) and 2 more entries where the gradient is finite: there L-BFGS went on"
        in result.reason
    )
    assert result.converged, result.reason
    assert len(result.path) == len(result.path_counts) == int(result.iterations) + 1
    ends = minimize(backends, name, value, [1.0, 2.0, 0.5], method="lbfgs")
    assert np.allclose(np.asarray(result.x), np.asarray(ends.x), atol=1e-6)


@jax.custom_vjp
def once(x):
    """Return the sum of x^4 / 4 + (x - 1)^2, with a first derivative alone."""
    return (x**4 / 4 + (x - 1) ** 2).sum()


def _pulled(x, tangent):
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return (tangent * jax.pure_callback(lambda x: np.asarray(x) ** 3 + 2 * (np.asarray(x) - 1), shape, x),)


once.defvjp(lambda x: (once(x), x), _pulled)


class Once(torch.autograd.Function):
    """The same in PyTorch."""

    @staticmethod
    def forward(context, x):
        context.save_for_backward(x)
        return (x**4 / 4 + (x - 1) ** 2).sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context, tangent):
        (x,) = context.saved_tensors
        return tangent * (x**3 + 2 * (x - 1))


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_a_first_derivative_is_enough_for_lbfgs(name, backends):
    fun = both(name, once, Once.apply)
    result = minimize(backends, name, fun, [3.0, -1.0], method="lbfgs")
    assert result.converged, result.reason
    assert np.allclose(np.asarray(result.x) ** 3 + 2 * (np.asarray(result.x) - 1), 0, atol=1e-7)


@pytest.mark.parametrize("method", SECOND_ORDER)
@pytest.mark.parametrize("name", ["jax", "torch"])
def test_without_a_second_derivative_the_others_name_lbfgs(name, method, backends):
    with pytest.raises(TypeError, match="the objective has no second derivative: choose method='lbfgs'"):
        minimize(backends, name, both(name, once, Once.apply), [3.0, -1.0], method=method)

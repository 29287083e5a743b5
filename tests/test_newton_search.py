"""The search along a direction, what L-BFGS remembers, and what a run is spared at its end."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_study.backends.jax.newton import line_search as jax_search
from tests.functions import rosenbrock
from tests.newton import both, minimize
from torch_reference.newton import line_search as torch_search

NAMES = ["jax", "torch"]
numbers = st.integers(-(10**6), 10**6).map(lambda n: n / 1000)
near = st.integers(-(10**4), 10**4).map(lambda n: n / 1000)
positive = st.integers(1, 10**4).map(lambda n: n / 1000)
any_number = numbers | st.sampled_from([1e-200, 1e200, -1e200, 1.7e308, math.inf, -math.inf, math.nan])


def knots(name, *rows):
    module = both(name, jax_search, torch_search)
    return [module.Knot(*both(name, map(jnp.float64, row), map(float, row))) for row in rows]


@settings(max_examples=50)
@given(root=near, width=st.integers(1, 10), scale=positive, part=st.integers(1, 9), beyond=st.integers(1, 100))
@pytest.mark.parametrize("name", NAMES)
def test_the_cubic_through_two_points_of_a_cubic_has_its_minimum(name, root, width, scale, part, beyond, backends):
    """Its slope is scale (x - root) (x - root + width): it falls before the larger root, and rises beyond."""
    a, b = root - part / 10 * width, root + beyond / 10

    def slope(x):
        return scale * (x - root) * (x - root + width)

    def value(x):
        return scale * ((x - root) ** 3 / 3 + width * (x - root) ** 2 / 2)

    module = both(name, jax_search, torch_search)
    least = float(module._least(*knots(name, (a, value(a), slope(a)), (b, value(b), slope(b)))))
    assert least == pytest.approx(root, abs=1e-13)  # 7.5e-15 was the worst measured


@settings(max_examples=100)
@given(short=positive, width=positive, values=st.tuples(any_number, any_number, any_number))
@pytest.mark.parametrize("name", NAMES)
def test_the_next_length_is_between_the_ends_whatever_the_objective_is_there(name, short, width, values, backends):
    module = both(name, jax_search, torch_search)
    ends = knots(name, (short, 1.0, -1.0), (short + width, *values[:2]))
    part = (float(module._between(*ends)) - short) / width
    assert 0.1 - 1e-5 <= part <= 0.9 + 1e-5
    longer = float(module._longer(*knots(name, (short, 1.0, -1.0), (short + width, values[2], -0.5))))
    assert 1.1 * (1 - 1e-9) <= longer / (short + width) <= 4 * (1 + 1e-9)


@settings(max_examples=100)
@given(first=st.tuples(numbers, numbers), second=st.tuples(numbers, numbers), width=positive)
def test_both_backends_choose_the_same_length(first, second, width, backends):
    lengths = []
    for name, module in (("jax", jax_search), ("torch", torch_search)):
        ends = knots(name, (1.0, *first), (1 + width, *second))
        lengths.append([float(module._between(*ends)), float(module._longer(*ends))])
    assert lengths[0] == pytest.approx(lengths[1], rel=1e-9)


def quadratic(size, condition, seed):
    """Return a positive definite matrix, and a start."""
    generator = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(generator.standard_normal((size, size)))
    return basis * np.geomspace(1, condition, size) @ basis.T, generator.standard_normal(size)


@pytest.mark.parametrize("size", [2, 5, 12])
@pytest.mark.parametrize("name", NAMES)
def test_lbfgs_forgets_no_pair_of_a_small_problem(name, size, backends):
    """With all pairs, it ends a badly scaled quadratic in a few steps for each variable."""
    for seed in range(3):
        matrix, start = quadratic(size, 1e4, seed)
        result = minimize(backends, name, lambda x, a: x @ (a @ x) / 2, start, matrix, method="lbfgs")
        assert result.converged, result.reason
        # 17, 34 and 63 were the most measured; with ten pairs it was up to 239 for 12 variables.
        assert int(result.counts.gradient) <= {2: 20, 5: 45, 12: 80}[size]


@pytest.mark.parametrize("name", NAMES)
def test_lbfgs_takes_the_same_way_in_both_backends(name, backends):
    result = minimize(backends, name, rosenbrock, (-1.2, 1.0), method="lbfgs")
    other = minimize(backends, "jax", rosenbrock, (-1.2, 1.0), method="lbfgs")
    assert [int(c) for c in result.counts] == [int(c) for c in other.counts]
    assert np.allclose(np.asarray(result.path), np.asarray(other.path), atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_search_for_a_saddle_is_spared_where_the_steps_span_the_space(name, backends):
    """Along the axis they do not, and the search finds the way down."""
    fun = lambda x: x[0] ** 2 - x[1] ** 2 + x[1] ** 4 / 2 + x[0] ** 4  # noqa: E731
    spanned, axis = (minimize(backends, name, fun, start, method="lbfgs") for start in ((1.0, 0.3), (1.0, 0.0)))
    assert int(spanned.counts.hvp) == 0
    assert int(axis.counts.hvp) > 0
    for result in (spanned, axis):
        assert float(result.value) == pytest.approx(-0.5, abs=1e-10)


@pytest.mark.parametrize("method", ["exact", "lbfgs", "trust_krylov"])
@pytest.mark.parametrize("name", NAMES)
def test_a_look_towards_infinity_is_spared_where_the_last_step_is_short(name, method, backends):
    """The count of gradients is that of the path's last point; a fall towards infinity is still seen."""
    result = minimize(backends, name, rosenbrock, (-1.2, 1.0), method=method)
    assert int(result.counts.gradient) == int(np.asarray(result.path_counts)[int(result.iterations)][1])
    exp = both(name, jnp.exp, torch.exp)
    result = minimize(backends, name, lambda x: exp(-x).sum(), (0.0, 1.0), method=method)
    assert "No minimum" in result.reason


@pytest.mark.parametrize("name", NAMES)
def test_the_search_for_a_saddle_is_a_small_part_of_a_long_run(name, backends):
    """A chain of 60 variables whose steps do not span the space: at most 2 products, or one for 32 gradients."""
    fun = lambda x: (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()  # noqa: E731
    result = minimize(backends, name, fun, np.full(200, 0.5), method="lbfgs")
    assert result.converged, result.reason
    assert int(result.counts.hvp) <= max(2, int(result.counts.gradient) // 32)
    start = np.zeros(200)
    saddle = minimize(backends, name, lambda x: (x[1:] ** 2).sum() - x[0] ** 2 + x[0] ** 4 / 2, start, method="lbfgs")
    assert float(saddle.value) == pytest.approx(-0.5, abs=1e-10)  # nothing was spent yet: the search is a long one


def test_jax_compiles_the_search_for_numbers_that_are_not_finite(backends):
    ends = [jax_search.Knot(jnp.float64(0), jnp.float64(1), jnp.float64(-1)), *knots("jax", (1.0, math.inf, math.nan))]
    assert float(jax.jit(jax_search._between)(*ends)) == 0.5

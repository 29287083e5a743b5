"""Minimizing within bounds, in both backends, against SciPy and against the conditions of a minimum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from tests.newton import compilations

NAMES = ["jax", "torch"]
as_array = {"jax": jnp.asarray, "torch": torch.as_tensor}
PROJECTED = "Converged: the largest entry of the projected gradient is within the tolerance."


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def test_the_twins_take_the_same_steps(backends):
    """Largest difference of a coordinate 4e-14 on 12 variables, where 14 steps are made."""
    start, upper = np.full(12, -1.2), np.linspace(0.3, 2, 12)
    ours, theirs = (
        backends[name].newton.minimize(rosenbrock, as_array[name](start), bounds=(-1.5, upper), keep_path=True)
        for name in NAMES
    )
    assert ours.reason == theirs.reason == PROJECTED
    assert tuple(map(int, ours.counts)) == tuple(map(int, theirs.counts))
    assert np.abs(np.asarray(ours.path) - np.asarray(theirs.path)).max() < 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_the_end_is_scipys_and_active_variables_equal_their_bounds(name, backends):
    bounds = np.array([-0.5, -3, -1]), np.array([0.4, 5, np.inf])
    start = np.array([0.0, 3, 0])

    def fun(x):
        return (x[0] - 1) ** 4 + (x[1] - x[0]) ** 2 + (x[2] + 2) ** 2 + x[1] * x[2]

    result = backends[name].newton.minimize(fun, as_array[name](start), bounds=bounds)
    theirs = optimize.minimize(fun, start, bounds=optimize.Bounds(*bounds), method="L-BFGS-B", options={"ftol": 1e-15})
    assert result.reason == PROJECTED
    assert result.methods == ("trust_krylov",)
    assert (float(result.x[0]), float(result.x[2])) == (0.4, -1.0)
    assert np.abs(np.asarray(result.x) - theirs.x).max() < 1e-7  # 6e-9: L-BFGS-B's own distance from 0.9


@pytest.mark.parametrize("name", NAMES)
def test_the_objective_is_never_evaluated_outside(name, backends):
    """It has a logarithm and a root whose domains are the box; a start outside is moved into it."""
    seen = []

    def fun(x):
        if name == "torch":
            seen.append(x.detach().numpy().copy())
        else:
            jax.debug.callback(lambda x: seen.append(np.asarray(x)), x)
        return -(x**0.5).sum() + (x * (x + 1e-9) ** 0.5).sum() - (2.5 - x[0]) ** 0.5 + ((x - 1) ** 4).sum()

    lower, upper = np.array([0.1, 1e-3]), np.array([2.4, 0.3])
    result = backends[name].newton.minimize(fun, as_array[name](np.array([-4.0, 9.0])), bounds=(lower, upper))
    assert result.reason == PROJECTED
    assert len(seen) > 5
    points = np.array([x for x in seen if x.shape == (2,)])
    assert (points >= lower).all()
    assert (points <= upper).all()


@st.composite
def boxed_quadratics(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = 6  # one size, so that JAX compiles once
    spread = 10.0 ** draw(st.integers(0, 3))
    basis = np.linalg.qr(rng.standard_normal((size, size)))[0]
    signs = np.where(rng.random(size) < draw(st.sampled_from([0.0, 0.3])), -1, 1)
    matrix = (basis * (signs * np.geomspace(1, spread, size))) @ basis.T
    middle, width = 3 * rng.standard_normal(size), rng.choice([0, 0.1, 1, 10], size)
    return (matrix + matrix.T) / 2, 10 * rng.standard_normal(size), middle - width, middle + width


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None)
@given(problem=boxed_quadratics())
def test_the_conditions_of_a_minimum_hold(name, dtype, backends, problem):
    """Convex or not: g is 0 between bounds, at least 0 at a lower one, at most 0 at an upper one."""
    matrix, shift, lower, upper = (as_array[name](part.astype(dtype)) for part in problem)
    tolerance = {"float64": 1e-6, "float32": 3e-2}[dtype]  # in float32 rounding hides what a smaller slope gains
    result = backends[name].newton.minimize(
        lambda x, m, s: x @ (m @ x) / 2 + s @ x, 0 * shift, matrix, shift, bounds=(lower, upper), tolerance=tolerance
    )
    assert result.converged, result.reason
    m, s, low, high, x = (np.asarray(part, float) for part in (matrix, shift, lower, upper, result.x))
    g = m @ x + s
    assert ((low <= x) & (x <= high)).all()
    # The gradient is computed again in float64: rounding may add this much to the tolerance.
    allowed = tolerance + 4 * np.finfo(dtype).eps * np.abs(m).sum(axis=1).max() * (1 + np.abs(x).max())
    free = (low < x) & (x < high)
    assert np.abs(g[free]).max(initial=0) < allowed
    assert g[(x == low) & (x < high)].min(initial=0) > -allowed
    assert g[(x == high) & (x > low)].max(initial=0) < allowed


@pytest.mark.parametrize("name", NAMES)
def test_a_saddle_is_left_along_a_face(name, backends):
    """At the start the curvature is negative along both; x[0] is held, and its curvature must not hide the other's."""

    def fun(x):
        return x[0] - 1e6 * x[0] ** 2 + (x[1] ** 2 - 1) ** 2

    result = backends[name].newton.minimize(
        fun, as_array[name](np.zeros(2)), bounds=(np.array([0, -5]), np.array([1e-7, 5]))
    )
    assert result.reason == PROJECTED
    assert np.abs(np.asarray(result.x)).tolist() == pytest.approx([0, 1], abs=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_a_box_has_no_optimum_at_infinity_and_a_half_line_may_have_one(name, backends):
    def fun(x):
        return (2.718281828 ** (-x)).sum()

    minimize, start = backends[name].newton.minimize, as_array[name](np.zeros(2))
    closed = minimize(fun, start, bounds=(0, 1e6))
    assert closed.reason == PROJECTED
    assert minimize(fun, start, bounds=(0, None)).reason.startswith("No minimum: 10,000 times as far")


@pytest.mark.parametrize("name", NAMES)
def test_trees_and_broadcast_bounds(name, backends):
    def fun(tree):
        return ((tree["a"] - 1) ** 2).sum() + ((tree["b"] + 3) ** 2).sum()

    start = {"a": as_array[name](np.zeros((2, 3))), "b": as_array[name](np.zeros(2))}
    lower, upper = {"a": None, "b": -1}, {"a": as_array[name](np.array([0.5, 2, 1])), "b": np.inf}
    result = backends[name].newton.minimize(fun, start, bounds=(lower, upper))
    assert np.allclose(np.asarray(result.x["a"]), [[0.5, 1, 1]] * 2, atol=1e-8)
    assert np.asarray(result.x["b"]).tolist() == [-1, -1]


@pytest.mark.parametrize("name", NAMES)
def test_variables_with_equal_bounds_do_not_move(name, backends):
    result = backends[name].newton.minimize(
        rosenbrock, as_array[name](np.zeros(3)), bounds=([np.array([0.5, -9, -9]), np.array([0.5, 9, 9])])
    )
    assert float(result.x[0]) == 0.5
    alone = optimize.minimize(lambda y: optimize.rosen([0.5, *y]), [0, 0], method="BFGS", options={"gtol": 1e-9})
    assert np.abs(np.asarray(result.x)[1:] - alone.x).max() < 1e-6  # 2e-9


def moved(x, a):
    return ((x - a) ** 2).sum() + (x[0] * (x[1] + x[2]) * a[2]) + (x**4).sum() / 4


POINTS = np.array([1.5, -0.7, 0.9]), np.array([-1.0, -0.2, -5]), np.array([0.6, 4, 5])
"""Of the parameters a, and of both bounds: one variable is at its upper bound, one at its lower, one at none."""


def differences(minimize, place, pick, step=1e-5):
    """Return central differences of a number of the result, with respect to one of the three arrays."""
    rows = []
    for unit in np.eye(3):
        ends = []
        for sign in (1, -1):
            arrays = list(POINTS)
            arrays[place] = arrays[place] + sign * step * unit
            ends.append(float(pick(minimize(*arrays))))
        rows.append((ends[0] - ends[1]) / (2 * step))
    return np.array(rows)


@pytest.mark.parametrize("place", range(3))
def test_jax_differentiates_the_solution_and_its_value(place, backends):
    def run(a, lower, upper):
        return backends["jax"].newton.minimize(moved, jnp.zeros(3), a, bounds=(lower, upper), tolerance=1e-12)

    for pick in (lambda r: jnp.sin(r.x) @ jnp.array([1.0, 2, 3]), lambda r: r.value):
        numeric = differences(run, place, pick)
        arrays = tuple(map(jnp.asarray, POINTS))
        back = jax.grad(lambda *arrays, pick=pick: pick(run(*arrays)), argnums=place)(*arrays)
        ahead = jax.jacfwd(lambda *arrays, pick=pick: pick(run(*arrays)), argnums=place)(*arrays)
        assert np.abs(numeric).max() > 0.01
        assert np.abs(np.asarray(back) - numeric).max() < 1e-9  # 3e-11
        assert np.abs(np.asarray(ahead) - numeric).max() < 1e-9


@pytest.mark.parametrize("place", range(3))
def test_torch_differentiates_the_solution(place, backends):
    def run(a, lower, upper):
        a, lower, upper = map(torch.as_tensor, (a, lower, upper))
        return backends["torch"].newton.minimize(
            moved, torch.zeros(3).double(), a, bounds=(lower, upper), tolerance=1e-12
        )

    def pick(result):
        return torch.sin(result.x) @ torch.tensor([1.0, 2, 3]).double()

    arrays = [torch.tensor(array, requires_grad=i == place) for i, array in enumerate(POINTS)]
    (back,) = torch.autograd.grad(pick(run(*arrays)), arrays[place])
    assert np.abs(back.numpy() - differences(run, place, pick)).max() < 1e-9  # 3e-11


def test_bounds_are_data_and_work_inside_jit_and_vmap(backends):
    minimize = backends["jax"].newton.minimize
    uppers = jnp.array([0.2, 0.5, 3.0])
    alone = jnp.stack([minimize(rosenbrock, jnp.zeros(2), bounds=(None, upper)).x for upper in uppers])
    together = jax.vmap(lambda upper: minimize(rosenbrock, jnp.zeros(2), bounds=(None, upper)))(uppers)
    assert np.abs(alone - together.x).max() < 1e-12
    assert together.reason == [PROJECTED] * 3
    inside = jax.jit(lambda upper: minimize(rosenbrock, jnp.zeros(2), bounds=(None, upper)).x)(0.5)
    assert np.abs(inside - alone[1]).max() < 1e-12
    assert compilations(backends, rosenbrock, jnp.zeros(2), bounds=(None, 0.7)) == 0


BAD = [
    ((0,), TypeError, "bounds .* are no pair: give \\(lower, upper\\)"),
    (5, TypeError, "bounds 5 are no pair"),
    ([(0, 1), (0, 1)], TypeError, "the lower bound \\(0, 1\\) is no tree like x0|has a tuple where x0 has an array"),
    (("a", 1), TypeError, "the lower bound has a str where x0 has an array"),
    ((0, np.zeros(3)), TypeError, "the upper bound has shape \\(3,\\) where x0 has \\(2,\\)"),
    ((np.array([0, np.nan]), 1), ValueError, "the lower bound of variable 1 is NaN"),
    ((2, np.array([3, 1])), ValueError, "the lower bound 2 of variable 1 is above the upper one, 1"),
]


@pytest.mark.parametrize(("bounds", "error", "words"), BAD)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_bound_is_refused(name, bounds, error, words, backends):
    with pytest.raises(error, match=words) as caught:
        backends[name].newton.minimize(rosenbrock, as_array[name](np.zeros(2)), bounds=bounds)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_other_methods_refuse_bounds(name, backends):
    with pytest.raises(ValueError, match="method 'lbfgs' takes no bounds: leave it out, or choose trust_krylov"):
        backends[name].newton.minimize(rosenbrock, as_array[name](np.zeros(2)), method="lbfgs", bounds=(0, 1))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bounds", [[(None, 0.5), (0, None)], optimize.Bounds([-np.inf, 0], [0.5, np.inf])])
def test_scipys_bounds(name, bounds, backends):
    found = optimize.minimize(rosenbrock, [-1.2, 1.0], bounds=bounds, method=backends[name].newton.scipy_method())
    assert found.message == PROJECTED
    assert found.x.tolist() == pytest.approx([0.5, 0.25])


@pytest.mark.parametrize(("scale", "least", "start"), [(1e-8, 5e6, 1e6), (1e-12, 2.0, 0.3), (1e-18, 2.0, 0.3)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_below_the_last_place_of_x_counts(name, dtype, scale, least, start, backends):
    """The difference x - P(x - gradient) is 0 there, far from the minimum."""
    x0 = as_array[name](np.array([start, 1.5 * start], dtype))
    bounds = (0.0, None) if least > 3 else (-0.5, 1.5)
    result = backends[name].newton.minimize(lambda x: scale * ((x - least) ** 2).sum(), x0, bounds=bounds)
    assert result.converged
    assert np.allclose(np.asarray(result.x), min(least, bounds[1] or np.inf), rtol=1e-5)

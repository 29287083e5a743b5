"""`minimize` without a method: what it chooses, how it goes on where that stalls, and how a run is compiled."""

import math
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jaxopt_study.backends.jax.compiling import operations
from jaxopt_study.backends.jax.newton import choice as jax_choice
from jaxopt_study.backends.jax.newton import compiled as parts
from tests.functions import rosenbrock
from tests.newton import both, minimize
from tests.test_newton_reasons import Once, once
from torch_reference.newton import choice as torch_choice


def bowl(x):
    return ((x - 1) ** 2).sum()


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_the_method_is_chosen_by_size_and_structure(name, backends):
    newton = backends[name].newton
    identity = both(name, lambda x: 2 * jnp.eye(len(x)), lambda x: 2 * torch.eye(len(x), dtype=x.dtype))
    composite = newton.Composite(lambda x: x - 1, lambda r: (r**2).sum())
    second = {"decrement_tolerance": 1e-12}
    cases = [
        (bowl, 2, {}, "lbfgs"), (bowl, 30, {}, "lbfgs"), (bowl, 30, {"hessian": identity}, "exact"),
        (bowl, 2, second, "exact"), (bowl, 30, second, "trust_krylov"),
        (composite, 2, {}, "gauss_newton"), (both(name, once, Once.apply), 2, {}, "lbfgs"),
    ]  # fmt: skip
    for fun, size, options, expected in cases:
        result = minimize(backends, name, fun, np.zeros(size), **options)
        assert result.converged, result.reason
        assert (result.method, result.methods) == (expected, (expected,))
        assert "went on" not in result.reason


def stalling(name, newton, method, distance):
    """Return an algorithm whose steps fail within this distance of 1, by the first variable."""
    made_by, given = newton.METHODS[method], newton.Status.STALLED

    def weak(problem, options):
        method = made_by(problem, options)

        def step(point, memory):
            made, near = method.step(point, memory), abs(point.x[0] - 1) < distance
            status = both(name, lambda: jnp.where(near, given, made.status), lambda: given if near else made.status)
            return made._replace(status=status())

        return method._replace(step=step)

    return weak


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_other_methods_go_on_where_those_before_stall(name, backends, monkeypatch):
    """The first two fail on the way, whatever their steps are; the third comes to the minimum."""
    newton = backends[name].newton
    for method, distance in (("lbfgs", 1.9), ("exact", 1.8)):
        monkeypatch.setitem(newton.METHODS, method, stalling(name, newton, method, distance))
    start, options = (-1.2, 1.0), {"max_iterations": 60}
    alone = minimize(backends, name, lambda x: 1 * rosenbrock(x), start, method="lbfgs", **options)
    assert alone.status == newton.Status.STALLED
    result = minimize(backends, name, lambda x: 1 * rosenbrock(x), start, **options)
    assert result.converged, result.reason
    assert result.methods == ("lbfgs", "exact", "trust_exact")
    assert result.method == "trust_exact"
    for one, other in pairwise(result.methods):
        assert f" {one} stalled or had used its share of the iterations, and {other} went on." in result.reason
    assert int(result.iterations) > int(alone.iterations)
    assert 0 < int(result.counts.hessian) < int(result.iterations)
    assert len(result.path) == len(result.path_counts) == int(result.iterations) + 1
    assert np.all(np.diff(np.asarray(result.path_counts), axis=0) >= 0)
    assert float(result.tolerance) == pytest.approx(float(alone.tolerance))
    limited = minimize(backends, name, lambda x: 1 * rosenbrock(x), start, max_iterations=int(alone.iterations))
    assert "iteration limit" in limited.reason or limited.status == newton.Status.STALLED
    assert int(limited.iterations) <= int(alone.iterations)


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_another_method_goes_on_where_the_first_has_used_its_share(name, backends):
    """L-BFGS needs 34 iterations here, and has half of 40."""
    result = minimize(backends, name, rosenbrock, (-1.2, 1.0), max_iterations=40)
    assert result.converged, result.reason
    assert result.methods == ("lbfgs", "exact")
    assert "lbfgs stalled or had used its share of the iterations, and exact went on." in result.reason


@given(left=st.integers(1, 10_000), size=st.integers(1, 5000), further=st.booleans())
def test_a_share_leaves_iterations_for_those_that_go_on(left, size, further):
    for choice in (jax_choice, torch_choice):
        for first in (None, size):
            part = choice.share(left, further, first)
            assert 1 <= part <= left
            assert part <= max(1, left // 2) if further else part == left
    assert jax_choice.share(left, further, size) == torch_choice.share(left, further, size)


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_without_a_second_derivative_lbfgs_has_the_rest_of_the_iterations(name, backends):
    result = minimize(backends, name, both(name, once, Once.apply), [3.0, -1.0], max_iterations=6)
    assert result.methods == ("lbfgs", "lbfgs")
    assert 3 < int(result.iterations) <= 6


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_an_edge_ends_every_method_with_a_reason(name, backends):
    """At an edge no model holds: the trust region's radius shrinks until no step is found at all."""
    size = both(name, jnp.abs, torch.abs)
    result = minimize(
        backends, name, lambda x: size(x[0]) ** 1.5 + 3 * size(x[1] - 0.3) + size(x[1] - x[0]), [0.0, 3.0]
    )
    assert result.methods == ("lbfgs", "exact", "trust_exact")
    assert not result.converged
    assert result.reason.startswith("Stopped: none of the steps that were tried lowers the objective")


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_a_run_that_goes_on_keeps_to_the_limit(name, backends):
    size = both(name, jnp.abs, torch.abs)
    fun = lambda x: (size(x) ** 1.5).sum() + (x[1] - 1) ** 2  # noqa: E731
    result = minimize(backends, name, fun, [0.0, 3.0], max_iterations=1)
    assert int(result.iterations) == 1
    assert "iteration limit" in result.reason
    assert not result.converged


def test_inside_a_compiled_function_the_choice_is_by_size_alone(backends):
    result = jax.jit(jax.vmap(lambda x: backends["jax"].newton.minimize(rosenbrock, x)))(jnp.zeros((2, 2)))
    assert result.method == "exact"
    assert result.converged.all()


def test_operations_are_counted_from_shapes():
    count = lambda f, *shapes: operations(jax.make_jaxpr(f)(*map(jnp.zeros, shapes)).jaxpr)  # noqa: E731
    assert count(lambda a, b: a @ b, (3, 4), (4, 5)) == 60
    assert count(lambda x: jnp.exp(x) + 1, (7,)) == 14
    assert count(lambda x: jax.lax.scan(lambda c, _: (c * 2, None), x, length=6)[0], (7,)) == 42
    assert count(lambda x: jax.lax.cond(True, lambda x: jnp.exp(jnp.exp(x)), jnp.exp, x), (7,)) == 14
    assert math.isinf(count(lambda x: jax.lax.while_loop(lambda x: x.sum() < 1, jnp.exp, x), (7,)))


@pytest.mark.parametrize(("size", "quickly"), [(2, True), (2000, False)])
def test_small_runs_are_compiled_quickly_and_large_ones_for_speed(size, quickly, backends, monkeypatch):
    """XLA's settings are read from the options that `jax.jit` is given."""
    seen = []
    monkeypatch.setattr(parts, "quick_options", lambda: seen.append(1) or {})
    run = parts.compiled(lambda program, options, limits, x0: x0)
    program = backends["jax"].newton.program.traced(bowl, jnp.zeros(size))[0]
    options = backends["jax"].newton.options.Options("exact", None, 64, "backtracking", None)
    run(program, options, None, jnp.zeros(size))
    assert bool(seen) == quickly

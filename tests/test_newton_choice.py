"""`minimize` without a method: what it chooses, how it goes on where that stalls, and how a run is compiled."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxopt_study.backends.jax.compiling import operations
from jaxopt_study.backends.jax.newton import compiled as parts
from tests.functions import rosenbrock
from tests.newton import both, minimize
from tests.test_newton_reasons import Once, once


def bowl(x):
    return ((x - 1) ** 2).sum()


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_the_method_is_chosen_by_size_and_structure(name, backends):
    newton = backends[name].newton
    identity = both(name, lambda x: 2 * jnp.eye(len(x)), lambda x: 2 * torch.eye(len(x), dtype=x.dtype))
    composite = newton.Composite(lambda x: x - 1, lambda r: (r**2).sum())
    cases = [
        (bowl, 2, {}, "exact"), (bowl, 30, {}, "trust_krylov"), (bowl, 30, {"hessian": identity}, "exact"),
        (composite, 2, {}, "gauss_newton"), (both(name, once, Once.apply), 2, {}, "lbfgs"),
    ]  # fmt: skip
    for fun, size, options, expected in cases:
        result = minimize(backends, name, fun, np.zeros(size), **options)
        assert result.converged, result.reason
        assert (result.method, result.methods) == (expected, (expected,))
        assert "went on" not in result.reason


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_another_method_goes_on_where_the_first_stalls(name, backends, monkeypatch):
    """The first one's step fails from the third on, whatever it is; the second comes to the minimum."""
    newton = backends[name].newton
    table = newton.METHODS
    exact, given = table["exact"], backends[name].newton.Status.STALLED

    def weak(problem, options):
        method = exact(problem, options)

        def step(point, memory):
            made, far = method.step(point, memory), abs(point.x[0] - 1) < 1.8
            status = both(name, lambda: jnp.where(far, given, made.status), lambda: given if far else made.status)
            return made._replace(status=status())

        return method._replace(step=step)

    monkeypatch.setitem(table, "exact", weak)
    start, options = (-1.2, 1.0), {"max_iterations": 60}
    alone = minimize(backends, name, lambda x: 1 * rosenbrock(x), start, method="exact", **options)
    assert alone.status == given
    result = minimize(backends, name, lambda x: 1 * rosenbrock(x), start, **options)
    assert result.converged, result.reason
    assert result.methods == ("exact", "trust_exact")
    assert result.method == "trust_exact"
    assert result.reason.endswith("exact stalled on the way, and trust_exact went on.")
    assert int(result.iterations) > int(alone.iterations)
    assert int(result.counts.hessian) == int(result.iterations)
    assert len(result.path) == len(result.path_counts) == int(result.iterations) + 1
    assert float(result.tolerance) == pytest.approx(float(alone.tolerance))
    limited = minimize(backends, name, lambda x: 1 * rosenbrock(x), start, max_iterations=int(alone.iterations))
    assert limited.methods == ("exact",)


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_a_stall_after_a_hessian_that_is_not_finite_is_lbfgs_and_the_entry_stays_named(name, backends):
    size = both(name, jnp.abs, torch.abs)
    result = minimize(
        backends, name, lambda x: size(x[0]) ** 1.5 + 3 * size(x[1] - 0.3) + size(x[1] - x[0]), [0.0, 3.0]
    )
    assert result.methods == ("exact", "lbfgs", "trust_exact")
    assert (
        "lbfgs stalled on the way, and trust_exact went on. The Hessian has no finite entry (x[0], x[0])"
        in result.reason
    )
    assert "exact stalled" not in result.reason.replace("trust_exact", "")


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_a_run_that_goes_on_keeps_to_the_limit(name, backends):
    size = both(name, jnp.abs, torch.abs)
    given = lambda x: (size(x) ** 1.5).sum() + (x[1] - 1) ** 2  # noqa: E731
    result = minimize(backends, name, given, [0.0, 3.0], max_iterations=1)
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

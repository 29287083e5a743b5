"""A callback and a time limit end a run between two steps, in both backends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests.functions import rosenbrock

START = np.array([-1.2, 1.0])
NAMES = ["jax", "torch"]


def run(backends, name, **options):
    return backends[name].newton.minimize(rosenbrock, backends[name].runtime.from_numpy(START), **options)


@pytest.mark.parametrize("name", NAMES)
def test_a_callback_sees_each_step_and_changes_nothing(name, backends):
    seen = []
    alone, watched = run(backends, name, keep_path=True), run(backends, name, keep_path=True, callback=seen.append)
    assert [p.iteration for p in seen] == list(range(1, int(alone.iterations) + 1))
    assert np.array_equal([np.asarray(p.x) for p in seen], np.asarray(alone.path)[1:])
    assert np.array_equal(np.asarray(watched.path), np.asarray(alone.path))
    assert [int(n) for n in watched.counts] == [int(n) for n in alone.counts]
    assert watched.reason == alone.reason
    assert seen[-1].value == float(alone.value)
    assert seen[-1].gradient_norm == float(alone.gradient_norm)


def raising(progress):
    if progress.iteration == 4:
        raise StopIteration


STOPS = {
    "true": lambda p: p.iteration == 4,
    "numpy": lambda p: np.bool_(p.iteration == 4),
    "array": lambda p: p.iteration * (abs(p.x[0]) + 1) >= 4 * (abs(p.x[0]) + 1),
    "raises": raising,
}


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("name", NAMES)
def test_a_callback_stops_a_run(name, stop, backends):
    result = run(backends, name, callback=STOPS[stop], keep_path=True)
    assert int(result.iterations) == 4
    assert [int(n) for n in result.counts] == np.asarray(result.path_counts)[-1].tolist()  # no more
    assert result.reason == "Stopped: the callback asked for it."
    assert not result.converged


@pytest.mark.parametrize("answer", [None, 1, [True], "yes", np.array([True]), False])
@pytest.mark.parametrize("name", NAMES)
def test_another_answer_stops_nothing(name, answer, backends):
    assert run(backends, name, callback=lambda _: answer).converged


@pytest.mark.parametrize("name", NAMES)
def test_an_error_of_the_callback_is_the_users(name, backends):
    with pytest.raises(ZeroDivisionError):
        run(backends, name, callback=lambda p: 1 / 0)


@pytest.mark.parametrize("name", NAMES)
def test_time_that_is_up_stops_a_run(name, backends):
    result = run(backends, name, max_seconds=1e-9)
    assert int(result.iterations) == 1
    assert result.reason.startswith("Stopped: max_seconds have passed")
    assert not result.converged
    assert run(backends, name, max_seconds=1000).reason == run(backends, name).reason


@pytest.mark.parametrize("name", NAMES)
def test_the_last_step_counts_more_than_the_clock(name, backends):
    """A run that converges in its first step has converged, however late, and whatever the callback wants."""
    fun, x0 = lambda x: (x**2).sum(), backends[name].runtime.from_numpy(np.ones(2))
    result = backends[name].newton.minimize(fun, x0, method="exact", max_seconds=1e-9, callback=lambda p: True)
    assert result.converged


@pytest.mark.parametrize("name", NAMES)
def test_a_saddle_is_left_under_a_callback_too(name, backends):
    fun, seen = lambda x: x[0] ** 2 - x[1] ** 2 + x[1] ** 4 / 2, []
    x0 = backends[name].runtime.from_numpy(np.array([1.0, 0.0]))
    alone = backends[name].newton.minimize(fun, x0)
    result = backends[name].newton.minimize(fun, x0, callback=seen.append)
    assert np.array_equal(np.asarray(result.x), np.asarray(alone.x))
    assert [p.iteration for p in seen] == list(range(1, int(alone.iterations) + 1))


@pytest.mark.parametrize("name", NAMES)
def test_a_run_that_goes_on_by_lbfgs_counts_on(name, backends):
    """At 0 the gradient of |x|^1.5 is 0, and its second derivative infinite."""
    size = {"jax": jnp.abs, "torch": torch.abs}[name]

    def fun(x):
        return (size(x) ** 1.5).sum() + (x[0] + x[1] - 3) ** 2

    seen = []
    x0 = backends[name].runtime.from_numpy(np.array([0.0, 2.0]))
    alone = backends[name].newton.minimize(fun, x0, method="exact")
    result = backends[name].newton.minimize(fun, x0, method="exact", callback=seen.append)
    assert "there L-BFGS went on" in result.reason
    assert result.reason == alone.reason
    assert int(result.iterations) == int(alone.iterations)
    assert [p.iteration for p in seen] == list(range(1, int(alone.iterations) + 1))


@pytest.mark.parametrize("option", [{"callback": print}, {"max_seconds": 1.0}])
@pytest.mark.parametrize("around", [jax.jit, jax.vmap])
def test_inside_jit_and_vmap_they_are_refused(around, option, backends):
    start = jnp.asarray(START) if around is jax.jit else jnp.asarray(START)[None]
    with pytest.raises(TypeError, match=f"{next(iter(option))} needs values, which jax.jit and jax.vmap do not have"):
        around(lambda x: backends["jax"].newton.minimize(rosenbrock, x, **option).x)(start)


def test_a_long_run_is_cut_into_few_pieces(backends, monkeypatch):
    """Without a callback, a piece has more steps the more time is left."""
    newton, calls = backends["jax"].newton, []
    module = __import__("sys").modules[newton.minimize.__module__]
    take = module._take
    monkeypatch.setattr(module, "_take", lambda *given: calls.append(1) or take(*given))
    result = newton.minimize(rosenbrock, jnp.asarray(START), method="newton_cg", max_seconds=1e4)
    assert int(result.iterations) > 40
    assert len(calls) < 10

"""`minimize` as a method of `scipy.optimize.minimize`, in both backends, beside SciPy's own methods."""

import numpy as np
import pytest
from scipy import optimize

from tests.functions import TEST_FUNCTIONS, rosenbrock

NAMES = ["jax", "torch"]
STARTS = {
    "rosenbrock-12": -0.5 * np.ones(12),
    "beale": np.array([1.0, 0.2]),
    "powell": np.tile([3.0, -1.0, 0.0, 1.0], 3),
}


@pytest.mark.parametrize("function", STARTS)
@pytest.mark.parametrize("name", NAMES)
def test_it_ends_where_scipy_does(name, function, backends):
    fun, x0 = TEST_FUNCTIONS[function].value, STARTS[function]
    method = backends[name].newton.scipy_method("exact")
    ours = optimize.minimize(fun, x0, method=method, tol=1e-10, options={"maxiter": 500})
    theirs = optimize.minimize(fun, x0, method="BFGS", tol=1e-10)
    assert ours.success, ours.message
    assert isinstance(ours.x, np.ndarray)
    assert abs(ours.fun - theirs.fun) < 1e-8  # Powell's is flat: 2e-10 was measured
    assert np.abs(ours.jac).max() < 1e-10
    assert fun(ours.x) == pytest.approx(ours.fun, abs=1e-12)
    assert ours.nit <= ours.nfev


@pytest.mark.parametrize("name", NAMES)
def test_arguments_callbacks_and_limits_are_passed_on(name, backends):
    method, x0, seen = backends[name].newton.scipy_method("trust_krylov"), [-1, 1], []
    fun = lambda x, a: (100 * (x[1:] - x[:-1] ** 2) ** 2 + (a - x[:-1]) ** 2).sum()  # noqa: E731
    found = optimize.minimize(fun, x0, args=(2.0,), method=method, callback=seen.append)
    assert np.allclose(found.x, [2, 4])
    assert len(seen) == found.nit
    assert np.array_equal(seen[-1], found.x)

    def stop(intermediate_result):
        if intermediate_result.fun < 1:
            raise StopIteration

    assert optimize.minimize(fun, x0, args=(2.0,), method=method, callback=stop).message.startswith("Stopped: the call")
    assert optimize.minimize(fun, x0, args=(2.0,), method=method, options={"maxiter": 2}).nit == 2


WRONG = [
    ({"bounds": [(0, 1)] * 2}, "bounds cannot be used: .* neither bounds nor constraints"),
    ({"bounds": optimize.Bounds([0, 0], [1, 1])}, "bounds cannot be used"),
    ({"constraints": {"type": "eq", "fun": rosenbrock}}, "constraints cannot be used"),
    ({"jac": optimize.rosen_der}, "jac cannot be used: .* differentiates the objective"),
    ({"options": {"xtol": 1}}, "no option 'xtol'"),
]


@pytest.mark.parametrize(("given", "words"), WRONG, ids=[words for _, words in WRONG])
@pytest.mark.parametrize("name", NAMES)
def test_what_it_cannot_do_is_refused(name, given, words, backends):
    with pytest.raises(TypeError, match=words):
        optimize.minimize(rosenbrock, [0.0, 0.0], method=backends[name].newton.scipy_method(), **given)

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
    ({"constraints": {"type": "eq", "fun": rosenbrock}}, "constraints cannot be used: .* has no constraints"),
    ({"jac": optimize.rosen_der}, "jac cannot be used: .* differentiates the objective"),
    (
        {"options": {"xtol": 1}},
        "a method of jaxopt_study has no option 'xtol': choose from tol, gtol, maxiter, .*seconds$",
    ),
    ({"options": {"method": "lbfgs"}}, "no option 'method'"),
    ({"options": {"has_aux": True}}, "no option 'has_aux'"),
    ({"options": {"maxiter": 0}}, "maxiter 0 is not a positive whole number"),
    ({"options": {"maxiter": 2.5}}, "maxiter 2.5 is not a positive whole number"),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_method_that_is_not_known_is_refused_at_once(name, backends):
    with pytest.raises(ValueError, match=r"method 'bfgs' is not known: choose from exact, .*; 'lbfgs' is meant"):
        backends[name].newton.scipy_method("bfgs")


@pytest.mark.parametrize(("given", "words"), WRONG, ids=[words for _, words in WRONG])
@pytest.mark.parametrize("name", NAMES)
def test_what_it_cannot_do_is_refused(name, given, words, backends):
    with pytest.raises((TypeError, ValueError), match=words) as caught:
        optimize.minimize(rosenbrock, [0.0, 0.0], method=backends[name].newton.scipy_method(), **given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_gtol_counts_more_than_tol_as_in_scipys_own(name, backends):
    for method in ("BFGS", backends[name].newton.scipy_method("exact")):
        for given, steps in (({"tol": 1e-9, "options": {"gtol": 1e3}}, 0), ({"tol": 1e3}, 0), ({"tol": 1e-9}, 1)):
            assert min(optimize.minimize(rosenbrock, [-1.2, 1.0], method=method, **given).nit, 1) == steps


@pytest.mark.parametrize("name", NAMES)
def test_disp_says_the_end_and_return_all_gives_the_points(name, backends, capsys):
    method, options = backends[name].newton.scipy_method("exact"), {"return_all": True, "disp": True, "maxiter": 3}
    found = optimize.minimize(rosenbrock, [-1.2, 1.0], method=method, options=options)
    assert capsys.readouterr().out == f"{found.message} 3 iterations, value {found.fun:.6g}.\n"
    theirs = optimize.minimize(rosenbrock, [-1.2, 1.0], method="BFGS", options=options | {"disp": False})
    assert len(found.allvecs) == len(theirs.allvecs) == 4
    assert np.array_equal(found.allvecs[0], [-1.2, 1.0])
    assert np.array_equal(found.allvecs[-1], found.x)


@pytest.mark.parametrize("name", NAMES)
def test_numpys_arrays_are_arguments(name, backends):
    method = backends[name].newton.scipy_method("lbfgs")
    found = optimize.minimize(lambda x, a: ((x - a) ** 2).sum(), [0, 0], args=(np.ones(2),), method=method)
    assert np.allclose(found.x, 1)

"""The diagnostics' surfaces: known minima, and descents that are those of a formula and harm no other."""

import numpy as np
import pytest

from jaxopt_study.bench.results import Results
from jaxopt_study.studies.ranking.diagnostics import Surfaces
from tests.cases import a_record
from tests.conftest import load_backend, make_plan

MINIMA = {
    "quadratic": (0, 0, 0.0),
    "rosenbrock": (1, 1, 0.0),
    "beale": (3, 0.5, 0.0),
    "saddle": (0, 2**0.5, -1.0),
    "rastrigin": (0, 0, 0.0),
    "plateau": (0, 0, 0.0),
}


@pytest.fixture(scope="module")
def backend():
    return load_backend("jax")


@pytest.fixture(scope="module")
def descents(backend):
    """SGD's last values from these starts, at rates of which the last diverges on steep surfaces."""
    starts = {name: np.array([[0.5, 0.25], [-1.0, 0.1]]) for name in MINIMA}
    rates = np.array([1e-3, 1.5e-3, 1.0])
    module = backend.surfaces
    run = module.descend(module.SURFACES, backend.optimizers.OPTIMIZERS["sgd"], steps=50)
    return starts, rates, run(starts, module.keys(0, 2), rates)


@pytest.mark.parametrize("name", MINIMA)
def test_a_surface_has_its_minimum_where_it_is_said(name, backend):
    import jax

    x, y, least = MINIMA[name]
    surface, point = backend.surfaces.SURFACES[name], np.array([x, y], float)
    assert float(surface.value(point)) == pytest.approx(least, abs=1e-12)
    assert np.abs(jax.grad(surface.value)(point)).max() < 1e-12
    assert np.linalg.eigvalsh(jax.hessian(surface.value)(point)).min() > 0
    assert surface.passed > least


def test_a_descent_is_that_of_the_formula(descents):
    starts, rates, found = descents
    for place, rate in enumerate(rates[:2]):
        factors = (1 - rate * np.array([1.0, 1000.0])) ** 50
        last = starts["quadratic"] * factors
        np.testing.assert_allclose(found["quadratic"][place], last**2 @ [0.5, 500.0], rtol=1e-12)


def test_what_diverges_on_one_surface_leaves_the_others_alone(descents):
    starts, _, found = descents
    assert not np.isfinite(found["rosenbrock"][2]).any()
    point = starts["plateau"].copy()
    for _ in range(50):
        point = point - point * np.exp(-np.sum(point**2, axis=1, keepdims=True) / 2)
    np.testing.assert_allclose(found["plateau"][2], 1 - np.exp(-np.sum(point**2, axis=1) / 2), atol=1e-15)


def test_the_rows_give_rates_with_their_intervals():
    value = {"rates": [1e-4, 1e-3, 1e-2], "limits": [-0.99], "saddle": [0, 50, 100]}
    record = a_record(study="ranking", experiment="surfaces", subject="adam", method="vmapped", value=value)
    (row,) = Surfaces().rows(Results((record,), ()), make_plan(profile="smoke"))
    assert row["default"] == pytest.approx((0.5, 0.404, 0.596), abs=1e-3)  # Wilson (1927)
    assert row["best"][0] == 1.0
    assert row["best_rate"] == 1e-2
    (table,) = Surfaces().tables([row], make_plan(profile="smoke"))
    assert table.rows == [("adam", "50 / 100")]

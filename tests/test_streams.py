"""The diagnostics' streams of random rows: their mean, their noise, and the bound that sets the criterion."""

import numpy as np
import pytest
from scipy.stats import norm

from jaxopt_study.backends.numpy import surfaces as formulas
from jaxopt_study.bench.results import Results
from jaxopt_study.studies.ranking import paths
from jaxopt_study.studies.ranking.diagnostics import Streams, Surfaces
from tests.cases import a_record
from tests.conftest import load_backend, make_plan

STEPS = 1000
NAMES = ("noisy", "sparse", "rescaled")


@pytest.fixture(scope="module")
def backend():
    return load_backend("jax")


@pytest.fixture(scope="module")
def streams(backend):
    return backend.streams.streams(STEPS)


@pytest.mark.parametrize("name", NAMES)
def test_the_mean_of_what_is_seen_is_the_value_and_only_one_stream_changes_its_scale(name, backend, streams):
    import jax

    stream, generator = streams[name], np.random.default_rng(0)
    point, drawn = generator.uniform(-1, 1, stream.numbers), generator.standard_normal((100_000, 3))
    excess = float(stream.value(point))
    for made, factor in ((0.49, 1.0), (0.51, 100.0 if name == "rescaled" else 1.0)):
        seen = np.asarray(jax.vmap(stream.seen, (None, 0, None))(point, drawn, made)) - factor * 0.1**2 / 2
        error = seen.std() / len(seen) ** 0.5
        assert abs(seen.mean() - factor * excess) < 4 * error
        assert error < 0.02 * factor * excess


@pytest.mark.parametrize("name", NAMES)
def test_least_squares_on_all_rows_comes_near_the_bound_of_which_a_pass_is_ten_times(name, streams):
    import jax
    import jax.numpy as jnp

    stream = streams[name]
    origin, made = jnp.zeros(stream.numbers), jnp.arange(STEPS) / STEPS

    @jax.jit
    def fitted(drawn):
        matrix = jax.vmap(jax.hessian(stream.seen), (None, 0, 0))(origin, drawn, made).sum(axis=0)
        slope = jax.vmap(jax.grad(stream.seen), (None, 0, 0))(origin, drawn, made).sum(axis=0)
        return stream.value(-jnp.linalg.solve(matrix, slope))

    excesses = [float(fitted(drawn)) for drawn in np.random.default_rng(1).standard_normal((300, STEPS, 3))]
    # A row tells as much before the rescaled stream's change as after it. The sum of the losses weighs the first half
    # by 1/100, so that this fit uses half of the rows.
    near = 2.0 if name == "rescaled" else 1.0
    assert np.mean(excesses) == pytest.approx(near * stream.passed / 10, rel=0.15)


def test_noise_is_that_of_the_start_for_every_rate_and_a_path_ends_where_a_descent_does(backend, streams):
    import jax

    sgd, steps, rates = backend.optimizers.OPTIMIZERS["sgd"], 20, np.array([1e-2, 5e-2])
    starts = {name: np.linspace(-1, 1, 2 * s.numbers).reshape(2, -1) for name, s in streams.items()}
    keys = backend.surfaces.keys(7, 2)
    last = backend.surfaces.descend(streams, sgd, steps)(starts, keys, rates)
    walked = backend.surfaces.paths(streams, sgd, steps)({n: s[1] for n, s in starts.items()}, keys[1], rates)
    drawn = np.asarray(jax.random.normal(jax.random.fold_in(jax.random.key(7), 1), (steps, 3)))
    for name, stream in streams.items():
        slope, point = jax.jit(jax.grad(stream.seen)), starts[name][1]
        for number in range(steps):
            point = point - rates[1] * np.asarray(slope(point, drawn[number], number / steps))
        np.testing.assert_allclose(walked[name][1, -1], point, rtol=1e-12)
        np.testing.assert_allclose(last[name][1, 1], stream.value(point), rtol=1e-12)
        assert walked[name].shape == (2, steps + 1, stream.numbers)
        np.testing.assert_array_equal(walked[name][:, 0], starts[name][[1, 1]])


def test_as_many_runs_as_the_study_has_are_those_of_the_formula(backend):
    import jax

    steps, starts, rates = 5, np.random.default_rng(0).uniform(-2, 2, (1000, 10)), np.logspace(-3, 0, 13)
    with jax.enable_x64(False):  # the run's own type: it is there that XLA was wrong
        sparse, keys = backend.streams.streams(steps)["sparse"], backend.surfaces.keys(0, 1000)
        run = backend.surfaces.descend({"sparse": sparse}, backend.optimizers.OPTIMIZERS["sgd"], steps)
        drawn = np.asarray(jax.vmap(lambda key: jax.random.normal(key, (steps, 3)))(keys))
        found = run({"sparse": starts.astype(np.float32)}, keys, rates.astype(np.float32))["sparse"]
    frequencies = 1 / np.arange(1, 11) / (1 / np.arange(1, 11)).sum()
    points, every = np.stack([starts] * 13), np.arange(1000)
    for noise, chooses, _ in drawn.transpose(1, 2, 0):
        place = (chooses[:, None] > norm.ppf(np.cumsum(frequencies)[:-1])).sum(axis=1)
        points[:, every, place] -= rates[:, None] * (points[:, every, place] - 0.1 * noise)
    expected = (frequencies * points**2).sum(axis=-1) / 2
    np.testing.assert_allclose(found, expected, atol=2.5e-6)  # 2.5e-7 measured


@pytest.mark.parametrize("name", formulas.SURFACES)
def test_a_drawn_surface_is_the_one_that_is_minimized(name, backend):
    x, y = np.random.default_rng(0).uniform(-2, 2, (2, 50))
    value = backend.surfaces.SURFACES[name].value
    np.testing.assert_allclose(formulas.SURFACES[name](x, y), value(np.array([x, y])), rtol=1e-13)
    assert formulas.SURFACES[name](*paths.MINIMA[name]) == 0
    levels = formulas.LEVEL_SETS[name](7.0, np.linspace(0, 6, 9))
    np.testing.assert_allclose(formulas.SURFACES[name](*levels), 7, rtol=1e-9)


def test_the_ways_are_kept_and_drawn_of_the_best_rate(backend, monkeypatch):
    monkeypatch.setattr("jaxopt_study.studies.ranking.diagnostics.STEPS", 30)
    plan, mine = make_plan(profile="smoke", studies=("ranking",), optimizers=("sgd", "adamw")), Surfaces()
    records = []
    for group in mine.groups(plan):
        (case,) = group.cases
        task = mine.task(backend, case, None, plan)
        *_, output = task.run(None)
        value = mine.summarize(case, task.export(output), None, plan)
        records.append(a_record(study="ranking", experiment="surfaces", subject=case.subject, value=value))
    assert [any(name.startswith(paths.PREFIX) for name in r.value) for r in records] == [True, False]
    assert {row["surface"] for row in mine.rows(Results(tuple(records), ()), plan)} == set(backend.surfaces.SURFACES)
    drawn = mine.figures(Results(tuple(records), ()), plan)
    assert [figure.name for figure in drawn] == ["ranking_way_quadratic", "ranking_way_rosenbrock"]
    for figure in drawn:
        way = [row for rows in figure.spec["datasets"].values() for row in rows if row.get("panel") == "sgd"]
        assert (way[0]["step"], way[0]["end"], way[-1]["step"], way[-1]["end"]) == (0, "start", 30, "end")


def test_the_table_of_streams_says_what_a_pass_is():
    value = {"rates": [1e-4, 1e-3, 1e-2], "limits": [1e-4], "noisy": [0, 50, 100]}
    record = a_record(study="ranking", experiment="streams", subject="adam", method="vmapped", value=value)
    plan = make_plan(profile="smoke")
    (table,) = Streams().tables(Streams().rows(Results((record,), ()), plan), plan)
    assert table.rows == [("adam", "50 / 100")]
    assert table.notes[1].endswith("from 1,000 rows can reach (Cramér and Rao): noisy 0.0001.")

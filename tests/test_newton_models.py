"""The minimizers of both backends on linear models, and on a network: against scikit-learn, SciPy and each other."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxopt_study.backends import load
from jaxopt_study.backends.numpy import newton as baseline
from jaxopt_study.data.networks import Dense
from jaxopt_study.data.workload import draw_params, zero_params
from jaxopt_study.data.workloads import whole_breast_cancer
from jaxopt_study.studies.hessian.methods import places

PENALTY = 1e-3


@cache
def objective(name, kind, widths):
    """Return one function for all tests, since another would be compiled again."""
    models = load(name).models
    return models.penalized(models.batch_loss(models.network(widths), getattr(models, kind)))


@cache
def softmax_system(name, dtype=None):
    return load(name).newton.softmax_system(dtype)


def problem(name, workload):
    runtime = load(name).runtime
    batch = tuple(runtime.from_numpy(array) for array in workload.train)
    params = runtime.params_from_numpy(zero_params(workload.widths))
    return objective(name, workload.loss, workload.widths), params, batch


def fit(name, workload, penalty=PENALTY, **options):
    """Minimize the penalized loss, with one tolerance and the path, so that tests share what is compiled."""
    backend = load(name)
    options = {"method": "exact", "tolerance": 1e-10, "keep_path": True} | options
    return backend.newton.minimize(*problem(name, workload), number(backend, penalty), **options)


def number(backend, value):
    return backend.runtime.from_numpy(np.array(value))


def rows(name, workload, vectors):
    """Return parameters in the project's order."""
    backend = load(name)
    return backend.runtime.to_numpy(vectors)[..., places(backend, workload.params)]


def vector(name, workload, params):
    return rows(name, workload, load(name).runtime.ravel(params))


def test_exact_newton_on_digits_goes_to_the_known_optimum_along_one_path(backends, digits):
    """The optimum is scikit-learn's by newton-cholesky, which would take nine seconds here."""
    paths = []
    for name in backends:
        result = fit(name, digits, hessian=softmax_system(name))
        assert result.converged, result.reason
        paths.append(rows(name, digits, result.path))
        assert abs(baseline.softmax_objective(paths[-1][-1], digits.train, PENALTY) - 0.0072447014915925) < 1e-10
    assert paths[0].shape == paths[1].shape
    assert np.abs(paths[0] - paths[1]).max() < 1e-9


@pytest.fixture(scope="module")
def four(digits):
    """The digits 0 to 3 and every third pixel: 92 parameters, which are not one whole block of 64 products."""

    def part(inputs, targets):
        return inputs[targets < 4][:, ::3], targets[targets < 4]

    widths = (22, 4)
    return replace(
        digits, name="four", network=Dense(widths), train=part(*digits.train), test=part(*digits.test),
        params=draw_params(widths, 0),
    )  # fmt: skip


@pytest.fixture(scope="module")
def optimum(four):
    answer = baseline.scikit_learn(four.train, PENALTY, "newton-cholesky", 1e-10, 100)
    return baseline.softmax_objective(answer.x, four.train, PENALTY)


MINIMIZERS = [
    ("jax", {"hessian": "softmax_system"}),
    ("jax", {"hessian": "softmax_system", "dtype": "float32"}),
    ("jax", {}),
    ("jax", {"method": "newton_cg"}),
    ("jax", {"method": "trust_exact"}),
    ("jax", {"method": "trust_krylov"}),
    ("torch", {"hessian": "softmax_system"}),
    ("torch", {"method": "newton_cg"}),
    ("torch", {"method": "trust_krylov"}),
]


@pytest.mark.parametrize(("name", "options"), MINIMIZERS, ids=str)
def test_every_minimizer_ends_at_scikit_learns_optimum(name, options, backends, four, optimum):
    options, dtype = dict(options), options.get("dtype")
    options.pop("dtype", None)
    if "hessian" in options:
        options["hessian"] = softmax_system(name, dtype)
    result = fit(name, four, **options)
    assert result.converged, result.reason
    value = baseline.softmax_objective(vector(name, four, result.x), four.train, PENALTY)
    assert abs(value - optimum) < 1e-14  # 1.4e-17 was the worst measured


@pytest.mark.parametrize(
    "workload",
    [whole_breast_cancer("breast-cancer-raw"), whole_breast_cancer("breast-cancer-standardized")],
    ids=lambda w: w.name,
)
def test_breast_cancer_ends_at_scikit_learns_optimum_along_one_path(workload, backends):
    answer = baseline.scikit_learn(workload.train, PENALTY, "newton-cholesky", 1e-10, 100)
    expected = baseline.logistic_objective(answer.x, workload.train, PENALTY)
    paths = []
    for name, backend in backends.items():
        for hessian in (None, backend.newton.logistic_hessian):
            result = fit(name, workload, hessian=hessian, tolerance=1e-9)
            assert result.converged, result.reason
            path = rows(name, workload, result.path)
            assert abs(baseline.logistic_objective(path[-1], workload.train, PENALTY) - expected) < 1e-10
            paths.append(path)
    for path in paths[1:]:
        assert np.abs(path - paths[0]).max() < 1e-9


def test_scipys_trust_exact_ends_there_too(backends):
    workload = whole_breast_cancer("breast-cancer-standardized")
    result = fit("jax", workload, method="trust_exact", tolerance=1e-9)
    answer = baseline.trust_exact(workload.train, PENALTY, 1e-9, 100)
    assert abs(float(result.value) - baseline.logistic_objective(answer.x, workload.train, PENALTY)) < 1e-10


def test_logistic_derivatives_by_formula_are_those_by_differentiation(backends):
    fun, penalty = objective("jax", "binary_cross_entropy", (3, 1)), 0.3
    tree = backends["jax"].runtime.params_from_numpy(zero_params((3, 1)))
    unravel = jax.flatten_util.ravel_pytree(tree)[1]

    def value(x, *batch):
        return fun(unravel(x), batch, penalty)

    derivatives = jax.jit(lambda *at: (jax.grad(value)(*at), jax.hessian(value)(*at)))
    for seed in range(10):
        generator = np.random.default_rng(seed)
        batch = (generator.standard_normal((6, 3)), generator.integers(0, 2, 6))
        x = generator.standard_normal(4)
        gradient, hessian = derivatives(x, *batch)
        assert np.abs(gradient - baseline.logistic_gradient(x, batch, penalty)).max() < 1e-14
        assert np.abs(hessian - baseline.logistic_hessian(x, batch, penalty)).max() < 1e-14


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_without_a_penalty_the_optimum_is_said_to_be_at_infinity(name, backends, digits):
    result = fit(name, digits, penalty=0.0, hessian=softmax_system(name))
    assert not result.converged
    assert "infinity" in result.reason
    assert 0 <= float(result.value) < 1e-8
    norms = np.linalg.norm(rows(name, digits, result.path), axis=1)
    assert norms[-1] > 1.5 * norms[len(norms) // 2]


def test_with_a_penalty_no_optimum_is_said_to_be_at_infinity(backends, digits):
    for tolerance in (1e-1, 1e-3, 1e-6):
        result = fit("torch", digits, hessian=softmax_system("torch"), tolerance=tolerance)
        assert result.converged, (tolerance, result.reason)


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_the_reduced_system_solves_the_whole_one(name, backends):
    """Against the dense Hessian by differentiation twice, with a damping that makes it definite."""
    backend, shape = backends[name], (5, 4)
    generator = np.random.default_rng(0)
    inputs, targets = generator.standard_normal((30, 5)), generator.integers(0, 4, 30)
    batch = (backend.runtime.from_numpy(inputs), backend.runtime.from_numpy(targets))
    fun = backend.models.penalized(backend.models.loss(backend.models.network(shape)))
    params, penalty = backend.runtime.params_from_numpy(draw_params(shape, 1)), number(backend, 0.1)
    system = backend.newton.softmax_system()
    built = system.build(system.prepare(batch, penalty), params, batch, penalty)
    damping = 0.3
    gradient = backend.derivatives.gradient(lambda p, b: fun(p, b, penalty))(params, batch)
    matrix = backend.derivatives.hessian_forward_over_reverse(lambda p, b: fun(p, b, penalty))(params, batch)
    matrix = backend.runtime.to_numpy(matrix)
    damp = jnp.asarray(damping) if name == "jax" else damping
    direction, ok = system.solve(built, gradient, damp)
    scale = float(np.abs(np.diagonal(backend.runtime.to_numpy(built.matrix))).max())
    slope, step = (backend.runtime.to_numpy(backend.runtime.ravel(tree)) for tree in (gradient, direction))
    assert bool(ok)
    assert np.abs(matrix @ step + damping * scale * step + slope).max() < 1e-13  # 3e-16 was measured


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_gauss_newton_fits_a_network_and_is_newton_for_a_linear_model(name, backends):
    backend = backends[name]
    generator = np.random.default_rng(1)
    inputs, targets = generator.standard_normal((40, 3)), generator.integers(0, 3, 40)
    batch = tuple(backend.runtime.from_numpy(a) for a in (inputs, targets))

    def outer(outputs, batch):
        return backend.models.cross_entropy(outputs[:40], batch[1]) + 0.05 * (outputs[40:] ** 2).sum()

    def inner(params, batch):
        """The logits, and every parameter as an output too, so that the loss can hold the penalty."""
        logits = backend.models.predict(model)(params, batch[0])
        flat = backend.runtime.ravel(params)
        pad = (-len(flat)) % 3
        tail = flat if not pad else (jnp if name == "jax" else torch).concatenate([flat, 0 * flat[:pad]])
        return (jnp if name == "jax" else torch).concatenate([logits, tail.reshape(-1, 3)])

    for widths, linear in (((3, 3), True), ((3, 4, 3), False)):
        model = backend.models.network(widths)
        fun = backend.newton.Composite(inner, outer)
        start = backend.runtime.params_from_numpy(draw_params(widths, 2))
        options = {"tolerance": 1e-6, "max_iterations": 500, "keep_path": True}
        found = backend.newton.minimize(fun, start, batch, method="gauss_newton", **options)
        assert found.converged, found.reason
        if linear:
            exact = backend.newton.minimize(fun, start, batch, method="exact", **options)
            assert np.abs(np.asarray(found.path) - np.asarray(exact.path)).max() < 1e-10


def test_a_hundred_regressions_at_once_are_those_alone(backends):
    workload, backend = whole_breast_cancer("breast-cancer-standardized"), backends["jax"]
    fun, params, batch = problem("jax", workload)
    penalties = np.geomspace(1e-4, 1, 100)
    many = jax.jit(
        jax.vmap(lambda p: backend.newton.minimize(
            fun, params, batch, p, hessian=backend.newton.logistic_hessian, tolerance=1e-9
        ))
    )(jnp.asarray(penalties))  # fmt: skip
    assert many.converged.all()
    assert len(many.reason) == 100
    for i in range(0, 100, 9):
        answer = baseline.scikit_learn(workload.train, penalties[i], "newton-cholesky", 1e-10, 100)
        expected = baseline.logistic_objective(answer.x, workload.train, penalties[i])
        assert abs(float(many.value[i]) - expected) < 1e-10


def test_the_peers_end_at_the_same_optimum(backends):
    backend, workload = backends["torch"], whole_breast_cancer("breast-cancer-standardized")
    fun, params, batch = problem("torch", workload)
    expected = fit("torch", workload, 0.1, tolerance=1e-9).value
    answers = [backend.newton.peers.torch_lbfgs(
        fun, params, batch, number(backend, 0.1), tolerance=1e-9, max_iterations=500
    )]  # fmt: skip
    try:
        answers.append(backend.newton.peers.torchmin(
            fun, params, batch, number(backend, 0.1), method="newton-exact", tolerance=1e-10, max_iterations=100
        ))  # fmt: skip
    except ModuleNotFoundError:
        pytest.skip("pytorch-minimize is not installed")
    for answer in answers:
        x = vector("torch", workload, answer.x)
        assert abs(baseline.logistic_objective(x, workload.train, 0.1) - expected) < 1e-10

"""The methods for second derivatives: each against something that shares no code with it, and what they refuse."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxopt_study.backends.numpy import closed_form
from jaxopt_study.backends.numpy import derivatives as by_formula
from jaxopt_study.bench import stats
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.results import Results
from jaxopt_study.bench.task import Skipped, TooLarge
from jaxopt_study.data import problem as problems
from jaxopt_study.data.networks import Dense
from jaxopt_study.data.workload import draw_params, ravel
from jaxopt_study.data.workloads import WORKLOADS, digits_linear
from jaxopt_study.studies.hessian import curves, references
from jaxopt_study.studies.hessian.curves import Curves
from jaxopt_study.studies.hessian.methods import METHODS, OWN, places
from jaxopt_study.studies.hessian.on_workload import OnWorkload
from tests.cases import iris, shift
from tests.conftest import load_backend, make_plan

BACKENDS = ("jax", "torch")
WORKLOAD = digits_linear(seed=0, epochs=1)
# torch.compile takes 20 s; the test below runs it where the whole study does.
QUICK = [name for name in METHODS if name != "hessian_compiled"]


def run(framework, method, subject, dtype="float64", workload=WORKLOAD):
    """Return the record of a method on a network by name, or on the workload where that is the subject."""
    experiment = OnWorkload() if subject == workload.name else Curves()
    backend, plan = load_backend(framework, dtype), make_plan(dtype=dtype, workload=workload.name)
    case = experiment.case(subject, framework, method)
    task = experiment.task(backend, case, workload, plan)
    (output,) = task.run(task.start())
    value = experiment.summarize(case, task.export(output), workload, plan)
    return Record(**dataclasses.asdict(case), status="ok", group="", environment="", samples=(1.0, 1.0), value=value)


def evaluate(experiment, records, plan):
    """Return what the records come to."""
    return Results(tuple(records), tuple(experiment.findings(records, plan)))


# Four rows: forward over forward takes 422,500 columns of each, 31 s for 40 rows in torch.
@pytest.mark.parametrize("subject", ["64-10 x 4", "5-3 x 30", "64-4-10 x 4"])
@pytest.mark.parametrize("method", QUICK)
@pytest.mark.parametrize("framework", BACKENDS)
def test_every_method_agrees_with_its_references(framework, method, subject):
    linear, facts = subject.count("-") == 1, METHODS[method]
    if framework not in facts.frameworks or (
        not linear and (facts.of not in ("loss", "layers") or "diagonal" in facts.result)
    ):
        pytest.skip("not a method of this framework, or one with a reference for a linear network alone")
    if not linear and facts.result == "product":
        pytest.skip("the dense methods stand for it")
    record = run(framework, method, subject)
    findings = Curves().findings([record], make_plan(dtype="float64"))
    expected = 1 if facts.result != "matrix" else 3 if linear else 2
    assert [finding.cases for finding in findings] == [(record.case,)] * expected
    assert all(finding.agrees for finding in findings), findings


@pytest.mark.parametrize("framework", BACKENDS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_another_softmax_regression_is_differentiated_as_well(framework, dtype):
    """Iris in the place of digits: 4 inputs, 3 classes, 150 rows. The tables name it."""
    workload, plan = iris(), make_plan(dtype=dtype, workload="iris", frameworks=(framework,))
    methods = [
        case.method for group in OnWorkload().groups(plan) for case in group.cases if case.framework == framework
    ]
    records = [run(framework, method, "iris", dtype, workload) for method in methods if method in QUICK]
    results = evaluate(OnWorkload(), records, plan)
    assert all(finding.agrees for finding in results.findings), results.findings
    table = OnWorkload().tables(OnWorkload().rows(results, plan), plan)[0]
    assert table.title.startswith("Second derivatives of the loss: iris, 150 rows, 15 parameters")
    assert "iris" in OnWorkload().verdict(OnWorkload().rows(results, plan), plan)


DEEP = dataclasses.replace(WORKLOAD, name="deep", network=Dense((64, 5, 10)), params=draw_params((64, 5, 10), 0))
BINARY = WORKLOADS["breast-cancer-raw"](0, 1)


@pytest.mark.parametrize(("workload", "words"), [(DEEP, "deep has another network"), (BINARY, "raw has a binary loss")])
def test_a_workload_without_a_closed_form_is_skipped_with_the_reason(workload, words):
    plan = make_plan(workload=workload.name)
    for case in (case for group in OnWorkload().groups(plan) for case in group.cases):
        with pytest.raises(Skipped, match=words):
            OnWorkload().task(load_backend(case.framework), case, workload, plan)


def test_networks_that_the_workload_does_not_fit_have_random_inputs_and_the_table_says_so():
    records = [run("jax", "gradient", subject) for subject in ("64-10 x 40", "5-3 x 30")]
    plan = make_plan()
    table = Curves().tables(Curves().rows(evaluate(Curves(), records, plan), plan), plan)[0]
    assert "Random inputs, since digits-linear does not fit the widths: 5-3 x 30." in table.notes


@pytest.mark.parametrize("name", ["residual", "products_residual", "asymmetry"])
def test_a_planted_error_disagrees_and_withholds_the_time(name):
    plan = make_plan(dtype="float64")
    good = run("jax", OWN, WORKLOAD.name)
    planted = dataclasses.replace(good, value=good.value | {name: 1e-6})
    results = evaluate(OnWorkload(), [planted], plan)
    assert [finding.agrees for finding in results.findings].count(False) == 1
    (row,) = OnWorkload().rows(results, plan)
    assert row["agrees"] is False
    assert row["seconds"] is None
    assert "withheld: values disagree" in OnWorkload().tables([row], plan)[0].rows[0]
    assert OnWorkload().rows(evaluate(OnWorkload(), [good], plan), plan)[0]["seconds"] == 1


def test_a_wrong_method_is_seen_through_its_products(monkeypatch):
    """Plant the error in the backend: the Hessian of a deep network times 1.0001."""
    backend = load_backend("jax")
    right = backend.derivatives.hessian_forward_over_reverse
    monkeypatch.setattr(
        backend.derivatives, "hessian_forward_over_reverse", lambda loss: lambda p, b: 1.0001 * right(loss)(p, b)
    )
    assert run("jax", OWN, "64-4-10 x 40").value["products_residual"] > 5e-5


def test_what_would_not_fit_is_refused_with_the_estimate():
    with pytest.raises(TooLarge, match=r"estimated .* GiB, the limit is"):
        run("torch", OWN, "64-2000-10 x 898")


def test_without_a_compiler_the_compiled_method_is_skipped(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Skipped, match=r"needs a C\+\+ compiler"):
        run("torch", "hessian_compiled", "5-3 x 30")


def test_the_compiler_is_asked_where_the_formula_says_no(optimized):
    """Forward over forward of a linear network: P x P columns by the formula, but XLA never makes them."""
    kept = run("jax", "hessian_forward_over_forward", "64-10 x 300").value
    assert kept["estimated_bytes"] > 2**35
    assert kept["residual"] < 1e-13


def test_the_closed_form_is_computed_once_for_the_same_arrays():
    same, other = problems.make("5-3 x 20", WORKLOAD, seed=1), problems.make("5-3 x 20", WORKLOAD, seed=2)
    first = references.hessian(same)
    assert references.hessian(problems.make("5-3 x 20", WORKLOAD, seed=1)) is first
    for changed in (dataclasses.replace(same, params=other.params), dataclasses.replace(same, batch=other.batch)):
        references.hessian(same)
        assert np.array_equal(
            references.hessian(changed), closed_form.hessian_closed_form(changed.params, changed.batch)
        )


def test_the_network_gradient_by_hand_is_a_gradient():
    """Against central differences of the loss, which need no derivative at all."""
    problem = problems.make("5-4-3 x 20", WORKLOAD, seed=1)
    inputs, targets = problem.batch

    def loss(params):
        z = np.tanh(inputs @ params["layer1"]["kernel"] + params["layer1"]["bias"])
        z = z @ params["layer2"]["kernel"] + params["layer2"]["bias"]
        return np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(20), targets])

    gradient = by_formula.gradient_network(problem.params, problem.batch)
    for place in range(problem.size):
        step = np.zeros(problem.size)
        step[place] = 1e-6
        slope = (loss(shift(problem.params, step)) - loss(shift(problem.params, -step))) / 2e-6
        assert abs(slope - gradient[place]) < 2e-9  # the differences' own error: 2e-10 was measured


@pytest.mark.parametrize(
    ("block", "shapes"),
    [
        (1, (2,)),
        (4, (1, 3)),  # whole blocks
        (5, (4, 0, 2)),  # a rest, and an empty leaf
        (16, (4, 4)),  # one block
        (40, (3, 1)),  # more than there are parameters
    ],
)
def test_blocks_of_any_size_serve_any_tree_and_any_loss(block, shapes):
    blocks, generator = load_backend("jax").blocks, np.random.default_rng(block)
    params = {f"leaf{i}": jnp.asarray(generator.standard_normal((n, 2))) for i, n in enumerate(shapes)}
    whole = load_backend("jax").derivatives.hessian_forward_over_reverse(quartic)(params, 1.5)
    assert np.allclose(blocks.hessian_blocked(quartic, block)(params, 1.5), whole, rtol=0, atol=1e-12)
    assert np.allclose(blocks.diagonal_exact(quartic, block)(params, 1.5), np.diag(whole), rtol=0, atol=1e-12)


def quartic(params, batch):
    total = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(params))
    return batch * total**2 + sum(jnp.sum(jnp.sin(leaf) ** 2) for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("name", BACKENDS)
def test_gauss_newton_is_j_h_j_and_positive_semidefinite(name):
    backend = load_backend(name)
    problem = problems.make("6-4-3 x 25", WORKLOAD, seed=2)
    model = backend.models.network(problem.widths)
    matrix = backend.blocks.gauss_newton(backend.models.predict(model), backend.models.cross_entropy, 5)
    batch = tuple(backend.runtime.from_numpy(array) for array in problem.batch)
    mine = backend.runtime.to_numpy(matrix(backend.runtime.params_from_numpy(problem.params), batch))
    place = places(backend, problem.params)
    mine = mine[np.ix_(place, place)]
    assert np.linalg.eigvalsh(mine).min() > -1e-12
    assert np.abs(mine - gauss_newton_by_hand(problem)).max() < 1e-9


def gauss_newton_by_hand(problem):
    """Return mean J'(diag p - p p')J with J by central differences of the logits."""
    inputs, _ = problem.batch

    def logits(params):
        z = np.tanh(inputs @ params["layer1"]["kernel"] + params["layer1"]["bias"])
        return z @ params["layer2"]["kernel"] + params["layer2"]["bias"]

    basis = 1e-6 * np.eye(problem.size)
    ends = [np.stack([logits(shift(problem.params, sign * v)) for v in basis], axis=-1) for sign in (1, -1)]
    jacobian = (ends[0] - ends[1]) / 2e-6
    p = by_formula.softmax(logits(problem.params))
    curvature = np.einsum("nk,kl->nkl", p, np.eye(p.shape[1])) - np.einsum("nk,nl->nkl", p, p)
    return np.einsum("nkp,nkl,nlq->pq", jacobian, curvature, jacobian) / len(inputs)


def test_hutchinson_with_all_signs_is_exact():
    """Over all sign vectors the estimate is the diagonal itself."""
    backend = load_backend("jax")
    signs = np.array(np.meshgrid(*[[-1.0, 1.0]] * 4)).reshape(4, -1).T
    params = {"x": jnp.arange(4.0)}
    whole = backend.derivatives.hessian_forward_over_reverse(quartic)(params, 1.5)
    estimate = backend.blocks.diagonal_hutchinson(quartic)(params, 1.5, jnp.asarray(signs))
    assert np.allclose(estimate, np.diag(whole), rtol=0, atol=1e-12)


# What is refused.

ARRAYS = {"jax": jnp.asarray, "torch": lambda values: torch.as_tensor(np.array(values))}


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ([1, 2], TypeError, "int64, and only floating point numbers have derivatives"),
        ([], ValueError, "there are no parameters in params"),
        ([1.0, float("nan")], ValueError, "holds NaN or infinite values"),
    ],
)
@pytest.mark.parametrize("method", ["derivatives.hessian_forward_over_reverse", "blocks.hessian_blocked"])
@pytest.mark.parametrize("name", BACKENDS)
def test_parameters_that_cannot_be_differentiated_are_refused(name, method, values, error, words):
    backend = load_backend(name)
    module, function = method.split(".")
    compute = getattr(getattr(backend, module), function)(lambda params, batch: (params["x"] ** 2).sum())
    with pytest.raises(error, match=words):
        compute({"x": ARRAYS[name](values)}, None)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_loss_that_is_no_scalar_is_refused(name):
    backend = load_backend(name)
    with pytest.raises(TypeError, match=r"one floating point number, this one returns shape \(2,\)"):
        backend.blocks.hessian_blocked(lambda params, batch: params["x"] ** 2)({"x": ARRAYS[name]([1.0, 2.0])}, None)


@pytest.mark.parametrize("block", [0, -1, 1.5, True])
@pytest.mark.parametrize("name", BACKENDS)
def test_a_block_size_that_is_not_positive_is_refused(name, block):
    with pytest.raises(ValueError, match=f"block_size {block!r} is not a positive whole number"):
        load_backend(name).blocks.hessian_blocked(lambda params, batch: params["x"], block)


@pytest.mark.parametrize(
    ("name", "kinked"),
    [("jax", lambda p, b: jax.nn.relu(p["x"]).sum()), ("torch", lambda p, b: torch.relu(p["x"]).sum())],
)
def test_a_loss_with_kinks_says_so_and_a_smooth_one_does_not(name, kinked, digits):
    backend = load_backend(name)
    with pytest.warns(UserWarning, match="the loss has kinks"):
        backend.blocks.hessian_blocked(kinked)({"x": ARRAYS[name]([1.0, -2.0])}, None)
    with torch.no_grad(), pytest.warns(UserWarning, match="the loss has kinks"):
        backend.blocks.hessian_blocked(kinked)({"x": ARRAYS[name]([1.0, -2.0])}, None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss = backend.models.loss(backend.models.network((64, 10)))
        batch = tuple(backend.runtime.from_numpy(array) for array in digits.train)
        backend.validation.check_loss(loss, backend.runtime.params_from_numpy(digits.params), batch)


# Problems and fits.


def test_problems_are_what_their_names_say():
    problem = problems.make("64-8-10 x 1796", WORKLOAD, seed=0)
    assert problem.size == ravel(problem.params).size == 610
    assert np.array_equal(problem.batch[0][:898], WORKLOAD.train[0])
    assert np.array_equal(problem.batch[0][898:], WORKLOAD.train[0])
    assert problems.name_of((64, 8, 10), 1796) == "64-8-10 x 1796"


def test_an_exponent_is_found_with_its_interval():
    sizes = np.array([100.0, 200, 400, 800])
    fit = stats.exponent(sizes, 3 * sizes**1.7 * np.array([1.01, 0.99, 1.01, 0.99]))
    assert fit.low < 1.7 < fit.high
    assert fit.high - fit.low < 0.1


def record_of(experiment, subject, framework, method, samples, group="one", **value):
    name = "64-10 x 898" if subject == "digits-linear" else subject
    facts = {"depth": name.count("-"), "parameters": problems.size_of(name), "rows": problems.rows_of(name)}
    return Record(
        **dataclasses.asdict(experiment.case(subject, framework, method)),
        status="ok",
        group=group,
        environment="",
        samples=tuple(samples),
        value=facts | {"residual": 0.0} | value,
    )


def test_a_case_that_is_foreseen_to_take_too_long_is_skipped_with_the_reason():
    """By the largest smaller problem of its method: time grows with rows, and with the square of the parameters."""
    plan, experiment = make_plan(profile="default"), Curves()
    tiny, small = (
        record_of(experiment, f"64-{n}-10 x 898", "torch", "hessian_blocked", [s]) for n, s in ((2, 9.0), (4, 0.1))
    )
    more, rows = (
        experiment.case(subject, "torch", "hessian_blocked") for subject in ("64-7-10 x 898", "64-4-10 x 89800")
    )
    assert experiment.skip(more, [tiny, small], plan) is None
    assert experiment.skip(rows, [tiny, small], plan) == "foreseen: 10.0 s, budget: 2 s"
    assert experiment.skip(dataclasses.replace(more, framework="jax"), [tiny, small], plan) is None
    elsewhere = dataclasses.replace(small, experiment="workload")
    assert experiment.skip(rows, [elsewhere], plan) is None


@pytest.mark.parametrize("curve", curves.CURVES, ids=lambda curve: curve.grows)
def test_each_curve_has_four_sizes_or_more_that_grow(curve):
    for profile in ("default", "full"):
        names = curve.problems[profile]
        costs = [problems.size_of(name) ** 2 * problems.rows_of(name) for name in names]
        assert len(names) >= 4  # two more than a line has parameters, so that its interval has degrees of freedom
        assert costs == sorted(set(costs))


def test_growth_and_crossovers_are_those_of_known_times():
    """One method is quadratic in the parameters and starts cheaper; the other is linear."""
    plan, subjects = make_plan(profile="default"), curves.CURVES[0].problems["default"]
    sizes = np.array([problems.size_of(subject) for subject in subjects])
    records = [
        record_of(Curves(), subject, "jax", method, [seconds] * 2)
        for method, times in ((OWN, 1e-8 * sizes**2), ("hessian_blocked", 1e-8 * sizes * 300))
        for subject, seconds in zip(subjects, times, strict=True)
    ]
    rows = Curves().rows(evaluate(Curves(), records, plan), plan)
    fits = {pair[1]: (points, e.value) for _, pair, points, e in curves.growth(rows, plan)}
    assert fits[OWN] == (4, pytest.approx(2))
    assert fits["hessian_blocked"] == (4, pytest.approx(1))
    (crossing,) = curves.crossovers(rows, plan)
    assert crossing[1:] == (("jax", OWN), ("jax", "hessian_blocked"), pytest.approx(300), ("jax", "hessian_blocked"))
    (line,) = Curves().tables(rows, plan)[2].rows
    assert line == ("jax blocked", "jax forward over reverse", "300 (hidden units)")


@pytest.mark.parametrize("overview", [True, False])
def test_between_frameworks_the_ratio_has_one_direction_which_is_named(overview):
    plan, experiment = make_plan(overview=overview), OnWorkload()
    seconds = {"jax": [1.0, 1.0, 1.0], "torch": [3.0, 3.0, 3.0]}
    records = [record_of(experiment, "digits-linear", f, "hessian_blocked", s) for f, s in seconds.items()]
    rows = experiment.rows(evaluate(experiment, records, plan), plan)
    assert "PyTorch / JAX is 3.00 [3.00, 3.00]" in experiment.verdict(rows, plan)
    (line,) = experiment.tables(rows, plan)[1].rows
    assert line[:2] == ("torch blocked / jax blocked", "3.00 [3.00, 3.00]")


def test_ratios_are_of_methods_measured_in_the_same_rounds():
    plan, experiment = make_plan(), OnWorkload()
    own, blocked, elsewhere = records = (
        record_of(experiment, "digits-linear", "jax", OWN, [4.0, 4.2, 4.1], temporary_bytes=800),
        record_of(experiment, "digits-linear", "jax", "hessian_blocked", [1.0, 1.05, 1.025], temporary_bytes=100),
        record_of(experiment, "digits-linear", "torch", "hessian_blocked", [2.0, 2.0, 2.0], group="another"),
    )
    rows = experiment.rows(evaluate(experiment, records, plan), plan)
    (ratio,) = rows[1]["ratios"]
    assert (ratio["framework"], ratio["method"], ratio["memory"]) == ("jax", OWN, 1 / 8)
    assert ratio["time"].value == pytest.approx(0.25)
    words = experiment.verdict(rows, plan)
    assert "blocks take 0.250 [0.250, 0.250] of jax.hessian's time and 1/8 of its temporary memory" in words
    wrong = dataclasses.replace(blocked, value=blocked.value | {"residual": 1.0})
    assert experiment.rows(evaluate(experiment, [own, wrong, elsewhere], plan), plan)[1]["ratios"] == []


def test_times_in_gradients_are_paired_where_the_rounds_are_the_same():
    """On the workload they have an interval; each case of a curve has a process of its own."""
    for experiment, subject, group in ((OnWorkload(), "digits-linear", "one"), (Curves(), "64-10 x 898", "another")):
        gradient = record_of(experiment, subject, "jax", "gradient", [1.0, 2.0])
        blocked = record_of(experiment, subject, "jax", "hessian_blocked", [10.0, 20.0], group=group)
        rows = experiment.rows(evaluate(experiment, [gradient, blocked], make_plan()), make_plan())
        assert rows[0]["in_gradients"] is None
        assert rows[1]["in_gradients"].value == 10
        assert ("unpaired" in rows[1]["in_gradients"].flags) == (group == "another")


def test_the_compiler_says_what_memory_blocks_save(optimized):
    """The prototype's bound: an eighth of jax.hessian's; a 40th is measured."""
    own, blocked = (
        run("jax", method, "64-10 x 898", "float32").value["temporary_bytes"] for method in (OWN, "hessian_blocked")
    )
    assert blocked <= own / 8

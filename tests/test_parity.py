"""The frameworks agree: whole runs as the main job makes them, in the processes in which it times them."""

import dataclasses

import numpy as np
import pytest

from jaxopt_study import session
from jaxopt_study.bench import record, stats
from jaxopt_study.bench.case import Case
from jaxopt_study.data.workload import digits_linear
from jaxopt_study.parity import first_difference
from jaxopt_study.studies import STUDIES, derivatives, optimizers
from jaxopt_study.studies.hessian.digits import digits as hessian
from jaxopt_study.studies.tolerances import BEGINNING, HESSIAN, TRAINING
from tests.conftest import load_backend, make_plan

DTYPES = ("float64", "float32")
EPOCHS = 15


@pytest.fixture(scope="module", params=DTYPES)
def whole(request, tmp_path_factory):
    """The notebook's 15 epochs with every optimizer, the toy's derivatives and the Hessian routes."""
    studies = ("optimizers", "derivatives", "hessian")
    plan = make_plan(studies=studies, overview=True, dtype=request.param, epochs=EPOCHS)
    folder = tmp_path_factory.mktemp(request.param) / "run"
    outcome = session.run(plan, folder, False, lambda *_: None)
    return plan, record.read(folder), outcome


def pair(records, name):
    jax, torch = (next(r for r in records if (r.subject, r.framework) == (name, f)) for f in ("jax", "torch"))
    return jax.value, torch.value


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_losses_parameters_and_accuracy_agree_over_the_whole_run(whole, name):
    plan, records, _ = whole
    bounds = TRAINING[plan.dtype, name]
    jax, torch = pair(records, name)
    assert len(jax["epoch_losses"]) == len(torch["epoch_losses"]) == EPOCHS
    loss = stats.relative_distance(jax["epoch_losses"], torch["epoch_losses"])
    params = stats.scaled_distance(jax["params"], torch["params"])
    if loss > bounds.loss.bound or params > bounds.params.bound:
        where = where_they_part(plan, name, MORE_THAN_ROUNDING[plan.dtype])
        pytest.fail(f"losses part by {loss:.2e}, parameters by {params:.2e}; {where}")
    # One row in the test half is 1.1e-3 of it; parameters this close may move it over the border, but no more.
    assert abs(jax["train_accuracy"] - torch["train_accuracy"]) <= 1.2e-3
    assert abs(jax["test_accuracy"] - torch["test_accuracy"]) <= 1.2e-3


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_the_losses_are_the_notebooks(whole, name):
    """The notebook's figure lies where 500 initial parameters put it: mean +- 4 standard deviations."""
    mean, deviation = {
        "adam": (0.00889, 0.00105),
        "rmsprop": (0.02087, 0.00309),
        "sgd": (0.02662, 0.00121),
        "adagrad": (1.262, 0.172),
    }[name]
    _, records, _ = whole
    for value in pair(records, name):
        assert abs(value["epoch_losses"][-1] - mean) < 4 * deviation


def test_derivatives_are_exact(whole):
    _, records, _ = whole
    mine = [r for r in records if r.study == "derivatives"]
    assert len(mine) == 3
    assert all(r.value == derivatives.EXPECTED for r in mine)


def test_every_hessian_route_agrees_with_the_closed_form(whole):
    plan, records, _ = whole
    mine = [r for r in records if r.study == "hessian"]
    assert {r.method for r in mine} == set(hessian.OVERVIEW)
    assert {r.framework for r in mine} == {"jax", "torch", "numpy"}
    for r in mine:
        assert r.value["residual"] <= HESSIAN[plan.dtype].bound, r.case.key
        assert r.value["asymmetry"] <= HESSIAN[plan.dtype].bound, r.case.key


def test_the_run_says_that_all_agree(whole):
    _, _, outcome = whole
    assert outcome.status == 0
    assert "The frameworks agree in all 15 comparisons" in outcome.verdict


def test_a_planted_error_is_found_struck_out_and_named(whole):
    """Move one epoch's loss in PyTorch: the comparison must fail, and its time must go."""
    plan, records, _ = whole
    mine = [r for r in records if r.study == "optimizers"]
    moved = list(mine[1].value["epoch_losses"])
    moved[7] *= 1 + 2 * TRAINING[plan.dtype, "adam"].loss.bound + 1e-3
    planted = [mine[0], dataclasses.replace(mine[1], value={**mine[1].value, "epoch_losses": moved}), *mine[2:]]
    study = STUDIES["optimizers"]
    assert [f.subject for f in study.findings(planted, plan) if f.agrees is False] == ["adam"]
    rows = study.rows(planted, plan)
    assert rows[0]["torch_over_jax"] is None
    assert "struck out" in "".join(study.tables(rows, plan)[1].rows[0])


def test_a_first_step_that_differs_is_a_disagreement_though_the_epochs_agree(whole):
    plan, records, _ = whole
    mine = [r for r in records if r.study == "optimizers" and r.subject == "sgd"]
    moved = np.array(mine[1].value["first_losses"])
    moved[0] += 2 * BEGINNING[plan.dtype].bound * max(1, moved.max())
    planted = [mine[0], dataclasses.replace(mine[1], value={**mine[1].value, "first_losses": moved.tolist()})]
    (found,) = STUDIES["optimizers"].findings(planted, plan)
    assert found.agrees is False
    assert "the first 10 steps' losses" in found.words


def test_a_divergence_at_another_step_is_a_disagreement():
    """Losses that are NaN in both frameworks hide everything but where that began."""
    plan, names = (
        make_plan(learning_rate=1e38),
        ("epoch_losses", "first_losses", "params", "moved_epoch_losses", "moved_params"),
    )
    value = {name: [float("nan")] for name in names} | {"diverged_at_step": 3}
    facts = {"study": "optimizers", "subject": "sgd", "status": "ok", "group": "", "environment": ""}
    jax, torch = (record.Record(framework=f, method="", value=value, **facts) for f in ("jax", "torch"))
    assert STUDIES["optimizers"].findings([jax, torch], plan)[0].agrees
    later = dataclasses.replace(torch, value=value | {"diverged_at_step": 4})
    assert not STUDIES["optimizers"].findings([jax, later], plan)[0].agrees


def test_a_wrong_hessian_is_found_and_not_timed(whole):
    plan, records, _ = whole
    mine = [r for r in records if r.study == "hessian"]
    planted = [dataclasses.replace(mine[0], value={**mine[0].value, "residual": 2 * HESSIAN[plan.dtype].bound})]
    study = STUDIES["hessian"]
    assert not study.findings(planted, plan)[0].agrees
    assert "WRONG" in study.tables(study.rows(planted, plan), plan)[0].rows[0]


# More than any optimizer's parameters were seen to part by in 15 epochs: 7.4e-11 and 1.3e-4.
MORE_THAN_ROUNDING = {"float64": 1e-10, "float32": 3e-4}


def where_they_part(plan, name, tolerance, jax_name=None):
    """Walk both backends step by step, and say where they first part by more than rounding."""
    workload = digits_linear(plan.seed, plan.epochs)
    paths = []
    for framework, subject in (("jax", jax_name or name), ("torch", name)):
        case = Case("optimizers", subject, framework, optimizers.ARMS[framework].loop)
        backend = load_backend(framework, plan.dtype)
        paths.append(optimizers.path(backend, case, workload, plan))
    return first_difference(*paths, tolerance=tolerance)


def test_a_failure_names_step_leaf_values_and_ratio():
    plan = make_plan(epochs=1)
    where = str(where_they_part(plan, "sgd", MORE_THAN_ROUNDING["float64"], jax_name="adam"))
    assert where.startswith("step 0, layer1/")
    assert "ratio" in where


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_the_paths_of_single_steps_do_not_part(name):
    # 1.9e-16 was the worst seen.
    assert where_they_part(make_plan(epochs=1), name, 2e-15) is None


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_the_torch_wing_is_the_notebooks_loop_to_the_bit(name, dtype):
    """The notebook's steps, written out with torch alone: the same initial parameters give the same losses."""
    import torch

    workload = digits_linear(seed=0, epochs=2)
    backend = load_backend("torch", dtype)
    kind = getattr(torch, dtype)
    classifier = torch.nn.Linear(64, 10, dtype=kind)
    with torch.no_grad():
        classifier.weight.copy_(torch.from_numpy(workload.params["layer1"]["kernel"].T.copy()))
        classifier.bias.copy_(torch.from_numpy(workload.params["layer1"]["bias"]))
    make = {"adam": "Adam", "rmsprop": "RMSprop", "sgd": "SGD", "adagrad": "Adagrad"}[name]
    optimizer = getattr(torch.optim, make)(classifier.parameters(), lr=1e-3)
    criterion = torch.nn.CrossEntropyLoss()
    losses = []
    for _ in range(2):
        for row, digit in zip(*workload.train, strict=True):
            optimizer.zero_grad()
            loss = criterion(classifier(torch.from_numpy(row).to(kind)), torch.tensor(digit))
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    loop = backend.loops.notebook(backend.models.network((64, 10)), backend.optimizers.OPTIMIZERS[name](1e-3))
    state = loop.init(backend.runtime.params_from_numpy(workload.params))
    _, ours = loop.run(state, workload.train, workload.order.ravel())
    assert np.array_equal(ours, np.array(losses))

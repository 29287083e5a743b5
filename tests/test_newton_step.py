"""One Newton step and its parts: against NumPy's own factorization, and what they refuse."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from jaxopt_study.bench.record import Record
from jaxopt_study.bench.results import Results
from jaxopt_study.bench.task import Skipped
from jaxopt_study.data.workloads import WORKLOADS, digits_linear
from jaxopt_study.studies.hessian.newton_step import ADAM, PARTS, NewtonStep, backward_error
from tests.cases import iris
from tests.conftest import load_backend, make_plan

BACKENDS = ("jax", "torch")
WORKLOAD = digits_linear(seed=0, epochs=1)
FEW_ROWS = replace(WORKLOAD, train=tuple(array[:100] for array in WORKLOAD.train))
"""Of the same 650 parameters: NumPy's closed form takes a second on all rows."""
STEP = NewtonStep()


def run(framework, part, dtype="float64", workload=WORKLOAD):
    backend, plan = load_backend(framework, dtype), make_plan(dtype=dtype)
    case = STEP.case(workload.name, framework, part)
    task = STEP.task(backend, case, workload, plan)
    (output,) = task.run(task.start())
    value = STEP.summarize(case, task.export(output), workload, plan)
    return Record(**asdict(case), status="ok", group="g", environment="", samples=(1.0, 1.1), value=value)


def rows_of(*records):
    return STEP.rows(Results(records, tuple(STEP.findings(records, make_plan()))), make_plan())


def assert_withheld(row):
    assert row["agrees"] is False
    assert row["seconds"] is None
    assert "withheld: values disagree" in STEP.tables([row], make_plan())[0].rows[0]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("workload", [FEW_ROWS, iris()], ids=lambda workload: workload.name)
@pytest.mark.parametrize("framework", BACKENDS)
def test_each_part_agrees_with_the_closed_form(framework, part, dtype, workload):
    record = run(framework, part, dtype, workload)
    (finding,) = STEP.findings([record], make_plan(dtype=dtype))
    assert finding.cases == (record.case,)
    assert finding.agrees, finding


def test_the_epochs_of_adam_are_compared_with_numpy_and_with_each_other():
    one, other = (run(framework, ADAM) for framework in BACKENDS)
    findings = STEP.findings([one, other], make_plan())
    named = [(one.case,), (other.case,), (one.case, other.case)]
    assert [finding.cases for finding in findings] == [cases for cases in named for _ in ("loss", "parameters")]
    assert all(finding.agrees for finding in findings), findings


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_epochs_on_another_workload_agree(dtype):
    records = [run(framework, ADAM, dtype, iris()) for framework in BACKENDS]
    findings = STEP.findings(records, make_plan(dtype=dtype))
    assert all(finding.agrees for finding in findings), findings


@pytest.mark.parametrize("entry", ["loss", "params"])
def test_epochs_that_differ_in_losses_or_in_parameters_disagree(entry):
    """Both times are withheld: it is not known which framework is wrong."""
    first, second = (run("jax", ADAM) for _ in range(2))
    value, by = first.value[entry], 1e-14
    moved = value * (1 + by) if entry == "loss" else [p + by for p in value]
    planted = replace(second, framework="torch", value=second.value | {entry: moved})
    wrong = [f for f in STEP.findings([first, planted], make_plan()) if f.agrees is False]
    assert [finding.cases for finding in wrong] == [(first.case, planted.case)]
    assert [row["seconds"] for row in rows_of(first, planted)] == [None, None]


@pytest.mark.parametrize("framework", BACKENDS)
def test_a_single_framework_with_another_optimizer_is_wrong(framework, monkeypatch):
    """There is no other framework to differ from: NumPy's epoch finds it."""
    optimizers = load_backend(framework).optimizers.OPTIMIZERS
    right = optimizers["adam"]
    monkeypatch.setitem(optimizers, "adam", lambda learning_rate: right(learning_rate, b2=0.99901))
    (row,) = rows_of(run(framework, ADAM))
    assert_withheld(row)


@pytest.mark.parametrize("framework", BACKENDS)
def test_a_step_in_the_wrong_direction_is_wrong_and_has_no_time(framework, monkeypatch):
    backend = load_backend(framework)
    right = backend.newton_step.newton_step
    monkeypatch.setattr(backend.newton_step, "newton_step", lambda *given: lambda *data: -right(*given)(*data))
    (row,) = rows_of(run(framework, "newton_step", workload=iris()))
    assert_withheld(row)


def test_a_workload_without_a_closed_form_is_skipped_with_the_reason():
    workload = WORKLOADS["breast-cancer-raw"](0, 1)
    for part in (*PARTS, ADAM):
        with pytest.raises(Skipped, match="breast-cancer-raw has a binary loss"):
            STEP.task(load_backend("jax"), STEP.case(workload.name, "jax", part), workload, make_plan())


def test_the_overview_is_without_it():
    assert STEP.groups(make_plan(overview=True)) == []


def test_the_backward_error_is_that_of_a_known_solution():
    matrix = np.diag([1.0, 4.0])
    assert backward_error(matrix, np.array([1.0, 0.5]), np.array([1.0, 2.0])) == 0
    # The residual is (0, -2), the scale 4 max|(1, 0)| + max|(1, 2)|.
    assert backward_error(matrix, np.array([1.0, 0.0]), np.array([1.0, 2.0])) == 2 / 6


@pytest.mark.parametrize("damping", [-1.0, float("nan"), float("inf"), "much"])
@pytest.mark.parametrize("name", BACKENDS)
def test_a_damping_that_is_not_allowed_is_named(name, damping):
    backend = load_backend(name)
    with pytest.raises(ValueError, match=r"damping .* is not a finite number of at least 0"):
        backend.newton_step.cholesky(damping)


def test_a_ratio_needs_the_same_rounds():
    solve, epoch = (run("jax", part, workload=iris()) for part in ("solve", ADAM))
    elsewhere = replace(epoch, group="another")
    assert rows_of(solve, epoch)[0]["in_epochs"].value == 1
    assert rows_of(solve, elsewhere)[0]["in_epochs"] is None

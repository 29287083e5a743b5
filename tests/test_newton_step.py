"""One Newton step and its parts: against NumPy's own factorization, and what they refuse."""

import dataclasses

import numpy as np
import pytest

from jaxopt_study.bench.case import Case
from jaxopt_study.bench.record import Record
from jaxopt_study.data.workload import digits_linear
from jaxopt_study.studies.hessian.digits import newton_step
from tests.conftest import load_backend, make_plan

BACKENDS = ("jax", "torch")
WORKLOAD = digits_linear(seed=0, epochs=1)


def run(name, part, dtype="float64"):
    backend, plan = load_backend(name, dtype), make_plan(dtype=dtype)
    case = Case("newton_step", "digits-linear", name, part)
    task = newton_step.task(backend, case, WORKLOAD, plan)
    (output,) = task.run(task.start())
    kept = newton_step.summarize(case, task.export(output), WORKLOAD, plan)
    record = Record(case.study, case.subject, name, part, "ok", "g", "", samples=(1.0, 1.1), value=kept)
    return record, plan


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("part", [part for part in newton_step.PARTS if part != "adam_epoch"])
@pytest.mark.parametrize("name", BACKENDS)
def test_each_part_holds_to_the_closed_form(name, part, dtype):
    record, plan = run(name, part, dtype)
    (finding,) = newton_step.findings([record], plan)
    assert finding.agrees, finding.words


def test_the_epochs_of_adam_are_held_to_numpy_and_to_each_other():
    records = [run(name, "adam_epoch")[0] for name in BACKENDS]
    findings = newton_step.findings(records, make_plan())
    assert [finding.subject for finding in findings] == ["jax adam_epoch", "torch adam_epoch", "adam_epoch"]
    assert all(finding.agrees for finding in findings), findings


@pytest.mark.parametrize(("entry", "by"), [("loss", 1e-14), ("params", 1e-14)])
def test_epochs_that_part_in_losses_or_in_parameters_disagree(entry, by):
    first, second = (run("jax", "adam_epoch")[0] for _ in range(2))
    moved = first.value[entry] * (1 + by) if entry == "loss" else [p + by for p in first.value[entry]]
    planted = dataclasses.replace(second, framework="torch", value=second.value | {entry: moved})
    assert newton_step.findings([first, planted], make_plan())[-1].agrees is False


@pytest.mark.parametrize("name", BACKENDS)
def test_a_single_framework_with_another_optimizer_is_wrong(name, monkeypatch):
    """There is no other framework to differ from: NumPy's epoch finds it."""
    backend = load_backend(name)
    right = backend.optimizers.adam
    monkeypatch.setattr(backend.optimizers, "adam", lambda learning_rate: right(learning_rate, b2=0.99901))
    record, plan = run(name, "adam_epoch")
    (row,) = newton_step.rows([record], plan)
    assert row["agrees"] is False
    assert "seconds" not in row
    assert "WRONG" in newton_step.tables([row], plan)[0].rows[0]


@pytest.mark.parametrize("name", BACKENDS)
def test_a_step_in_the_wrong_direction_is_wrong_and_has_no_time(name, monkeypatch):
    backend = load_backend(name)
    right = backend.newton_step.newton_step
    monkeypatch.setattr(backend.newton_step, "newton_step", lambda *given: lambda *data: -right(*given)(*data))
    record, plan = run(name, "newton_step")
    (row,) = newton_step.rows([record], plan)
    assert row["agrees"] is False
    assert "seconds" not in row
    assert "WRONG" in newton_step.tables([row], plan)[0].rows[0]


def test_the_backward_error_is_that_of_a_known_solution():
    matrix = np.diag([1.0, 4.0])
    assert newton_step.backward_error(matrix, np.array([1.0, 0.5]), np.array([1.0, 2.0])) == 0
    # The residual is (0, -2), the scale 4 max|(1, 0)| + max|(1, 2)|.
    assert newton_step.backward_error(matrix, np.array([1.0, 0.0]), np.array([1.0, 2.0])) == 2 / 6


@pytest.mark.parametrize("damping", [-1.0, float("nan"), float("inf"), "much"])
@pytest.mark.parametrize("name", BACKENDS)
def test_a_damping_that_is_not_allowed_is_named(name, damping):
    backend = load_backend(name)
    with pytest.raises(ValueError, match=r"damping .* is not a finite number of at least 0"):
        backend.newton_step.cholesky(damping)


def test_a_ratio_needs_the_same_turns():
    solve, epoch = (run("jax", part)[0] for part in ("solve", "adam_epoch"))
    apart = dataclasses.replace(epoch, group="another")
    assert newton_step.rows([solve, epoch], make_plan())[0]["in_epochs"].value == 1
    assert newton_step.rows([solve, apart], make_plan())[0]["in_epochs"] is None

"""The race of minimizers: its tasks run, its findings can fail, its sentence is true."""

import dataclasses

import numpy as np
import pytest

from jaxopt_study.bench.case import Case
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.task import same_value
from jaxopt_study.studies import newton
from jaxopt_study.studies.newton.arms import ARMS, LARGE, SMALL, runs
from jaxopt_study.studies.newton.judgement import findings, rows
from jaxopt_study.studies.newton.pages import verdict
from tests.conftest import load_backend, make_plan

PLAN = make_plan(studies=("newton",), profile="default", repeats=13)
SUBJECT = "breast-cancer-standardized"
RACED = [
    *((framework, method) for framework, methods in SMALL.items() for method in methods),
    *(("jax", "adam, default"), ("torch", "adam, default")),  # which the study runs on the digits alone
]


@pytest.fixture(scope="module")
def records(digits):
    """One record of each arm, with made up seconds."""
    return [measure(framework, method, digits) for framework, method in RACED]


def measure(framework, method, digits, subject=SUBJECT):
    case = Case("newton", subject, framework, method)
    task = newton.task(load_backend(framework), case, digits, PLAN)
    *_, output = task.run(task.start())
    *_, again = task.run(task.start())
    assert same_value(task.export(output), task.export(again))
    value = newton.summarize(case, task.export(output), digits, PLAN)
    return Record(
        **dataclasses.asdict(case), status="ok", group="1", environment="", samples=(0.1, 0.1), first_seconds=1.0,
        value=value,
    )  # fmt: skip


def wrong(records):
    return {finding.subject for finding in findings(records, PLAN) if finding.agrees is not True}


def test_all_arms_agree_and_end_where_they_say(records):
    assert not wrong(records)
    found = {(row["framework"], row["arm"]): row for row in rows(records, PLAN)}
    for arm in (("jax", "Newton"), ("torch", "Newton"), ("numpy", "SciPy trust-exact")):
        assert abs(found[arm]["gap"]) < 1e-12
        assert found[arm]["targets"]["1e-08"]["seconds"] <= found[arm]["seconds"]
    assert found["jax", "adam, default"]["gap"] > 0.1
    assert found["jax", "adam, default"]["targets"]["0.01"] is None


def planted(records, framework, method, change):
    """Return the records with one arm's value changed."""
    return [
        dataclasses.replace(r, value=change(dict(r.value))) if (r.framework, r.method) == (framework, method) else r
        for r in records
    ]


def test_an_optimum_missed_by_two_bounds_is_found(records):
    def miss(value):
        return value | {"values": [*value["values"][:-1], value["values"][-1] + 2e-10]}

    assert wrong(planted(records, "jax", "Newton", miss)) == {f"newton/{SUBJECT}/jax/Newton"}


def test_an_iterate_that_parts_is_found(records):
    def bend(value):
        path = np.array(value["path"])
        path[4, 7] += 2e-9
        return value | {"path": path.tolist()}

    assert wrong(planted(records, "torch", "Newton", bend)) == {"Newton"}
    struck = [r for r in rows(planted(records, "torch", "Newton", bend), PLAN) if r["arm"] == "Newton"]
    assert [row["agrees"] for row in struck] == [False, False]


def test_a_descent_that_parts_is_found(records):
    def slip(value):
        return value | {"values": [v * (1 + 1e-9) for v in value["values"]]}

    assert wrong(planted(records, "torch", "adam, default", slip)) == {"adam, default"}


def test_chaos_is_not_called_a_disagreement_nor_an_agreement(records):
    def leap(value):
        return value | {"moved_values": [v * 1.01 for v in value["values"]]}

    def slip(value):
        return value | {"values": [v * 1.001 for v in value["values"]]}

    chaotic = planted(planted(records, "jax", "adam, default", leap), "torch", "adam, default", slip)
    assert [f.agrees for f in findings(chaotic, PLAN) if f.subject == "adam, default"] == [None]


def test_full_runs_all_arms_and_the_default_those_that_take_seconds_not():
    full = dataclasses.replace(PLAN, profile="full")
    assert all(runs(full, framework, method) for framework, methods in ARMS.items() for method in methods)
    for framework, arms in ARMS.items():
        left = {method for method in arms if not runs(PLAN, framework, method)}
        assert left == {method for method, arm in arms.items() if arm.full}
    cases = [case for group in newton.groups(PLAN) for case in group.cases]
    assert len(cases) == len(set(cases))
    assert {c.method for c in cases if c.subject == "digits-linear"} == {
        method for framework, methods in LARGE.items() for method in methods if runs(PLAN, framework, method)
    }


def test_the_sentence_names_only_targets_that_newton_reaches(digits):
    """In float32 Newton ends above 1e-8, and must not be said to come there."""
    reached = {"1e-08": None, "0.0001": {"seconds": 0.2}, "0.01": {"seconds": 0.1}}
    row = {
        "problem": "digits-linear", "framework": "jax", "arm": "Newton", "status": "ok", "agrees": True, "gap": 1e-6,
        "targets": reached, "first_seconds": 2.0, "ratios": {},
    }  # fmt: skip
    adam = row | {"arm": "adam, tuned", "gap": 0.1, "targets": dict.fromkeys(reached)}
    words = verdict([row, adam], PLAN)
    assert words.startswith("compilation apart, Newton is the sooner to 1e-02 and 1e-04 of digits-linear;")
    assert "1e-08" not in words

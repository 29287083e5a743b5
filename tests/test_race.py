"""The Newton study: its tasks run, its comparisons can fail and name their cases, its sentence is true."""

import dataclasses

import numpy as np
import pytest
from sklearn.datasets import load_iris

from jaxopt_study.bench.record import Record
from jaxopt_study.bench.results import Results
from jaxopt_study.bench.task import Skipped, same_value
from jaxopt_study.data.networks import Dense
from jaxopt_study.data.workload import Workload, draw_params
from jaxopt_study.studies.newton import NEWTON, Race, Regressions
from jaxopt_study.studies.newton.methods import METHODS, runs
from jaxopt_study.studies.newton.problems import SMALL as SMALL_PROBLEMS
from jaxopt_study.studies.newton.race import LARGE, SMALL
from tests.cases import a_record
from tests.conftest import load_backend, make_plan

PLAN = make_plan(studies=("newton",), profile="default", repeats=13)
RACE, _, REGRESSIONS = NEWTON.experiments
SUBJECT = "breast-cancer-standardized"
DESCENT = "adam, default"  # the study runs it on the run's own workload only
RACED = [(framework, method) for framework, names in SMALL.items() for method in names]


@pytest.fixture(scope="module")
def records(digits):
    """One record of each method on each small problem, with seconds made up."""
    pairs = [(name, method) for name in SMALL_PROBLEMS for method in RACED]
    pairs += [(SUBJECT, ("jax", DESCENT)), (SUBJECT, ("torch", DESCENT))]
    return [measure(subject, *method, digits) for subject, method in pairs]


def measure(subject, framework, method, workload):
    case = RACE.case(subject, framework, method)
    task = RACE.task(load_backend(framework), case, workload, PLAN)
    *_, output = task.run(task.start())
    *_, again = task.run(task.start())
    assert same_value(task.export(output), task.export(again))
    value = RACE.summarize(case, task.export(output), workload, PLAN)
    return Record(
        **dataclasses.asdict(case), status="ok", group=subject, environment="", samples=(0.1, 0.1), first_seconds=1.0,
        value=value,
    )  # fmt: skip


def evaluated(records):
    return Results(tuple(records), tuple(RACE.findings(records, PLAN)))


def wrong(records):
    """Return the subject, framework and method of each case whose time is withheld."""
    return {(case.subject, case.framework, case.method) for case in evaluated(records).withheld}


def test_all_methods_agree_and_end_where_they_say(records):
    assert all(finding.agrees for finding in RACE.findings(records, PLAN))
    found = {(row["problem"], row["framework"], row["method"]): row for row in RACE.rows(evaluated(records), PLAN)}
    for method in (("jax", "Newton"), ("torch", "Newton"), ("numpy", "SciPy trust-exact")):
        row = found[SUBJECT, *method]
        assert abs(row["gap"]) < 1e-12
        assert row["targets"]["1e-08"]["seconds"] <= row["seconds"]
    descent = found[SUBJECT, "jax", DESCENT]
    assert descent["gap"] > 0.1
    assert descent["targets"]["0.01"] is None


def planted(records, subject, framework, method, change):
    """Return the records with one case's value changed."""
    return [
        dataclasses.replace(r, value=change(dict(r.value)))
        if (r.subject, r.framework, r.method) == (subject, framework, method)
        else r
        for r in records
    ]


def test_an_optimum_missed_by_two_bounds_is_found(records):
    def miss(value):
        return value | {"values": [*value["values"][:-1], value["values"][-1] + 2e-10]}

    assert wrong(planted(records, SUBJECT, "jax", "Newton", miss)) == {(SUBJECT, "jax", "Newton")}


@pytest.mark.parametrize("subject", SMALL_PROBLEMS)
def test_iterates_that_differ_withhold_the_two_cases_of_their_problem_alone(subject, records):
    def bend(value):
        path = np.array(value["path"])
        path[4, 7] += 2e-9
        return value | {"path": path.tolist()}

    changed = planted(records, subject, "torch", "Newton", bend)
    both = {(subject, "jax", "Newton"), (subject, "torch", "Newton")}
    assert wrong(changed) == both
    rows = RACE.rows(evaluated(changed), PLAN)
    assert {(row["problem"], row["framework"], row["method"]) for row in rows if "seconds" not in row} == both
    withheld = [row for table in RACE.tables(rows, PLAN) for row in table.rows if "withheld: values disagree" in row]
    assert len(withheld) == 2
    assert all(not row["ratios"] for row in rows if row["method"] == "Newton" and row["problem"] == subject)


def test_two_steps_more_are_found(records):
    def later(value):
        *before, last = value["values"]
        return value | {"values": [*before, 1.01 * last, 1.01 * last, last]}

    changed = planted(records, SUBJECT, "jax", "Newton", later)
    (finding,) = [f for f in RACE.findings(changed, PLAN) if f.agrees is False]
    assert (finding.what, finding.bound) == ("steps of exact Newton to the rounding level", 1)
    assert finding.distance in (2, 3)


def test_steps_at_the_rounding_level_are_not_compared(records):
    def repeat(value):
        again = {name: [*value[name], *[value[name][-1]] * 4] for name in ("path", "values")}
        return value | again

    changed = planted(records, SUBJECT, "jax", "Newton", repeat)
    assert not [f for f in RACE.findings(changed, PLAN) if f.agrees is False]


def test_a_descent_that_differs_is_found(records):
    def slip(value):
        return value | {"values": [v * (1 + 1e-9) for v in value["values"]]}

    changed = planted(records, SUBJECT, "torch", DESCENT, slip)
    assert wrong(changed) == {(SUBJECT, "jax", DESCENT), (SUBJECT, "torch", DESCENT)}


def test_chaos_is_not_called_a_disagreement_nor_an_agreement(records):
    def leap(value):
        return value | {"moved_values": [v * 1.01 for v in value["values"]]}

    def slip(value):
        return value | {"values": [v * 1.001 for v in value["values"]]}

    chaotic = planted(planted(records, SUBJECT, "jax", DESCENT, leap), SUBJECT, "torch", DESCENT, slip)
    (finding,) = [f for f in RACE.findings(chaotic, PLAN) if f.cases[0].method == DESCENT]
    assert finding.agrees is None
    assert "chaotic" in finding.note


def test_ratios_without_common_rounds_are_marked(records):
    """scikit-learn's record is put into another group than Newton's."""
    apart = [dataclasses.replace(r, group="other") if r.framework == "numpy" else r for r in records]
    for mine, paired in ((records, True), (apart, False)):
        rows = RACE.rows(evaluated(mine), PLAN)
        ratios = [row["ratios"]["scikit-learn newton-cholesky"] for row in rows if row["framework"] == "jax"]
        assert ratios
        assert all(ratio.low <= ratio.value <= ratio.high for ratio in ratios)
        assert all(("unpaired" in ratio.flags) != paired for ratio in ratios)


def iris(seed=0, epochs=1, widths=(4, 3)):
    inputs, targets = load_iris(return_X_y=True)
    order = np.tile(np.arange(len(inputs)), (epochs, 1))
    return Workload("iris", Dense(widths), (inputs, targets), (inputs, targets), draw_params(widths, seed), order)


def test_a_workload_without_pinned_bounds_races_and_says_so():
    pairs = [(framework, method) for framework in ("jax", "torch") for method in ("Newton", DESCENT)]
    mine = [measure("iris", *pair, iris()) for pair in (*pairs, ("numpy", "scikit-learn newton-cholesky"))]
    by_what = {f.what: f for f in RACE.findings(mine, PLAN)}
    paths = by_what.pop("iterates of exact Newton")
    assert paths.agrees is None
    assert paths.distance < 1e-6
    assert np.isnan(paths.bound)
    assert paths.note == "no bound was measured on this workload"
    assert all(finding.agrees for finding in by_what.values())
    assert evaluated(mine).shows(mine[0])


@pytest.mark.parametrize("framework", ["jax", "torch", "numpy"])
def test_a_workload_that_is_not_linear_is_skipped_and_the_small_problems_are_not(framework):
    network = iris(widths=(4, 5, 3))
    for method in LARGE[framework]:
        with pytest.raises(Skipped, match="closed form of a linear model's loss, which iris does not have"):
            RACE.task(load_backend(framework), RACE.case("iris", framework, method), network, PLAN)
    RACE.task(load_backend(framework), RACE.case(SUBJECT, framework, SMALL[framework][0]), network, PLAN)


def subjects(plan):
    return {case.subject for group in RACE.groups(plan) for case in group.cases}


def test_the_problems_are_the_workload_and_the_small_ones():
    for name in ("digits-linear", "iris", "breast-cancer-raw"):
        assert subjects(make_plan(studies=("newton",), workload=name)) == {name, *SMALL_PROBLEMS}


def test_full_runs_all_methods_and_the_default_not_those_that_take_seconds():
    full = dataclasses.replace(PLAN, profile="full")
    assert all(runs(full, framework, method) for framework, names in METHODS.items() for method in names)
    for framework, table in METHODS.items():
        left = {name for name in table if not runs(PLAN, framework, name)}
        assert left == {name for name, method in table.items() if method.full}
    cases = [case for group in NEWTON.groups(PLAN) for case in group.cases]
    assert len(cases) == len(set(cases))
    assert {c.method for c in cases if c.subject == "digits-linear"} == {
        method for framework, names in LARGE.items() for method in names if runs(PLAN, framework, method)
    }


def test_profile_smoke_has_each_kind_of_method_of_the_default():
    def kinds(profile):
        plan = dataclasses.replace(PLAN, profile=profile)
        return {(c.framework, METHODS[c.framework][c.method].kind) for group in RACE.groups(plan) for c in group.cases}

    assert kinds("smoke") == kinds("default")


def test_the_sentence_names_only_targets_that_newton_reaches():
    """In float32 Newton ends above 1e-8, and must not be said to come there."""
    reached = {"1e-08": None, "0.0001": {"seconds": 0.2}, "0.01": {"seconds": 0.1}}
    row = {
        "problem": "digits-linear", "framework": "jax", "method": "Newton", "status": "ok", "gap": 1e-6,
        "targets": reached, "first_seconds": 2.0, "seconds": 0.2, "ratios": {},
    }  # fmt: skip
    adam = row | {"method": "adam, tuned", "gap": 0.1, "targets": dict.fromkeys(reached)}
    words = Race().verdict([row, adam], PLAN)
    start = "compilation not counted, Newton is ahead of first-order methods (L-BFGS too) "
    start += "at 1e-02 and 1e-04 on digits-linear"
    assert words.splitlines()[0] == start
    assert "1e-08" not in words


def test_a_withheld_time_is_in_no_sentence(records):
    def miss(value):
        return value | {"values": [v + 1e-3 for v in value["values"]]}

    changed = planted(records, SUBJECT, "jax", "Newton", miss)
    plan = dataclasses.replace(PLAN, workload=SUBJECT, frameworks=("jax",))
    rows = RACE.rows(evaluated([r for r in changed if r.framework != "torch"]), plan)
    assert RACE.verdict(rows, plan) == ""


# A hundred regressions.


def pair(difference):
    """Return records of both methods, of which one optimal value of `vmap` differs."""
    values = np.linspace(0.1, 0.2, 100)
    facts = {"study": "newton", "experiment": "regressions", "subject": SUBJECT, "samples": (0.1, 0.1), "group": "1"}
    moved = values.copy()
    moved[7] += difference
    return [
        a_record(**facts, framework=framework, method=method, value={"values": list(found), "most_steps": 8})
        for framework, method, found in (("jax", "vmap", moved), ("numpy", "scikit-learn", values))
    ]


@pytest.mark.parametrize(("difference", "agrees"), [(5e-11, True), (2e-10, False)])
def test_regressions_that_differ_are_found_and_their_time_is_withheld(difference, agrees):
    mine = pair(difference)
    (finding,) = REGRESSIONS.findings(mine, PLAN)
    assert finding.agrees is agrees
    results = Results(tuple(mine), (finding,))
    vmap, loop = REGRESSIONS.rows(results, PLAN)
    assert ("seconds" in vmap, "seconds" in loop) == (agrees, True)
    assert (vmap["loop_over_vmap"] is not None) is agrees
    assert ("100 logistic regressions" in REGRESSIONS.verdict([vmap, loop], PLAN)) is agrees
    (table,) = REGRESSIONS.tables([vmap, loop], PLAN)
    assert ("withheld: values disagree" in table.rows[0]) is not agrees


def test_regressions_need_jax_and_are_not_in_the_main_job():
    assert Regressions().groups(PLAN)
    assert not Regressions().groups(dataclasses.replace(PLAN, frameworks=("torch",)))
    assert not Regressions().groups(dataclasses.replace(PLAN, overview=True))

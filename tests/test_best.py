"""What the main job concludes of optimizers and of loops, from records made by hand."""

from dataclasses import replace

import numpy as np
import pytest

from jaxopt_study.bench.finding import compare
from jaxopt_study.bench.results import Results
from jaxopt_study.studies import best
from jaxopt_study.studies.loops.growth import Growth
from jaxopt_study.studies.loops.headline import FASTEST, LARGE, USUAL_LOOPS, WRITTEN, Headline
from jaxopt_study.studies.loops.ladder import Ladder
from jaxopt_study.studies.loops.sizes import OVERVIEW_WORK
from jaxopt_study.studies.spread import Spread
from tests.cases import a_record
from tests.conftest import make_plan

PLAN = make_plan(overview=True, optimizers=("adam",), profile="default", repeats=13)
TIMES = {
    ("ladder", "adam", "jax", "donated"): 90e-6,
    ("ladder", "adam", "jax", "native_scan"): 0.6e-6,
    ("ladder", "adam", "torch", "notebook"): 560e-6,
    ("ladder", "adam", "torch", "prepared"): 450e-6,
    ("ladder", "adam", "torch", "compiled"): 180e-6,
    ("growth", OVERVIEW_WORK["cpu"].name, "jax", "donated"): 33e-3,
    ("growth", OVERVIEW_WORK["cpu"].name, "jax", "transposing_scan"): 30e-3,
    ("growth", OVERVIEW_WORK["cpu"].name, "torch", "fused"): 33e-3,
}


def timed(case, seconds):
    names = dict(zip(("experiment", "subject", "framework", "method"), case, strict=True))
    return a_record(study="loops", group=case[0], samples=(seconds,) * 7, **names)


RECORDS = tuple(timed(case, seconds) for case, seconds in TIMES.items())


def ratios(results):
    return {row["pair"]: row["ratio"].value for row in Headline().rows(results, PLAN)}


def test_the_three_ratios_and_that_of_the_notebook_are_of_their_own_loops():
    found = ratios(Results(RECORDS, ()))
    assert found == pytest.approx({USUAL_LOOPS: 5, FASTEST: 300, LARGE: 1.1, WRITTEN: 560 / 0.6})


def test_a_withheld_loop_is_in_no_ratio():
    (compiled,) = (r for r in RECORDS if r.method == "compiled")
    found = ratios(Results(RECORDS, (compare("losses", [compiled.case], 1.0, 0.1),)))
    assert found[FASTEST] == pytest.approx(450 / 0.6)
    usual = [r for r in RECORDS if r.method == "donated" and r.experiment == "ladder"]
    found = ratios(Results(RECORDS, (compare("losses", [usual[0].case], 1.0, 0.1),)))
    assert USUAL_LOOPS not in found


def test_many_runs_at_once_and_another_adam_are_not_the_fastest_loop():
    more = [timed(("ladder", "adam", "jax", name), 1e-9) for name in ("vmapped", "folded_scan")]
    assert ratios(Results((*RECORDS, *more), ()))[FASTEST] == pytest.approx(300)


def test_the_main_job_measures_what_its_headline_needs():
    ladder, growth = (experiment.groups(PLAN) for experiment in (Ladder(), Growth()))
    assert (len(ladder), len(growth)) == (1, 1)
    cases = {(c.experiment, c.subject, c.framework, c.method) for group in (*ladder, *growth) for c in group.cases}
    assert TIMES.keys() <= cases
    assert ("ladder", "adam", "torch", "fused") in cases
    (smoke,) = Ladder().groups(replace(PLAN, profile="smoke"))
    assert {c.method for c in smoke.cases} == {c[3] for c in cases if c[0] == "ladder"} - {"compiled"}


def scored(optimizer, missed, loss=1.0):
    return a_record(subject=optimizer, value={"test_missed": missed, "epoch_losses": [loss]})


def test_an_accuracy_differs_where_the_sign_test_says_so():
    """Of rows that one of two predicts, 5 of 5 have p = 1/16, and 6 of 6 have p = 1/32."""
    first = scored("sgd", [0, 1])
    assert best.as_good([first, scored("adam", [0, 1, *range(2, 7)])]) == {"sgd": True, "adam": True}
    assert best.as_good([first, scored("adam", [0, 1, *range(2, 8)])]) == {"sgd": True, "adam": False}
    assert best.as_good([first, scored("adam", [*range(2, 10)])]) == {"sgd": True, "adam": True}
    assert best.as_good([first]) == best.as_good([]) == {}


def a_row(optimizer, loss, accuracy, framework="jax", **more):
    return {
        "optimizer": optimizer, "framework": framework, "status": "ok", "agrees": True, "final_loss": loss,
        "diverged_at_step": -1, "loss_distance": 1e-6, "test_accuracy": accuracy, "step_seconds": 1e-6,
    } | more  # fmt: skip


def test_the_best_optimizer_is_named_with_those_that_do_not_differ():
    rows = [
        a_row("adam", 0.1, 0.90, as_good=True),
        a_row("sgd", 0.2, 0.92, as_good=True),
        a_row("adagrad", 0.3, 0.5, as_good=False),
        a_row("rmsprop", np.nan, 0.1, as_good=False),
    ]
    assert best.sentences(rows) == [
        "lowest training loss here: adam (0.100)",
        "highest test accuracy here: sgd (0.9200); no difference from it: adam (0.9000)",
    ]
    assert best.sentences(rows[:1]) == []


def test_an_optimizer_has_one_line_with_both_frameworks_times():
    rows = [a_row("adam", 0.1, 0.9), a_row("adam", 0.1, 0.9, "torch", step_seconds=2e-3)]
    (table,) = best.tables(rows, PLAN, "loops")
    assert f"Learning rate: {PLAN.learning_rate:g}, or the lr of a call." in table.notes
    assert table.rows == [("adam", "0.100", "1.0e-06", "0.9000", "1.00 µs", "2.00 ms")]
    wrong = [row | {"agrees": False} for row in rows]
    for row in wrong:
        del row["step_seconds"]
    (table,) = best.tables(wrong, PLAN, "loops")
    assert table.rows[0][2:] == ("1.0e-06: DISAGREE", "0.9000", "withheld", "withheld")


def test_initial_parameters_are_counted_for_which_an_optimizer_is_lowest():
    losses = {"adam": [1.0, 2.0, float("nan")], "sgd": [2.0, 1.0, 1.0]}
    facts = {"study": "spread", "experiment": "spread", "method": "scan under vmap", "samples": ()}
    records = [a_record(subject=name, value={"final_losses": mine}, **facts) for name, mine in losses.items()]
    plan = replace(PLAN, optimizers=("adam", "sgd"))
    rows = Spread().rows(Results(tuple(records), ()), plan)
    assert [row["lowest"] for row in rows] == [1, 2]
    assert "for 2 of 32 initial parameters: sgd" in Spread().verdict(rows, plan)
    assert [line[-2:] for line in Spread().tables(rows, plan)[0].rows] == [("-", "-"), ("-", "-")]

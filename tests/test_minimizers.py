"""The study of the minimizers: what counts as solved, who needs the least work, and which sentences are not so."""

import dataclasses
from importlib.util import find_spec
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from jaxopt_study.bench.record import Record, plain
from jaxopt_study.bench.results import Results
from jaxopt_study.studies.minimizers import MINIMIZERS, outcomes, problems, report, runs
from jaxopt_study.studies.minimizers.runs import End
from tests.conftest import load_backend, make_plan

PLAN = make_plan(studies=("minimizers",), profile="default")
(CUTEST,) = MINIMIZERS.experiments
START = End(value=100.0, slope=10.0, iterations=0, work=0)
SOLVED = End(value=1.0, slope=1e-9, iterations=5, work=20, told=1.0)


def a_run(status="GRADIENT", **changes):
    return {"status": status, "words": f"It says {status}.", "end": SOLVED._replace(**changes)._asdict()}


def a_record(problem="ROSENBR", **named):
    case = CUTEST.case(problem, "jax", "every minimizer")
    value = {"size": 2, "start": START._asdict(), "runs": {name.replace("_", " "): run for name, run in named.items()}}
    return Record(**dataclasses.asdict(case), status="ok", group="", environment="", value=value)


def outcome(status="GRADIENT", **changes):
    return outcomes.read([a_record(exact=a_run(status, **changes))])[0]


@pytest.mark.parametrize(
    ("changes", "solved"),
    [
        ({}, True),
        ({"value": 1 + 1.9e-6}, True),
        ({"value": 1 + 2.1e-6}, False),  # 1e-6 (1 + |best|) are allowed
        ({"slope": 1.0e-5}, True),
        ({"slope": 1.2e-5}, False),  # 1e-6 (1 + 10)
        ({"value": np.nan}, False),
    ],
)
def test_solved_means_near_the_best_value_with_a_small_gradient(changes, solved):
    found = outcomes.read([a_record(exact=a_run(**changes), best=a_run())])
    assert [run.solved for run in found] == [solved, True]


REFUTED = [
    ("GRADIENT", {}, {"slope": 1e-6}, "the gradient is 1.0e-06, 1.5e-08 is allowed"),
    ("GRADIENT", {}, {"told": 0.9}, "its value is not that of the objective"),
    ("ROUNDING", {"lower": 1e-11}, {"lower": 1e-9}, "a step lowers the objective by 1.0e-09"),
    ("STALLED", {"slope": 1e-3}, {"slope": 1e-12}, "the gradient is 1.0e-12, within the tolerance"),
    ("ITERATIONS", {"iterations": runs.ITERATIONS}, {"iterations": 100}, "it made 100 iterations"),
    ("INFINITY", {"far": 0.5, "far_slope": 1e-10}, {"far": -0.5, "far_slope": 1e-10}, "far away"),
    ("INFINITY", {"far": 0.5, "far_slope": 1e-10}, {"far": 0.5, "far_slope": 1.0}, "far away"),
    ("UNBOUNDED", {"value": -1e20, "told": -1e20}, {}, "the objective is 1.0e+00"),
]


@pytest.mark.parametrize(("status", "right", "wrong", "words"), REFUTED)
def test_a_sentence_that_is_not_so_is_refuted(status, right, wrong, words):
    assert outcomes.refuted(outcome(status, **right)) == ""
    assert words in outcomes.refuted(outcome(status, **wrong))


def test_each_status_that_ends_a_run_of_the_study_has_a_rule():
    """No other can come up: no callback, clock or bounds, no tolerance of the decrement, no Hessian of a user."""
    names = {status.name for status in load_backend("jax").newton.Status}
    others = {"RUNNING", "DECREMENT", "NOT_FINITE", "PROJECTED", "ASYMMETRIC", "HESSIAN", "STOPPED", "TIME"}
    assert names - others == set(outcomes.RULES)


def test_a_false_sentence_is_a_finding_that_names_its_problem():
    records = [a_record("A", exact=a_run(), lbfgs=a_run()), a_record("B", exact=a_run(slope=1.0), lbfgs=a_run("NEW"))]
    exact, lbfgs = CUTEST.findings(records, PLAN)
    assert (exact.distance, exact.agrees, [case.subject for case in exact.cases]) == (1, False, ["B"])
    assert "B: the gradient is 1.0e+00" in exact.note
    assert lbfgs.agrees is True
    assert lbfgs.note == "not checked: NEW"


def rows_of(records):
    return CUTEST.rows(Results(tuple(records), ()), PLAN)


RECORDS = [
    a_record("A", exact=a_run(work=30), lbfgs=a_run(work=10), SciPy_BFGS=a_run("", work=20)),
    a_record("B", exact=a_run(work=10), lbfgs=a_run(work=10), SciPy_BFGS=a_run("", work=40)),
    a_record("C", exact=a_run(work=30), lbfgs=a_run(slope=1.0, work=1), SciPy_BFGS=a_run("", value=2.0)),
    a_record(
        "D",
        exact=a_run(value=5.0, told=5.0),
        lbfgs=a_run("STALLED", value=4.0, told=4.0, slope=1e-3),
        SciPy_BFGS=a_run("", value=1.0, work=9),
    ),
]


def test_the_table_counts_solved_problems_and_least_work():
    """On A lbfgs needs the least, on B two do; C and D are solved by one minimizer, which has nobody beside it."""
    table, failures = CUTEST.tables(rows_of(RECORDS), PLAN)
    assert [row[:5] for row in table.rows] == [
        ("exact", "3", "4", "30", "50 %"),
        ("lbfgs", "2", "4", "10", "100 %"),
        ("SciPy BFGS", "3", "4", "20", "0 %"),
    ]
    assert [row[5] for row in table.rows] == ["50 %", "100 %", "-"]  # exact is beside BFGS on A and B alone
    assert [(row[0], row[1], row[-1]) for row in failures.rows] == [
        ("lbfgs", "C (2)", "It says GRADIENT."),
        ("exact", "D (2)", "It says GRADIENT."),
        ("lbfgs", "D (2)", "It says STALLED."),
    ]
    assert CUTEST.verdict(rows_of(RECORDS), PLAN).splitlines() == [
        "of 4 problems, exact solves 3, and SciPy BFGS, the best of the other minimizers, 3",
        "of 8 sentences on ends of ours, the objective refutes 1",
    ]
    plain(rows_of(RECORDS))


def test_the_profile_is_that_of_the_work():
    found = report.works(rows_of(RECORDS))
    assert found.work.tolist() == [[30, 10, 20], [10, 10, 40], [30, np.inf, np.inf], [np.inf, np.inf, 9]]
    (figure,) = CUTEST.figures(Results(tuple(RECORDS), ()), PLAN)
    assert figure.name == "minimizers_profile"


def test_without_the_package_all_is_skipped_in_one_line(monkeypatch):
    monkeypatch.setattr("jaxopt_study.studies.minimizers.cutest.find_spec", lambda name: None)
    case = CUTEST.groups(PLAN)[0].cases[0]
    reason = CUTEST.skip(case, [], PLAN)
    assert reason.startswith("the package sif2jax is not installed: python -m pip install")
    skipped = Record(**dataclasses.asdict(case), status="skipped", group="", environment="", reason=reason)
    (table,) = CUTEST.tables(rows_of([skipped, dataclasses.replace(skipped, subject="B")]), PLAN)
    assert table.rows == [("every one", "skipped")]
    assert CUTEST.verdict(rows_of([skipped]), PLAN) == ""
    assert CUTEST.figures(Results((skipped,), ()), PLAN) == []


def test_problems_are_chosen_at_equal_steps_of_the_list():
    work = list(problems.PROBLEMS.values())
    assert work == sorted(work)
    counts = {name: len(problems.chosen(make_plan(profile=name))) for name in ("smoke", "default", "full")}
    assert counts == {"smoke": 1, "default": 40, "full": len(work)}
    names = [name for name in problems.PROBLEMS if problems.PROBLEMS[name] <= problems.MOST]
    places = [names.index(name) for name in problems.chosen(make_plan(profile="default"))]
    assert set(np.diff(places)) <= {len(names) // 40, len(names) // 40 + 1}


needs_problems = pytest.mark.skipif(find_spec("sif2jax") is None, reason="sif2jax is not installed")


@needs_problems
def test_each_problem_exists_with_its_start():
    collection = load_backend("jax").newton.collection
    assert {name.partition("-")[0] for name in problems.PROBLEMS} <= set(collection.problems())
    for name, size in (("ROSENBR", 2), ("ARWHEAD-120", 120)):
        with collection.in_float64():
            assert collection.collected(name).start.size == size
    with pytest.raises(NotImplementedError, match="has no problem NOSUCH"):
        collection.collected("NOSUCH")


@needs_problems
def test_one_problem_is_run_by_ours_and_by_a_peer(monkeypatch):
    """In float64, whatever type is set; what raises is an end too."""
    backend = load_backend("jax", "float32")
    found = runs.solvers(backend)
    assert {*found} >= {*backend.newton.METHODS} - {"gauss_newton"} | {"SciPy trust-exact", "SciPy L-BFGS-B"}

    def fails(problem):
        raise FloatingPointError("no more")

    some = {"exact": found["exact"], "lbfgs": fails, "fails": fails, "SciPy BFGS": found["SciPy BFGS"]}
    monkeypatch.setattr(runs, "solvers", lambda _: some)
    value = CUTEST.task(backend, CUTEST.case("ROSENBR", "jax", "every minimizer"), None, PLAN)
    *_, output = value.run(value.start())
    kept = CUTEST.summarize(None, value.export(output), None, PLAN)
    assert kept["start"]["value"] == pytest.approx(24.2)
    exact, peer = (End(**kept["runs"][name]["end"]) for name in ("exact", "SciPy BFGS"))
    assert exact.value < 1e-15
    assert exact.value == pytest.approx(exact.told, abs=1e-18)
    assert exact.work > exact.iterations
    assert peer.value < 1e-10
    assert kept["runs"]["fails"]["words"] == "FloatingPointError: no more"
    assert kept["runs"]["fails"]["end"]["work"] == 0
    assert (kept["runs"]["lbfgs"]["status"], kept["runs"]["fails"]["status"]) == ("RAISED", "")  # "" is not ours
    load_backend("jax")


@needs_problems
def test_the_work_of_optimistix_is_its_evaluations_and_its_end_is_in_words():
    pytest.importorskip("optimistix")
    collection, peers = (getattr(load_backend("jax").newton, name) for name in ("collection", "peers"))
    calls = []
    with collection.in_float64():
        problem = collection.collected("ROSENBR")

        def counted(x):
            jax.debug.callback(lambda: calls.append(1))
            return problem.fun(x)

        for limit, words in ((2, "The maximum number of steps was reached"), (1000, "Converged.")):
            calls.clear()
            answer = peers.peers()["optimistix BFGS"](SimpleNamespace(fun=counted, start=problem.start), limit)
            jax.effects_barrier()
            assert answer.work == len(calls) == answer.iterations
            assert (answer.iterations == 20) == (limit == 2)  # ten trials for each iteration
            assert answer.reason.startswith(words)
        assert np.allclose(answer.x, 1, atol=1e-6)


@needs_problems
def test_the_best_of_the_points_around_is_found():
    """From a point on the way, a step is lower; at the minimum none is."""
    collection = load_backend("jax").newton.collection
    with collection.in_float64():
        problem = collection.collected("ROSENBR")
        assert runs._lowest_around(problem, np.array([0.5, 0.3])) < problem.at([0.5, 0.3])[0] - 1e-3
        assert runs._lowest_around(problem, np.ones(2)) == 0

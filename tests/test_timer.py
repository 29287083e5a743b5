"""The timer's study: traps are caught, and trials called wrongly are counted."""

import dataclasses

import numpy as np
import pytest

from jaxopt_study import verdict
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.task import Skipped
from jaxopt_study.studies import timer
from tests.conftest import load_backend, make_plan

PLAN = make_plan(studies=("timer",), profile="default", frameworks=("jax",))
VARYING = (0.75, 1.25, 0.8, 1.2, 1.0, 0.9, 1.1, 0.85, 1.15)
STEADY = (1.0, 1.001, 0.999, 1.0, 1.002, 0.998, 1.0, 1.001, 0.999)


@pytest.mark.parametrize("framework", ["jax", "torch"])
@pytest.mark.parametrize("name", timer.TRAPS)
def test_a_trap_is_caught(framework, name):
    backend = load_backend(framework)
    try:
        said = timer.attempt(backend, name)
    except Skipped as reason:
        pytest.skip(str(reason))
    words = {"asynchronous": "dispatch", "recompiling": "compiled anew", "not_returned": "returned nothing"}
    assert words[name] in said


def measured(slower):
    """Return the records of a run in which B takes slower(trial) times as long as A, and every trap is caught."""
    records = []
    for group in timer.TIMER.groups(PLAN):
        for case in group.cases:
            factor = slower(case.subject) if case.method == "B" else 1.0
            facts = dataclasses.asdict(case) | {"status": "ok", "group": case.subject, "environment": ""}
            value = {"words": "it compiled anew"} if case.subject == timer.TRAP else {}
            records.append(Record(**facts, samples=tuple(factor * s for s in STEADY), value=value))
    return records


def as_planted(subject):
    return 1.1 if subject.startswith("planted") else 1.0


def read(records):
    results = verdict.evaluate(records, PLAN)
    (section,) = verdict.sections(results, PLAN)
    assert not section.error
    return results, section


def test_a_timer_that_calls_all_trials_rightly_passes():
    results, section = read(measured(as_planted))
    assert [(f.distance, f.bound, f.agrees) for f in results.findings] == [(0, 1, True)] * 2 + [(0, 0, True)] * 3
    assert section.verdict == "the timer passes its tests here"
    assert {row["passed"] for row in section.rows} == {True}


@pytest.mark.parametrize(
    ("kind", "said", "words"),
    [("equal", 1.2, "equal methods called different"), ("planted", 1.0, "10 % slower not found")],
)
def test_trials_called_wrongly_are_counted_and_named(kind, said, words):
    """One may be wrong, and two may not."""
    for wrong in (1, 2):
        chosen = dict.fromkeys((f"{kind} {number + 1}" for number in range(wrong)), said)
        results, section = read(measured(lambda subject, chosen=chosen: chosen.get(subject, as_planted(subject))))
        (found,) = [f for f in results.findings if words in f.what]
        assert (found.distance, found.bound, found.agrees) == (wrong, 1, wrong == 1)
        assert {case.subject.split()[0] for case in found.cases} == {kind}
        cases = 2 * timer.TRIALS[kind].times
        assert (len(found.cases), found.subject) == (cases, f"timer/{kind} 1/jax/A and {cases - 1} more")
        assert ("FAILS here: jax" in section.verdict) == (wrong == 2)


@pytest.mark.parametrize(("kind", "said"), [("equal", 1.6), ("planted", 1.0)])
def test_where_the_timer_itself_says_unstable_trials_refute_nothing_and_show_nothing(kind, said):
    """As on a machine that is shared: B's times vary by half around what they are called."""
    chosen = {f"{kind} {number + 1}": said for number in range(2)}
    records = [
        dataclasses.replace(r, samples=tuple(np.array(r.samples) * VARYING))
        if r.subject in chosen and r.method == "B"
        else r
        for r in measured(lambda subject: chosen.get(subject, as_planted(subject)))
    ]
    results, section = read(records)
    (found,) = [f for f in results.findings if f.agrees is None]
    assert (found.distance, found.bound) == (2, 1)
    assert found.note == "the machine was too unsteady: 2 of these ratios are marked as unstable"
    assert section.verdict.startswith("the machine was too unsteady to test the timer: jax: ")
    assert [row[1] for row in section.tables[0].rows].count("unsteady") == 1
    assert verdict.status(results, [section]) == 0


def test_where_trials_failed_no_more_of_the_rest_may_be_wrong():
    """Of 19 equal methods none, since of 20 one may."""
    records = [r for r in measured(lambda s: 1.2 if s == "equal 1" else as_planted(s)) if r.subject != "equal 2"]
    results, _ = read(records)
    assert [(f.distance, f.bound) for f in results.findings if f.agrees is False] == [(1, 0)]


def test_a_trap_that_is_not_caught_is_named():
    records = [
        dataclasses.replace(r, value={"words": ""}) if r.method == "recompiling" else r for r in measured(as_planted)
    ]
    results, section = read(records)
    (found,) = [f for f in results.findings if f.agrees is False]
    assert (found.distance, found.bound) == (1, 0)
    assert [case.method for case in found.cases] == ["recompiling"]
    assert [row["words"] for row in section.rows if row["passed"] is False] == ["NOT CAUGHT"]

"""What may be shown: a disagreement withholds the times of its own cases, everywhere, and of no others."""

import dataclasses
import json

import pyperf
import pytest

from jaxopt_study import session, verdict
from jaxopt_study.bench import environment, record
from jaxopt_study.bench.finding import Finding, agreement, compare
from jaxopt_study.bench.results import Results
from jaxopt_study.report import export
from jaxopt_study.session import Beside
from jaxopt_study.studies import STUDIES
from tests.cases import a_record
from tests.conftest import make_plan
from tests.here import workers_here

STUDIED = ("optimizers", "spread", "derivatives")


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The outcome of a whole run of three studies that share their subjects' names."""
    folder = tmp_path_factory.mktemp("recorded") / "run"
    plan = make_plan(studies=STUDIED, optimizers=("adam", "sgd"), dtype="float32", repeats=2)
    with workers_here("jax", "torch"):
        return session.run(plan, folder, False, lambda *_: None)


@pytest.fixture(scope="module")
def recorded(ran):
    return ran.folder


def copied(source, target, change):
    """Write a run's records, changed, into another folder; return its plan."""
    target.mkdir()
    where = environment.read(source)
    environment.write(target, where)
    record.append(target, [change(r) for r in record.read(source)])
    return environment.plan_of(where)


def planted(r):
    """Move one parameter of torch's Adam."""
    if (r.study, r.subject, r.framework) != ("optimizers", "adam", "torch"):
        return r
    return dataclasses.replace(r, value={**r.value, "params": [9.0, *r.value["params"][1:]]})


@pytest.fixture(scope="module")
def bad(recorded, tmp_path_factory):
    """The outcome of the same records with a disagreement, beside the run that had none."""
    folder = tmp_path_factory.mktemp("bad") / "run"
    plan = copied(recorded, folder, planted)
    return session.report(plan, folder, Beside(against=recorded, export=("pyperf", "csv")))


def test_a_planted_disagreement_withholds_exactly_its_own_times(recorded, bad):
    adam = {"optimizers/adam/jax/native_scan", "optimizers/adam/torch/notebook"}
    everything = {r.case.key for r in record.read(recorded)}

    assert bad.status == 1
    assert set(bad.summary["withheld"]) == adam
    shown = {
        f"optimizers/{row['optimizer']}/{row['framework']}/{row['loop']}"
        for row in bad.summary["studies"]["optimizers"]["optimizers"]
        if "step_seconds" in row
    }
    assert shown == {key for key in everything if key.startswith("optimizers")} - adam
    assert {row["case"] for row in bad.summary["against"]} == everything - adam
    exported = pyperf.BenchmarkSuite.load(str(bad.folder / export.PYPERF)).get_benchmarks()
    assert {benchmark.get_name() for benchmark in exported} == everything - adam
    cells = [cell for table in bad.tables for row in table.rows for cell in row]
    assert cells.count("withheld: values disagree") == 2
    json.dumps(bad.summary, allow_nan=False)


def test_the_report_shows_every_comparison_with_its_bound(bad):
    (table,) = [table for table in bad.tables if table.title == "Comparisons"]
    assert len(table.rows) == len(bad.findings)
    (wrong,) = [f for f in bad.findings if f.agrees is False]
    (line,) = [row for row in table.rows if "DISAGREES" in row[-1]]
    assert "final parameters" in line[1]
    assert line[3] == f"{wrong.bound:.1e}"
    assert "VALUES DISAGREE in 1 of" in bad.verdict
    assert f"bound {wrong.bound:.2g}" in bad.verdict
    assert f"- {wrong.subject}: {wrong.what}" in (bad.folder / "report.md").read_text()


def test_nothing_is_withheld_where_all_agree(ran):
    assert (ran.status, ran.summary["withheld"]) == (0, [])
    (table,) = [t for t in ran.tables if t.title == "Comparisons"]
    assert {row[-1].split(";")[0] for row in table.rows} <= {"agrees", "not comparable"}


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are made, but not drawn: that takes a second."""
    monkeypatch.setattr(verdict, "save", lambda *_: None)


@pytest.mark.parametrize("method", ["findings", "rows", "tables", "figures", "verdict"])
def test_an_error_in_a_studys_own_code_costs_its_section_alone(method, recorded, tmp_path, monkeypatch, undrawn):
    plan = copied(recorded, tmp_path / "run", lambda r: r)
    (spread,) = STUDIES["spread"].experiments

    def fail(*_):
        return {}["planted"]

    monkeypatch.setattr(type(spread), method, fail)
    outcome = session.report(plan, tmp_path / "run")
    assert outcome.status == 1
    assert "KeyError: 'planted' (test_verdict.py:" in outcome.verdict
    assert any(table.title.startswith("What it took") for table in outcome.tables)
    withheld = {r.case.key for r in record.read(recorded) if r.study == "spread"} if method == "findings" else set()
    assert set(outcome.summary["withheld"]) == withheld


def test_a_figure_that_cannot_be_drawn_says_so(recorded, tmp_path, monkeypatch):
    plan = copied(recorded, tmp_path / "run", lambda r: r)
    (optimizers,) = STUDIES["optimizers"].experiments
    figures = type(optimizers).figures

    def broken(self, results, plan):
        return [dataclasses.replace(f, make=lambda: {}["planted"]) for f in figures(self, results, plan)]

    monkeypatch.setattr(type(optimizers), "figures", broken)
    outcome = session.report(plan, tmp_path / "run")
    assert outcome.status == 1
    assert "The report of optimizers FAILED: KeyError: 'planted' (test_verdict.py:" in outcome.verdict
    assert any(table.title.startswith("What was learned") for table in outcome.tables)
    assert "not drawn: KeyError" in (tmp_path / "run" / "time_per_step.svg").read_text()


def test_a_distance_is_held_to_its_bound():
    case = a_record().case
    assert compare("x", [case], 1.0, 1.0).agrees is True
    assert compare("x", [case], 1.1, 1.0).agrees is False
    assert compare("x", [case], float("nan"), 1.0).agrees is False
    assert compare("x", [case], float("inf"), 1.0).agrees is False


def test_a_case_agrees_if_all_findings_that_name_it_do():
    case, other = a_record().case, a_record(subject="sgd").case
    good, bad = compare("x", [case], 0, 1), compare("y", [case, other], 2, 1)
    unclear = Finding("z", (case,), 1, 1, None, "chaotic")
    assert agreement(case, [good]) is True
    assert agreement(case, [good, bad]) is agreement(other, [good, bad]) is False
    assert agreement(case, [good, unclear]) is None
    assert agreement(case, [bad, unclear]) is False
    assert agreement(other, [good]) is None


def test_what_cannot_be_compared_keeps_its_time():
    r = a_record(samples=(1.0,))
    unclear = Finding("loss", (r.case,), 1.0, 0.1, None, "chaotic")
    assert Results((r,), (unclear,)).shows(r)
    assert not Results((r,), (compare("loss", [r.case], 1.0, 0.1),)).shows(r)
    assert not Results((dataclasses.replace(r, status="failed"),), ()).shows(dataclasses.replace(r, status="failed"))
    assert verdict.status(Results((r,), (unclear,)), []) == 0


def test_an_earlier_run_is_judged_by_its_own_plan(recorded, tmp_path, undrawn):
    """Its float32 values, called float64, are far beyond float64's bounds: their times may not be compared."""
    plan = copied(recorded, tmp_path / "now", lambda r: r)
    copied(recorded, tmp_path / "before", lambda r: r)
    where = environment.read(tmp_path / "before")
    environment.write(tmp_path / "before", where | {"plan": where["plan"] | {"dtype": "float64"}})
    outcome = session.report(plan, tmp_path / "now", Beside(against=tmp_path / "before"))
    assert {row["case"].split("/")[0] for row in outcome.summary["against"]} == {"spread", "derivatives"}

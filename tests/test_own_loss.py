"""The minimizers on a training loss that has no closed form."""

from dataclasses import replace

import numpy as np
import pytest

from jaxopt_study.bench.results import Results
from jaxopt_study.config import Config, check
from jaxopt_study.studies.newton.own_loss import METHODS, OwnLoss
from jaxopt_study.studies.own import chosen
from tests.cases import records_of

ASKED = Config(studies=("newton",), workload="wine", model="mlp:3", dtype="float64", profile="smoke")


@pytest.fixture(scope="module")
def measured(backends):
    plan = check(ASKED)
    return plan, records_of(OwnLoss(), plan, backends)


def test_each_minimizer_lowers_the_loss_in_both_frameworks(measured):
    plan, records = measured
    findings = OwnLoss().findings(records, plan)
    assert len(records) == 2 * len(METHODS)
    assert len(findings) == 2 * len(records) + 1
    assert all(finding.agrees for finding in findings)
    assert all(r.value["value"] < 1e-3 < r.value["start"] for r in records)
    assert all(r.value["steps"] > 3 and r.value["rows"] == 106 for r in records)


@pytest.mark.parametrize(
    ("name", "by", "words"), [("again", 1e-9, "with the loss there"), ("start", -10.0, "rise of the loss")]
)
def test_a_wrong_value_and_a_rise_are_found(measured, name, by, words):
    plan, records = measured
    wrong = replace(records[0], value=records[0].value | {name: records[0].value[name] + by})
    doubtful = [f for f in OwnLoss().findings([wrong, *records[1:]], plan) if not f.agrees]
    assert any(words in f.what for f in doubtful)
    assert all(records[0].case in f.cases for f in doubtful)


def test_a_second_run_and_its_export_compile_nothing(measured, backends):
    """The timer refuses a sample in which something is compiled, and asks for the value of each run."""
    plan, records = measured
    backend, workload = backends["jax"], chosen.workload(plan, None)
    task = OwnLoss().task(backend, next(r.case for r in records if r.method == "lbfgs"), workload, plan)
    counts = []
    for _ in range(2):
        *_, output = task.run(task.start())
        task.export(output)
        counts.append(backend.runtime.compilations())
    assert counts[0] == counts[1]


def test_rows_and_words_come_of_the_records(measured):
    plan, records = measured
    results = Results(tuple(records), tuple(OwnLoss().findings(records, plan)))
    rows = OwnLoss().rows(results, plan)
    (table,) = OwnLoss().tables(rows, plan)
    assert "wine with mlp:3, 106 rows, float64" in table.title
    assert {row["status"] for row in rows} == {"ok"}
    lowest = min(np.array([r.value["value"] for r in records]))
    assert f"reaches the lowest training loss of wine with mlp:3: {lowest:.3g}" in OwnLoss().verdict(rows, plan)
    assert OwnLoss().groups(check(replace(ASKED, workload="digits-linear", model=None))) == []

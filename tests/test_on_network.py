"""The Hessian of any workload's network: its methods are compared with each other and with differences."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from jaxopt_study.bench.task import TooLarge
from jaxopt_study.config import Config, check
from jaxopt_study.studies.hessian import on_network
from jaxopt_study.studies.hessian.methods import OWN
from jaxopt_study.studies.hessian.on_network import OnNetwork
from jaxopt_study.studies.hessian.on_workload import OnWorkload
from jaxopt_study.studies.own import chosen
from tests.cases import records_of

ASKED = Config(studies=("hessian",), workload="wine", model="mlp:4", dtype="float64", profile="smoke")


@pytest.fixture(scope="module")
def measured(backends):
    """Return the plan, and a record of each case of a small network with tanh."""
    plan = check(ASKED)
    return plan, records_of(OnNetwork(), plan, backends)


def test_methods_and_frameworks_agree_on_a_network(measured):
    plan, records = measured
    findings = OnNetwork().findings(records, plan)
    assert len(records) == 8
    assert len(findings) == 6 + 1 + 5 + 6
    assert all(finding.agrees for finding in findings)
    assert max(f.distance for f in findings if "differences" not in f.what) < 4e-15  # 8.1e-16 was the worst seen
    assert 0 < max(f.distance for f in findings if "differences" in f.what) < 5e-9  # 5.7e-10


@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_a_wrong_hessian_is_found(measured, framework):
    plan, records = measured
    place = next(n for n, r in enumerate(records) if (r.framework, r.method) == (framework, "hessian_blocked"))
    products = np.array(records[place].value["products"])
    wrong = replace(records[place], value=records[place].value | {"products": list(products * (1 + 1e-7))})
    findings = OnNetwork().findings([*records[:place], wrong, *records[place + 1 :]], plan)
    doubtful = {case.method for f in findings if not f.agrees for case in f.cases if case.framework == framework}
    assert "hessian_blocked" in doubtful
    assert "hessian_reverse_over_reverse" not in doubtful


def test_a_known_upstream_defect_is_named_and_withholds_only_its_own_time(measured):
    plan, records = measured
    place = next(n for n, r in enumerate(records) if (r.framework, r.method) == ("torch", OWN))
    products = list(np.array(records[place].value["products"]) * 2)
    wrong = replace(records[place], value=records[place].value | {"products": products, on_network.DEFECT: True})
    findings = OnNetwork().findings([*records[:place], wrong, *records[place + 1 :]], plan)
    words = "known upstream defect: torch.func.hessian takes normalizations' mean and deviation for constants"
    assert {case for f in findings if not f.agrees for case in f.cases} == {wrong.case}
    assert all((words in f.what) == (wrong.case in f.cases) for f in findings)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_defect_is_measured_and_not_told_by_the_layer(backends, dtype):
    defects = backends["torch"].defects
    torch.manual_seed(0)
    x = torch.randn(5, 3, dtype=dtype)
    for norm, defective in ((torch.nn.LayerNorm(4), True), (torch.nn.RMSNorm(4), False), (torch.nn.Tanh(), False)):
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), norm, torch.nn.Linear(4, 2)).to(dtype)
        params = dict(model.named_parameters())
        loss = lambda p, x, model=model: (torch.func.functional_call(model, p, (x,)) ** 3).mean()  # noqa: E731
        for name, module in ((OWN, "derivatives"), ("hessian_blocked", "blocks")):
            matrix = getattr(getattr(backends["torch"], module), name)(loss)(params, x)
            explained = defects.normalization_explains(loss, params, x, matrix)
            assert explained == (defective and name == OWN), (norm, name)
        assert defects.normalization_explains(loss, params, x, 2 * matrix) == defective


def test_softmax_regression_has_its_own_experiment_and_large_models_none(backends, monkeypatch):
    plan = check(replace(ASKED, workload="digits-linear", model=None))
    assert plan.linear
    assert OnNetwork().groups(plan) == []
    assert OnWorkload().groups(plan)
    plan = check(ASKED)
    assert not plan.linear
    assert OnWorkload().groups(plan) == []
    monkeypatch.setattr(on_network, "MOST_PARAMETERS", 70)
    case = OnNetwork().groups(plan)[0].cases[0]
    with pytest.raises(TooLarge, match="the model has 71 parameters; dense Hessians are made of 70 or fewer"):
        OnNetwork().task(backends["jax"], case, chosen.workload(plan, None), plan)


def test_rows_and_words_come_of_the_records(measured):
    from jaxopt_study.bench.results import Results

    plan, records = measured
    results = Results(tuple(records), tuple(OnNetwork().findings(records, plan)))
    rows = OnNetwork().rows(results, plan)
    (table,) = OnNetwork().tables(rows, plan)
    assert "wine with mlp:4, 64 rows, 71 parameters, float64" in table.title
    assert len(table.rows) == 8
    assert "the dense Hessian of wine with mlp:4 takes 1.00 s in jax" in OnNetwork().verdict(rows, plan)

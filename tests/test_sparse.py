"""The sparse Hessian: its values, its zeros, and what is said where there is none."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.differentiate

from jaxopt_study.bench.case import Group
from jaxopt_study.bench.results import Results
from jaxopt_study.bench.task import Skipped
from jaxopt_study.studies.hessian import sparse
from jaxopt_study.studies.hessian.sparse import SPARSE, Sparse
from tests.cases import records_of
from tests.conftest import load_backend, make_plan


@pytest.fixture(scope="module")
def measured(backends):
    """Return the plan, and a record of each case of a chain of six but PyTorch's sparse one."""
    pytest.importorskip("asdex")
    plan = make_plan(studies=("hessian",))
    methods = {"jax": (*sparse.DENSE, SPARSE), "torch": sparse.DENSE}
    cases = tuple(Sparse().case("chain of 6", f, m) for f, names in methods.items() for m in names)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sparse, "groups", lambda self, plan: [Group(cases, 1)])
        return plan, records_of(Sparse(), plan, backends)


def test_the_formula_is_that_of_the_function():
    x = sparse.start(6)
    expected = scipy.differentiate.hessian(lambda x: sparse.chain(x, None), x).ddf
    np.testing.assert_allclose(sparse.chain_hessian(x), expected, rtol=0, atol=4e-7)  # 3.4e-8 measured


def test_every_method_gives_the_formula_and_the_sparse_one_in_few_products(measured):
    plan, records = measured
    findings = Sparse().findings(records, plan)
    assert len(records) == 5
    assert all(finding.agrees for finding in findings), findings
    products = {(r.framework, r.method): r.value["products"] for r in records}
    assert products["jax", SPARSE] == 3
    assert products["jax", "hessian_blocked"] == 6
    wrong = next(r for r in records if r.method == SPARSE)
    wrong = replace(wrong, value={**wrong.value, "residual": 1e-6})
    assert not Sparse().findings([wrong], plan)[0].agrees


@pytest.mark.filterwarnings("ignore:Coloring used")
def test_labels_and_a_batch_of_another_type_are_taken():
    pytest.importorskip("asdex")
    import jax
    import jax.numpy as jnp

    backend = load_backend("jax", "float32")
    p, labels = jnp.arange(1.0, 5.0), jnp.array([0, 2, 2])
    for batch in ((labels, labels > 1), (labels.astype("int8"), jnp.ones(3, "float16"))):
        loss = lambda p, b: ((p[b[0]] ** 2) * (1 + b[1])).sum() * p[0]  # noqa: E731
        found = backend.sparse.hessian_sparse(loss)(p, batch).todense()
        np.testing.assert_array_equal(found, jax.hessian(loss)(p, batch))


def test_pytorch_has_none_and_says_so(backends):
    plan = make_plan(studies=("hessian",))
    case = Sparse().case("chain of 6", "torch", SPARSE)
    with pytest.raises(Skipped, match="asdex colours the Hessians of JAX's functions alone"):
        Sparse().task(backends["torch"], case, None, plan)


def test_without_the_package_it_is_named(monkeypatch):
    backend = load_backend("jax")
    monkeypatch.setattr(backend.sparse, "find_spec", lambda name: None)
    with pytest.raises(NotImplementedError, match=r"needs the package asdex: pip install 'jaxopt_study\[sparse\]'"):
        backend.sparse.hessian_sparse(sparse.chain)


def test_the_pattern_holds_for_another_batch_of_the_same_shape(backends):
    pytest.importorskip("asdex")
    array = backends["jax"].runtime.from_numpy
    hessian = backends["jax"].sparse.hessian_sparse(lambda p, weights: (weights * p["a"] ** 3).sum() * p["b"])
    params = {"a": array(np.array([1.0, 2.0])), "b": array(np.array(3.0))}
    for weights in ([1.0, 0.0], [0.0, 1.0]):
        w, a = np.array(weights), np.array([1.0, 2.0])
        expected = np.block([[np.diag(18 * w * a), (3 * w * a**2)[:, None]], [3 * w * a**2, 0.0]])
        np.testing.assert_allclose(hessian(params, array(w)).todense(), expected)


def test_rows_and_words_come_of_the_records(measured):
    plan, records = measured
    rows = Sparse().rows(Results(tuple(records), tuple(Sparse().findings(records, plan))), plan)
    (table,) = Sparse().tables(rows, plan)
    assert len(table.rows) == len(records)

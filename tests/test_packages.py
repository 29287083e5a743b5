"""Optimizers of other packages: a package of our own stands for one that is installed."""

import pytest

from jaxopt_study import session, studies
from jaxopt_study.dictionary.packages import PEERS, Peer
from jaxopt_study.studies.dictionary import packages
from jaxopt_study.studies.experiment import Study
from tests.conftest import make_plan
from tests.here import workers_here

CODE = """
import torch


class Signs(torch.optim.Optimizer):
    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for leaf in self.param_groups[0]["params"]:
            leaf -= self.param_groups[0]["lr"] * torch.sign(leaf.grad)


class Averaged(Signs):
    training = False

    def train(self):
        self.training = True

    def step(self, closure=None):
        assert self.training
        super().step()
"""
PLANTED = (
    Peer("planted_optimizers.Signs", {"lr": 1e-3}, "optax.sign_sgd(1e-3)", True),
    Peer("planted_optimizers.Averaged", {"lr": 1e-3}, "optax.sign_sgd(1e-3)", True),
    Peer("planted_optimizers.Signs", {"lr": 1e-2}, "optax.sign_sgd(1e-3)", True),
    Peer("planted_optimizers.Signs", {"lr": 0.1}, "optax.sgd(0.1)"),
    Peer("planted_broken.Lion", {"lr": 1e-3}, "optax.lion(1e-3)", True),
    Peer("planted_absent.Lion", {"lr": 1e-3}, "optax.lion(1e-3)", True),
    Peer("planted_optimizers.Rare", {"lr": 1e-3}),
)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packages")
    (folder / "planted_optimizers.py").write_text(CODE)
    (folder / "planted_broken.py").write_text("import another_package_that_is_not_there")
    with pytest.MonkeyPatch.context() as patch, workers_here("jax", "torch"):
        patch.syspath_prepend(folder)
        patch.setattr(packages, "PEERS", PLANTED)
        patch.setattr(packages, "BY_KEY", {peer.key: peer for peer in PLANTED})
        patch.setitem(studies.STUDIES, "dictionary", Study("The same?", (packages.Packages(),)))
        plan = make_plan(studies=("dictionary",), profile="default")
        yield session.run(plan, folder / "run", False, lambda *_: None)


def test_each_optimizer_is_compared_with_optaxs(outcome):
    assert [finding.agrees for finding in outcome.findings] == [True, True, False]
    wrong = outcome.findings[-1]
    assert wrong.distance > 0.1  # 100 steps of a sign, 0.01 and 0.001 long
    rows = [row for table in outcome.tables for row in table.rows if row[0].startswith("planted")]
    lines = {row[0]: f"| {' | '.join(row)} |" for row in rows}
    assert "| the same " in lines["planted_optimizers.Signs(lr=0.001)"]
    assert "| NO LONGER THE SAME " in lines["planted_optimizers.Signs(lr=0.01)"]
    assert "| another one " in lines["planted_optimizers.Signs(lr=0.1)"]
    assert (
        "cannot be imported: No module named 'another_package_that_is_not_there'"
        in lines["planted_broken.Lion(lr=0.001)"]
    )
    assert "| not installed" in lines["planted_absent.Lion(lr=0.001)"]
    assert "| optax has none " in lines["planted_optimizers.Rare(lr=0.001)"]


def test_the_table_asks_for_known_names_once():
    assert len({peer.key for peer in PEERS}) == len(PEERS)
    assert all(peer.expression.startswith("optax.") for peer in PEERS if peer.same)

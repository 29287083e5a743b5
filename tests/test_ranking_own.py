"""The ranking of a user's own models, losses and optimizers: they join by the same tables, or a line says why not."""

import importlib

import numpy as np
import optax
import pytest

from jaxopt_study.bench.task import Skipped
from jaxopt_study.config import Config, ConfigError, check
from jaxopt_study.studies import trained
from jaxopt_study.studies.own import chosen, twins
from jaxopt_study.studies.ranking import points, problems, trainings
from tests.conftest import compiled_quickly, load_backend, make_plan

PLUGIN = """
from jaxopt_study import register


def jax_net():
    import flax.linen as nn

    return nn.Sequential([nn.Dense(3)])


def torch_net():
    import torch

    return torch.nn.Sequential(torch.nn.Linear(13, 3))


def jax_twice(outputs, targets):
    import optax

    return 2 * optax.softmax_cross_entropy_with_integer_labels(outputs, targets).mean()


def torch_twice(outputs, targets):
    import torch

    return 2 * torch.nn.functional.cross_entropy(outputs, targets)


def jax_lion(learning_rate):
    import optax

    return optax.lion(learning_rate)


register.model("net", jax=jax_net, torch=torch_net, modules={"layers_0": "0"})
register.loss("twice", jax=jax_twice, torch=torch_twice)
register.optimizer("mine", jax=jax_lion)
register.optimizer("adabelief", jax=jax_lion)
register.optimizer("decayed", torch="AdamW(weight_decay=0.1)")
register.optimizer("quick", torch="AdamW(lr=0.5)")
"""
CALL = "AdamW(lr=1e-2, weight_decay=0.1)"


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A plan with all of a user's own, and its workload as a run attaches it; the workers are this process."""
    path = tmp_path_factory.mktemp("plugin") / "mine.py"
    path.write_text(PLUGIN)
    names = ("adam", "mine", "decayed", "quick", CALL)
    options = {"workload": "wine", "model": "net", "loss": "twice", "optimizers": names, "dtype": "float64"}
    plan = check(Config(studies=("ranking",), profile="smoke", epochs=2, plugin=str(path), **options))

    def call(framework, place, *arguments):
        module, _, name = place.partition(":")
        return getattr(importlib.import_module(module), name)(load_backend(framework), plan, *arguments)

    with compiled_quickly():
        yield twins.attach(chosen.workload(plan, None), plan, plan.frameworks, call), plan


@pytest.mark.parametrize("name", ["decayed", CALL])
def test_a_users_model_loss_and_optimizer_train_alike_in_a_grid_and_in_pytorch(own, name):
    (workload, plan), (jax, torch) = own, map(load_backend, ("jax", "torch"))
    assert points.workloads(plan) == ["diabetes", "wine with net and twice"]
    here, there = (trainings.problem(b, plan.workload, workload, plan, n, 2) for b, n in ((jax, 2), (torch, 1)))
    rates = points.by_step(np.array([1e-3, 1e-1]), 2, here.orders.shape[2])
    curves = trainings.whole_grid(jax, here, name, "vmapped", plan)(rates)
    assert np.ptp(curves.validation[:, :, -1], axis=0).min() > 1e-3  # another start is another training
    for point in (0, 3):
        other = trainings.one_training(torch, "torch", there, name, plan)(rates[point])
        for part in curves._fields:
            found, expected = getattr(curves, part)[0, point], getattr(other, part)
            np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_a_registered_loss_has_no_target(own):
    workload, plan = own
    problem = trainings.problem(load_backend("jax"), plan.workload, workload, plan, 1, 1)
    assert np.isnan(problems.target(problem))


def test_a_users_default_rate_is_its_calls_or_torchs_or_the_plans(own):
    _, plan = own
    rates = {name: points.default_rate(name, plan) for name in (*plan.optimizers, "Adadelta()", "SGD(momentum=0.9)")}
    assert rates == {
        "adam": 1e-3,
        "mine": plan.learning_rate,
        "decayed": plan.learning_rate,
        "quick": 0.5,
        CALL: 1e-2,
        "Adadelta()": 1.0,
        "SGD(momentum=0.9)": 1e-3,
    }


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda rate: optax.inject_hyperparams(optax.adam)(learning_rate=rate), "its state holds the learning rate"),
        (lambda rate: optax.adam(0 * rate + 1e-3), "its steps do not depend on the learning rate"),
        (lambda rate: optax.adam(float(rate)), "it needs its learning rate as a number of Python"),
    ],
)
def test_an_optimizer_whose_rate_cannot_be_data_says_why(make, reason):
    backend = load_backend("jax")
    params = {"w": np.ones(2)}
    backend.registered.check_by_rate(optax.adam, params)
    with pytest.raises(NotImplementedError, match=reason):
        backend.registered.check_by_rate(make, params)


def test_a_learning_rate_of_zero_is_skipped():
    with pytest.raises(Skipped, match="a learning rate of 0 has no others around it"):
        points.default_rate("SGD(lr=0)", make_plan())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"frameworks": ("torch",)}, "nothing to run: the study ranking has no case for torch"),
        ({"batch_size": 10**9}, "--batch-size 1000000000 is more than 1000000"),
        ({"batch_size": 10**6}, "--batch-size 1000000 is more than the 898 rows for training"),
        ({"optimizers": ("lion",), "studies": ("ranking", "spread")}, "unknown optimizer 'lion'"),
    ],
)
def test_what_cannot_be_ranked_is_refused_in_one_line(options, words):
    with pytest.raises(ConfigError) as refused:
        check(Config(**({"studies": ("ranking",)} | options)))
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_ranking_alone_has_more_names_and_a_plugins_go_before_them(own):
    _, plan = own
    assert check(Config(studies=("ranking",), optimizers=("lion", "muon"))).optimizers == ("lion", "muon")
    table, mine = load_backend("jax").more_optimizers.OPTIMIZERS, make_plan()
    for name, given in (("adabelief", plan), ("adabelief", mine), ("lion", plan)):
        taken = trained.by_rate(load_backend("jax"), "jax", name, given) is table[name]
        assert taken == (points.ranked(name, given) is not None) == ((name, given) != ("adabelief", plan))
    assert points.default_rate("lion", mine) == 1e-4


def test_an_optimizer_that_a_backend_lacks_is_skipped_there():
    with pytest.raises(NotImplementedError, match="this backend has no such optimizer"):
        trained.by_rate(load_backend("torch"), "torch", "lion", make_plan())

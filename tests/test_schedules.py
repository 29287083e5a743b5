"""Schedulers of torch as functions of the number of steps made: at every step, for options drawn at random."""

import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_study import dictionary
from jaxopt_study.dictionary.options import DictionaryError
from jaxopt_study.dictionary.schedules import REFUSED, RULES
from tests.conftest import load_backend
from tests.test_porting import follow, network, parameters

SCHEDULERS = torch.optim.lr_scheduler
STEPS = 260


@pytest.fixture(autouse=True, scope="module")
def loaded():
    return [load_backend(name) for name in ("jax", "torch")]


def an_optimizer(groups=1):
    leaves = [torch.nn.Parameter(torch.ones(2)) for _ in range(groups)]
    return torch.optim.SGD([{"params": [leaf], "lr": 0.1 * (n + 1)} for n, leaf in enumerate(leaves)], momentum=0.9)


whole = st.integers
share = st.sampled_from([0.0, 0.1, 0.5, 0.99])
OPTIONS = {
    "StepLR": {"step_size": whole(1, 40), "gamma": share},
    "MultiStepLR": {"milestones": st.lists(whole(0, 50), max_size=5).map(sorted), "gamma": share},
    "ConstantLR": {"factor": st.sampled_from([0.1, 1 / 3, 1.0]), "total_iters": whole(0, 40)},
    "LinearLR": {"start_factor": st.sampled_from([0.1, 1 / 3, 1.0]), "end_factor": share, "total_iters": whole(1, 40)},
    "ExponentialLR": {"gamma": st.sampled_from([0.9, 0.99, 1.0, 1.01])},
    "PolynomialLR": {"total_iters": whole(1, 300), "power": st.sampled_from([0.5, 1.0, 2.5])},
    "CosineAnnealingLR": {"T_max": whole(1, 300), "eta_min": st.sampled_from([0.0, 0.01, 0.3])},
    "CosineAnnealingWarmRestarts": {"T_0": whole(1, 50), "T_mult": whole(1, 3), "eta_min": share},
    "CyclicLR": {
        "base_lr": st.just(0.01),
        "max_lr": st.sampled_from([0.1, [0.1, 0.3]]),
        "step_size_up": whole(1, 40),
        "step_size_down": st.none() | whole(1, 40),
        "mode": st.sampled_from(["triangular", "triangular2", "exp_range"]),
        "gamma": st.sampled_from([0.9, 1.0]),
        "cycle_momentum": st.booleans(),
    },
    "OneCycleLR": {
        "max_lr": st.sampled_from([0.1, [0.1, 0.3]]),
        "total_steps": whole(STEPS, 2 * STEPS),
        "pct_start": st.sampled_from([0.1, 0.3, 0.5]),
        "anneal_strategy": st.sampled_from(["cos", "linear"]),
        "three_phase": st.booleans(),
        "div_factor": st.sampled_from([10.0, 25.0]),
        "final_div_factor": st.sampled_from([10.0, 1e4]),
    },
}
ALONE = ("StepLR", "MultiStepLR", "ConstantLR", "LinearLR", "ExponentialLR", "PolynomialLR")
"""What may be chained: these multiply the rate."""


@st.composite
def makers(draw, names):
    """Draw a scheduler: a function that makes it of an optimizer."""
    name = draw(st.sampled_from(names))
    options = {option: draw(values) for option, values in OPTIONS[name].items()}
    return lambda optimizer: getattr(SCHEDULERS, name)(optimizer, **options)


@st.composite
def sequences(draw):
    made = draw(st.lists(makers([*ALONE, "CosineAnnealingLR", "CosineAnnealingWarmRestarts"]), min_size=2, max_size=3))
    steps = sorted(draw(st.lists(whole(1, 80), min_size=len(made) - 1, max_size=len(made) - 1, unique=True)))
    return lambda optimizer: SCHEDULERS.SequentialLR(optimizer, [make(optimizer) for make in made], milestones=steps)


@st.composite
def chains(draw):
    made = draw(st.lists(makers(ALONE), min_size=1, max_size=3))
    return lambda optimizer: SCHEDULERS.ChainedScheduler([make(optimizer) for make in made], optimizer)


DRAWN = {name: makers([name]) for name in OPTIONS} | {"SequentialLR": sequences(), "ChainedScheduler": chains()}


def rates_of(make, groups):
    """Return torch's learning rates, (steps, groups), and the functions that they are translated to."""
    optimizer = an_optimizer(groups)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's: of the order of steps, and of an epoch that SequentialLR passes
        scheduler, rates = make(optimizer), []
        codes = [dictionary.translate_schedule(scheduler, group) for group in range(groups)]
        for _ in range(STEPS):
            rates.append([float(group["lr"]) for group in optimizer.param_groups])
            optimizer.step()
            scheduler.step()
    return np.array(rates, float), codes


@pytest.mark.parametrize("name", DRAWN)
@given(data=st.data())
@settings(deadline=None, max_examples=15, derandomize=True, database=None)
def test_the_rate_is_torchs_at_every_step(name, data):
    """2.0e-13 of the largest rate was the worst, since torch's cosine adds up rounding from step to step."""
    expected, codes = rates_of(data.draw(DRAWN[name]), groups=2)
    for group, code in enumerate(codes):
        found = jax.vmap(dictionary.build(code))(jnp.arange(STEPS, dtype=jnp.int32))
        difference = np.abs(np.broadcast_to(found, STEPS) - expected[:, group]).max()
        assert difference < 1e-12 * max(0.1, expected[:, group].max()), code


@pytest.mark.parametrize(
    "make",
    [
        lambda o: SCHEDULERS.StepLR(o, np.int64(5), gamma=np.float64(0.5)),
        lambda o: SCHEDULERS.MultiStepLR(o, np.array([3, 9]), gamma=torch.tensor(0.5, dtype=torch.float64)),
        lambda o: SCHEDULERS.CosineAnnealingWarmRestarts(o, 4, eta_min=np.float64(0.01)),
        lambda o: SCHEDULERS.SequentialLR(o, [SCHEDULERS.ConstantLR(o), SCHEDULERS.StepLR(o, 5)], [np.int64(4)]),
    ],
)
def test_the_options_of_a_scheduler_may_be_numpys_or_tensors(make):
    expected, (code,) = rates_of(make, groups=1)
    found = jax.vmap(dictionary.build(code))(jnp.arange(STEPS, dtype=jnp.int32))
    assert np.abs(found - expected[:, 0]).max() < 1e-13


def test_every_scheduler_of_torch_is_translated_or_refused_with_a_word():
    base = SCHEDULERS.LRScheduler
    theirs = {n for n, k in vars(SCHEDULERS).items() if isinstance(k, type) and issubclass(k, base) and k is not base}
    theirs = {name for name in theirs if not name.startswith("_") and name != "LRScheduler"}
    assert theirs <= {*RULES, *REFUSED}
    assert set(RULES) == set(DRAWN)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda o: SCHEDULERS.LambdaLR(o, lambda step: 1.0), "LambdaLR calls a function of yours: give schedule="),
        (lambda o: SCHEDULERS.MultiplicativeLR(o, lambda step: 1.0), "MultiplicativeLR calls a function of yours"),
        (SCHEDULERS.ReduceLROnPlateau, "ReduceLROnPlateau reads the loss"),
        (lambda o: SCHEDULERS.CyclicLR(o, 0.1, 1, scale_fn=lambda x: x), "a scale_fn calls a function of yours"),
        (
            lambda o: SCHEDULERS.ChainedScheduler([SCHEDULERS.CosineAnnealingLR(o, 5)], o),
            "ChainedScheduler with CosineAnnealingLR",
        ),
        (lambda o: o, "SGD is not in the dictionary: choose from ChainedScheduler"),
        (lambda o: type("StepLR", (), {"__module__": "timm"})(), "StepLR is of timm, not torch.optim's"),
    ],
)
def test_what_is_no_function_of_the_steps_is_refused(make, words):
    with pytest.raises(DictionaryError, match=words):
        dictionary.translate_schedule(make(an_optimizer()))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("name", ["AdamW", "Adagrad", "ASGD", "Rprop"])
def test_an_optimizer_with_its_scheduler_is_followed(name, groups):
    """Warm-up and cosine, as people write it; each group with its own rate."""
    model = network()
    weights, biases = ([p for n, p in model.named_parameters() if n.endswith(end)] for end in ("weight", "bias"))
    given = [{"params": weights, "lr": 0.02}, {"params": biases}][:groups] if groups == 2 else list(model.parameters())
    optimizer = getattr(torch.optim, name)(given, lr=0.01)
    warm = SCHEDULERS.LinearLR(optimizer, start_factor=0.1, total_iters=5)
    scheduler = SCHEDULERS.SequentialLR(optimizer, [warm, SCHEDULERS.CosineAnnealingLR(optimizer, 20)], milestones=[5])
    translation = dictionary.translate(optimizer, scheduler=scheduler, model=model)
    assert translation.status == "exact under conditions"
    assert "if scheduler.step() follows each optimizer.step()" in translation.condition
    space = {}
    exec(str(translation), space)
    assert space["optimizer"].init is not None
    assert follow(translation, optimizer, parameters(model), 40, hard=False, after=scheduler.step) < 2e-14


def test_a_scheduler_of_another_optimizer_or_beside_a_schedule_is_refused():
    one, other = an_optimizer(), an_optimizer()
    scheduler = SCHEDULERS.StepLR(one, 5)
    with pytest.raises(DictionaryError, match="scheduler is not the optimizer's"):
        dictionary.translate(other, scheduler=scheduler)
    with pytest.raises(DictionaryError, match="schedule= cannot be given with scheduler="):
        dictionary.translate(one, scheduler=scheduler, schedule=lambda count: 0.1)
    with pytest.raises(DictionaryError, match="schedule= has 1 of 2 functions: give a list, one per group"):
        dictionary.translate(an_optimizer(2), schedule=lambda count: 0.1)
    with pytest.raises(DictionaryError, match="schedule= is no function"):
        dictionary.translate(one, schedule=0.1)
    both = dictionary.translate(an_optimizer(2), schedule=[lambda count: 0.1, lambda count: 0.2])
    assert [group.expression for group in both.groups] == [f"optax.sgd(schedule{n}, momentum=0.9)" for n in (0, 1)]
    exec(str(both), space := {})
    assert [float(space[f"schedule{n}"](0)) for n in (0, 1)] == pytest.approx([0.1, 0.2])


def loaded_at_another_rate(optimizer):
    optimizer.param_groups[0]["lr"] = 0.001
    return SCHEDULERS.CosineAnnealingLR(optimizer, 50)  # `initial_lr` is from before


def beside_another(optimizer):
    made = SCHEDULERS.LinearLR(optimizer, 0.5), SCHEDULERS.StepLR(optimizer, 3)
    for _ in range(4):
        optimizer.step()
        for scheduler in made:
            scheduler.step()
    return made[1]


def set_by_hand(optimizer):
    scheduler = SCHEDULERS.StepLR(optimizer, 50)
    optimizer.param_groups[0]["lr"] = 0.05
    return scheduler


def after_one_cycle(optimizer):
    parts = [SCHEDULERS.LinearLR(optimizer), SCHEDULERS.OneCycleLR(optimizer, max_lr=1.0, total_steps=50)]
    return SCHEDULERS.SequentialLR(optimizer, parts, milestones=[5])


@pytest.mark.parametrize("make", [loaded_at_another_rate, beside_another, set_by_hand, after_one_cycle])
def test_a_rate_that_is_not_the_schedulers_is_refused(make):
    """torch multiplies what it finds in the group; each of these was 0.02 to 1 of a parameter away in 30 steps."""
    optimizer = an_optimizer()
    if make is loaded_at_another_rate:
        SCHEDULERS.StepLR(optimizer, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's: of the order of steps
        scheduler = make(optimizer)
    with pytest.raises(DictionaryError, match=r"the scheduler gives the learning rate .* and the optimizer has"):
        dictionary.translate(optimizer, scheduler=scheduler)


def test_a_group_that_came_later_is_refused():
    optimizer = an_optimizer()
    scheduler = SCHEDULERS.StepLR(optimizer, 5)
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))], "lr": 0.1, "initial_lr": 0.1})
    with pytest.raises(DictionaryError, match="the scheduler knows 1 groups: one was added later"):
        dictionary.translate(optimizer, scheduler=scheduler)


def test_a_base_near_one_keeps_its_digits_in_float32():
    """0.9999 in float32, taken to the power of 10,000, is 1.7e-4 away; 1.2e-7 was measured."""
    optimizer = an_optimizer()
    code = dictionary.translate_schedule(SCHEDULERS.ExponentialLR(optimizer, 0.9999))
    with jax.enable_x64(False):
        found = float(dictionary.build(code)(jnp.int32(10_000)))
    assert abs(found / (0.1 * 0.9999**10_000) - 1) < 1e-6


def test_a_schedule_of_lbfgs_is_not_exact():
    """It counts calls of step(closure) in torch, each of many iterations."""
    optimizer = torch.optim.LBFGS([torch.nn.Parameter(torch.ones(2))], max_iter=4)
    assert dictionary.translate(optimizer, schedule=lambda count: 1.0).status == "approximate"


def test_the_place_of_a_scheduler_is_not_carried_over_and_said():
    optimizer = an_optimizer()
    scheduler = SCHEDULERS.StepLR(optimizer, 5)
    optimizer.step()
    scheduler.step()
    notes = dictionary.translate(optimizer, scheduler=scheduler).notes
    assert any("the scheduler's place, step 1" in note for note in notes)
    other = an_optimizer()
    chain = SCHEDULERS.ChainedScheduler([SCHEDULERS.StepLR(other, 5)], other)
    other.step()
    chain.step()
    assert any("step 1" in note for note in dictionary.translate(other, scheduler=chain).notes)


def sequence(optimizer, *parts, milestones=(3,)):
    return SCHEDULERS.SequentialLR(optimizer, [part(optimizer) for part in parts], milestones=list(milestones))


def chain(optimizer):
    return SCHEDULERS.ChainedScheduler([SCHEDULERS.ExponentialLR(optimizer, 0.9)], optimizer)


def linear(optimizer, total_iters=5):
    return SCHEDULERS.LinearLR(optimizer, 0.1, total_iters=total_iters)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda o: sequence(o, lambda o: sequence(o, linear, linear), linear), "SequentialLR in a SequentialLR"),
        (lambda o: sequence(o, linear, chain), "ChainedScheduler in a SequentialLR cannot be translated: torch loses"),
        (lambda o: sequence(o, chain, linear), "ChainedScheduler in a SequentialLR"),
        (lambda o: sequence(o, linear, linear, linear, milestones=[10, 5]), "milestones=[10, 5]"),
        (lambda o: sequence(o, linear, lambda o: linear(o, 0)), "a later LinearLR with total_iters=0"),
        (lambda o: SCHEDULERS.StepLR(o, 2.5), "StepLR with step_size=2.5 cannot be translated: give a whole number"),
        (lambda o: SCHEDULERS.MultiStepLR(o, [2.5, 5]), "MultiStepLR with milestones=2.5"),
        (lambda o: linear(o, 2.5), "LinearLR with total_iters=2.5"),
        (lambda o: linear(o, -1), "LinearLR with total_iters=-1"),
        (lambda o: SCHEDULERS.PolynomialLR(o, 10**10), "PolynomialLR with total_iters=10000000000"),
        (lambda o: SCHEDULERS.CosineAnnealingLR(o, 2.5), "CosineAnnealingLR with T_max=2.5"),
        (lambda o: SCHEDULERS.ExponentialLR(o, -0.5), "ExponentialLR with gamma=-0.5"),
    ],
)
def test_what_torch_takes_and_the_code_does_not_is_refused(make, words):
    """Nested, a milestone of torch comes a step early; the others ended elsewhere, or fail in torch later."""
    optimizer = an_optimizer()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = make(optimizer)
    with pytest.raises(DictionaryError, match=re.escape(words)):
        dictionary.translate_schedule(scheduler)


def test_a_cycle_keeps_its_digits_after_many_steps():
    """In float32 a fraction of all cycles was 5 % off at step 1,000,000; 7e-8 was measured."""
    optimizer = an_optimizer()
    cyclic = SCHEDULERS.CyclicLR(optimizer, 0.1, 1.0, step_size_up=7, cycle_momentum=False)
    rate = dictionary.build(dictionary.translate_schedule(cyclic))
    with jax.enable_x64(False):
        for step in (10_000, 100_003, 1_000_001):
            there = step % 14 / 7
            assert float(rate(jnp.int32(step))) == pytest.approx(0.1 + 0.9 * min(there, 2 - there), rel=1e-6)


def test_one_cycle_keeps_its_last_rate():
    """torch raises there."""
    optimizer = an_optimizer()
    scheduler = SCHEDULERS.OneCycleLR(optimizer, 1.0, total_steps=10, anneal_strategy="linear", cycle_momentum=False)
    rate = dictionary.build(dictionary.translate_schedule(scheduler))
    assert float(rate(9)) == float(rate(20)) > 0

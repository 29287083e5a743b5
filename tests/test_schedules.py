"""Schedulers of torch as functions of the number of steps made: at every step, for options drawn at random."""

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
            rates.append([group["lr"] for group in optimizer.param_groups])
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
    plain = translation.groups[0].status
    assert translation.status == plain
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
    with pytest.raises(DictionaryError, match="one schedule for 2 groups"):
        dictionary.translate(an_optimizer(2), schedule=lambda count: 0.1)


def test_the_place_of_a_scheduler_is_not_carried_over_and_said():
    optimizer = an_optimizer()
    scheduler = SCHEDULERS.StepLR(optimizer, 5)
    optimizer.step()
    scheduler.step()
    notes = dictionary.translate(optimizer, scheduler=scheduler).notes
    assert any("the scheduler's place, step 1" in note for note in notes)

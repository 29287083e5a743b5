"""Schedulers, clippings and initializers by name: read from a script's own words, and the same as torch's."""

import inspect
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
from jaxopt_study.dictionary.__main__ import main
from jaxopt_study.dictionary.allowed import REQUIRED, DictionaryError
from jaxopt_study.dictionary.named import AROUND, WITHOUT_TARGET
from jaxopt_study.dictionary.options import IMPLEMENTATION, OPTIONS
from jaxopt_study.dictionary.schedules import RULES
from tests.test_schedules import ALONE, SCHEDULERS, an_optimizer
from tests.test_schedules import OPTIONS as DRAWN

WHERE = {
    "schedule": SCHEDULERS,
    "plateau": SCHEDULERS,
    "clipping": torch.nn.utils,
    "initializer": torch.nn.init,
    "average": torch.optim.swa_utils,
}
TABLES = {
    name: (table, getattr(module, name))
    for names, module in [(OPTIONS, torch.optim), *((AROUND[kind][0], module) for kind, module in WHERE.items())]
    for name, table in names.items()
}


pytestmark = pytest.mark.usefixtures("backends")  # both frameworks in float64


@pytest.mark.parametrize("name", TABLES)
def test_the_options_have_torchs_order_and_defaults(name):
    """The order counts, since a script may give options by their places: `clip_grad_norm_(parameters, 1.0)`."""
    table, theirs = TABLES[name]
    found = list(inspect.signature(theirs).parameters.values())
    found = found[0 if name in WITHOUT_TARGET else 1 :]
    unsaid = {"generator", "verbose"} | (set() if name in AROUND["clipping"][0] else set(IMPLEMENTATION))
    places = [p for p in found if p.kind is not p.KEYWORD_ONLY and p.name not in unsaid]
    assert list(table)[: len(places)] == [p.name for p in places]
    if name not in OPTIONS:  # of those, test_dictionary compares the defaults
        defaults = [REQUIRED if p.default is inspect.Parameter.empty else p.default for p in places]
        assert [default for default, _ in table.values()] == defaults


# Schedulers.


def call_of(name, options):
    return f"{name}(o, {', '.join(f'{option}={value!r}' for option, value in options.items())})"


@st.composite
def calls(draw, names):
    name = draw(st.sampled_from(names))
    options = {option: draw(values) for option, values in DRAWN[name].items()}
    if isinstance(options.get("max_lr"), list):
        options["max_lr"] = options["max_lr"][0]
    return call_of(name, options)


@st.composite
def sequences(draw):
    parts = draw(st.lists(calls([*ALONE, "CosineAnnealingLR", "CosineAnnealingWarmRestarts"]), min_size=1, max_size=3))
    count = len(parts) - 1
    milestones = sorted(draw(st.lists(st.integers(1, 80), min_size=count, max_size=count, unique=True)))
    return f"lr_scheduler.SequentialLR(o, [{', '.join(parts)}], milestones={milestones})"


@st.composite
def chains(draw):
    return f"ChainedScheduler([{', '.join(draw(st.lists(calls(ALONE), min_size=1, max_size=3)))}], optimizer=o)"


CALLS = {name: calls([name]) for name in DRAWN} | {"SequentialLR": sequences(), "ChainedScheduler": chains()}


@pytest.mark.parametrize("name", CALLS)
@given(data=st.data())
@settings(deadline=None, max_examples=12, derandomize=True, database=None)
def test_a_named_scheduler_has_the_code_of_a_live_one(name, data):
    """`test_schedules` compares that code with torch's rates."""
    text = data.draw(CALLS[name])
    if "factor=0.0" in text or "end_factor=0.0, total_iters=0" in text:
        return
    optimizer = an_optimizer()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        live = dictionary.translate_schedule(
            eval(text, vars(SCHEDULERS) | {"lr_scheduler": SCHEDULERS, "o": optimizer})
        )
    named = dictionary.translate(text, lr=0.1)
    assert named.expression == live
    exec(str(named), space := {})
    assert callable(space["schedule"])


def test_every_scheduler_that_is_translated_live_has_a_name():
    assert set(AROUND["schedule"][0]) == set(RULES) == set(CALLS)


@pytest.mark.parametrize("name", ["OneCycleLR", "CyclicLR"])
def test_a_named_scheduler_that_moves_momentum_is_not_exact(name):
    options = {"max_lr": 0.1, **({"total_steps": 9} if name == "OneCycleLR" else {"base_lr": 0.01})}
    assert dictionary.translate(name, **options).status == "approximate"
    assert dictionary.translate(name, cycle_momentum=False, **options).status == "exact under conditions"


def test_the_lengths_of_one_cycle():
    options = {"max_lr": 0.1, "cycle_momentum": False}
    made = dictionary.translate("OneCycleLR", epochs=3, steps_per_epoch=7, **options)
    assert made.expression == dictionary.translate("OneCycleLR", total_steps=21, **options).expression
    with pytest.raises(DictionaryError, match="OneCycleLR needs total_steps, or epochs and steps_per_epoch"):
        dictionary.translate("OneCycleLR", epochs=3, **options)


# The loss decides.

PLATEAUS = [
    {"patience": 0, "factor": 0.5, "eps": 0.0},
    {"patience": 2, "factor": 0.9, "cooldown": 3},
    {"patience": 1, "cooldown": 1, "factor": 0.5, "min_lr": 0.02},
    {"patience": 3, "threshold": 0.3, "factor": 0.7},
    {"patience": 1, "threshold": 0.2, "threshold_mode": "abs", "factor": 0.8},
    {"mode": "max", "threshold_mode": "abs", "threshold": 0.1, "patience": 1, "factor": 0.8, "cooldown": 2},
]


def plateau_rates(options, slip=("", "")):
    """Return the largest difference of rates over losses that fall, rise, are negative and NaN, and how many rates."""
    optimizer, generator = an_optimizer(), np.random.default_rng(0)
    scheduler = SCHEDULERS.ReduceLROnPlateau(optimizer, **options)
    code = dictionary.translate("ReduceLROnPlateau", lr=0.1, **options).expression
    assert slip[0] in code
    plateau, sign = dictionary.build(code.replace(*slip)), -1 if options.get("mode") == "max" else 1
    state, theirs, ours = plateau.init(jnp.zeros(1)), [], []
    with jax.disable_jit():
        for step in range(30):
            loss = float(np.nan if step == 11 else generator.normal(loc=2 - step / 20))
            scheduler.step(loss)
            _, state = plateau.update(jnp.zeros(1), state, value=sign * loss)
            theirs.append(optimizer.param_groups[0]["lr"])
            ours.append(0.1 * float(state.scale))
    return np.abs(np.array(theirs) - ours).max(), len(set(theirs))


@pytest.mark.parametrize("options", PLATEAUS, ids=str)
def test_a_plateau_lowers_the_rate_when_torchs_does(options):
    distance, rates = plateau_rates(options)
    assert distance < 1e-15  # 1.4e-17 was the worst
    assert rates > 1


def test_a_wrong_patience_or_threshold_is_seen():
    assert plateau_rates(PLATEAUS[1], ("patience=3", "patience=2"))[0] > 1e-3
    assert plateau_rates(PLATEAUS[3], ("rtol=0.3", "rtol=0.0001"))[0] > 1e-3


def test_a_step_of_the_rate_below_eps_is_a_condition():
    options = {"patience": 0, "factor": 0.5, "eps": 1e-3}
    assert 1e-4 < plateau_rates(options)[0] < 1e-3 / 0.5
    assert "lower a rate by eps=0.001" in dictionary.translate("ReduceLROnPlateau", lr=0.1, **options).condition


# Initializers.

SHAPES = {"a matrix": (300, 400), "a convolution": (3, 5, 40, 60)}
INITIALIZERS = [
    "uniform_(w, -1.0, 3.0)",
    "normal_(w, mean=2.0, std=0.5)",
    "trunc_normal_(w, mean=0.3, std=0.7, a=-1.0, b=0.5)",
    "trunc_normal_(w, 1.0, 1.0, -0.5, 1.5)",
    "xavier_uniform_(w, gain=2.0)",
    "xavier_normal_(w, 0.5)",
    *(
        f"kaiming_{kind}_(w, a={a}, mode={mode!r}, nonlinearity={name!r})"
        for kind, a, mode, name in [
            ("uniform", 0.7, "fan_out", "leaky_relu"),
            ("uniform", 2, "fan_in", "relu"),
            ("normal", 0.7, "fan_in", "leaky_relu"),
            ("normal", 0.3, "FAN_OUT", "tanh"),
            ("normal", 0.3, "fan_in", "selu"),
            ("uniform", 0.3, "fan_in", "sigmoid"),
        ]
    ),
    "orthogonal_(w, gain=3)",
]


def torchs(call, shape):
    """Return what torch gives a weight, in the order of axes that flax has."""
    torch.manual_seed(0)
    weight = torch.empty(shape[-1], shape[-2], *shape[:-2], dtype=torch.float32)
    eval(call, vars(torch.nn.init) | {"w": weight})
    return np.moveaxis(weight.numpy(), (0, 1), (-1, -2))


def ours(call, shape):
    exec(str(dictionary.translate(f"torch.nn.init.{call}")), space := {})
    made = np.asarray(space["initializer"](jax.random.key(0), shape, jnp.float32))
    assert (made.shape, made.dtype) == (shape, np.float32)
    return made


def quantiles_of(call, which):
    shape, places = SHAPES[which], np.linspace(0.005, 0.995, 199)
    first, second = (np.quantile(make(call, shape), places) for make in (torchs, ours))
    return np.abs(first - second).max() / first.std()


@pytest.mark.parametrize(
    ("call", "which"),
    [
        *((call, "a matrix") for call in INITIALIZERS),
        *((call, "a convolution") for call in INITIALIZERS if "kaiming" in call),
    ],
)
def test_an_initializer_has_torchs_distribution(call, which):
    """The largest difference of quantiles, in deviations, of 36,000 draws or more; 0.044 was the worst."""
    assert quantiles_of(call, which) < 0.06


def test_a_wrong_gain_or_mode_is_seen():
    for right, wrong in [("tanh", "linear"), ("FAN_OUT", "fan_in")]:
        call = next(call for call in INITIALIZERS if right in call)
        expected = torchs(call, SHAPES["a matrix"])
        made = ours(call.replace(right, wrong), SHAPES["a matrix"])
        assert abs(made.std() / expected.std() - 1) > 0.1


@pytest.mark.parametrize("shape", [(4, 7), (7, 4)])
@pytest.mark.parametrize("call", ["zeros_(w)", "ones_(w)", "constant_(w, -0.3)", "eye_(w)"])
def test_an_initializer_that_draws_nothing_gives_torchs_numbers(call, shape):
    assert np.array_equal(torchs(call, shape), ours(call, shape))


@pytest.mark.parametrize("shape", [(3, 4, 6), (4, 3, 6, 4)])
@pytest.mark.parametrize("groups", [1, 2])
def test_dirac_gives_torchs_numbers(shape, groups):
    assert np.array_equal(torchs(f"dirac_(w, {groups})", shape), ours(f"dirac_(w, {groups})", shape))


@pytest.mark.parametrize("sparsity", [0.0, 0.31, 1.0])
def test_sparse_has_as_many_zeros_of_each_input(sparsity):
    first, second = (make(f"sparse_(w, sparsity={sparsity}, std=2.0)", (40, 200)) for make in (torchs, ours))
    assert np.array_equal((first == 0).sum(axis=1), (second == 0).sum(axis=1))
    assert (second == 0).any() == (sparsity > 0)
    if sparsity < 1:
        assert abs(second[second != 0].std() / 2 - 1) < 0.05
        assert len(np.unique(np.nonzero(second)[1])) == 200


def test_draws_that_torch_warns_of_are_not_exact():
    assert dictionary.translate("trunc_normal_", mean=5.0).status == "approximate"
    assert dictionary.translate("zeros_").status == "exact"


# The command line.


def test_the_command_line_answers_each_name(capsys):
    needed = {
        "T_max": 5, "T_0": 5, "base_lr": 0.1, "max_lr": 0.1, "gamma": 0.5, "milestones": "[3,5]", "total_steps": 9,
        "schedulers": "[StepLR(o,5),ExponentialLR(gamma=0.5),ConstantLR()]", "step_size": 5, "max_norm": "inf",
        "clip_value": 1, "val": 1, "sparsity": 0.5,
    }  # fmt: skip
    for names, _ in AROUND.values():
        for name, table in names.items():
            words = [f"{o}={needed[o]}" for o in table if o in needed and (table[o][0] is REQUIRED or o[0] == "t")]
            assert main([name, *words]) == 0
            exec(capsys.readouterr().out, space := {})
            assert {"schedule", "clip", "initializer", "average", "plateau"} & space.keys()
    assert main([]) == 0
    listed = capsys.readouterr().out
    assert all(re.search(rf"\n{name}\b", listed) for names, _ in AROUND.values() for name in names)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cosineannealinglr"], "did you mean CosineAnnealingLR?"),
        (["CosineAnealingLR"], "error: 'CosineAnealingLR' is unknown: did you mean CosineAnnealingLR?"),
        (["torch.nn.init.xavier_uniform"], "did you mean xavier_uniform_?"),
        (["clip_grad_norm", "max_norm=1"], "did you mean clip_grad_norm_?"),
        (["CosineAnnealingLR"], "torch.optim.lr_scheduler.CosineAnnealingLR needs T_max: a whole number of at least 1"),
        (["StepLR", "step_siz=5"], "did you mean step_size?"),
        (["StepLR(10)"], "StepLR(10) begins with an option"),
        (["StepLR(o, 10)", "gamma=3"], "has its options already: gamma cannot be given"),
        (["StepLR", "step_size=5", "--schedule"], "StepLR is no optimizer"),
        (["StepLR", "step_size=5", "last_epoch=7"], "it must be -1: the schedule begins at its step 0"),
        (["StepLR", "step_size=5", "lr=-1"], "refuses lr=-1"),
        (["ReduceLROnPlateau", "mode=max"], "cannot be translated: use 'abs'"),
        (["ReduceLROnPlateau", "min_lr=0.1"], "min_lr=0.1 is above lr=0.001"),
        (["ReduceLROnPlateau", "threshold=0"], "threshold=0: it must be a number in (0, 1)"),
        (["LambdaLR"], "LambdaLR calls a function of yours"),
        (["StepLR(o, step_size=5, step_size=6)"], "cannot be read"),
        (["OneCycleLR(o, 0.1, 10, pct_start=0.1)"], "torch divides by 0"),
        (["LambdaLR(o, lambda c: 1.0)"], "LambdaLR calls a function of yours"),
        (["SequentialLR", "milestones=[3]", "schedulers=[StepLR(5)]"], "StepLR(5) begins with an option"),
        (["SequentialLR([StepLR(o, 5)], [3])"], "begins with an option"),
        (["SequentialLR(o, [StepLR(o, 5)], [3])"], "refuses 1 milestones for 1 schedulers"),
        (["SequentialLR(o, [OneCycleLR(o, 5)], [])"], "translate the live object by scheduler="),
        (["SequentialLR(o, [LambdaLR(o)], [])"], "LambdaLR calls a function of yours"),
        (["SequentialLR(o, [Step(o, 5)], [])"], "did you mean StepLR?"),
        (["SequentialLR(o, [a, b], [5])"], "schedulers of SequentialLR cannot be read"),
        (["SequentialLR(o, [StepLR(o, 5), StepLR(o, 5), StepLR(o, 5)], [9, 5])"], "whole numbers above 0 that grow"),
        (["ChainedScheduler([CosineAnnealingLR(o, 5)])"], "ChainedScheduler with CosineAnnealingLR"),
        (["ChainedScheduler", "schedulers=5"], "a list of calls"),
        (["clip_grad_norm_", "max_norm=nan"], "refuses max_norm=nan"),
        (["clip_grad_norm_(p, [1.0])"], "refuses max_norm=(1.0,): it must be a number"),
        (["kaiming_normal_", "nonlinearity=gelu"], "refuses nonlinearity='gelu'"),
        (["uniform_(w, 1.0, 0.0)"], "refuses a=1.0 and b=0.0"),
        (["trunc_normal_", "std=0"], "cannot be translated: std=0"),
        (["xavier_normal_", "gain=inf"], "gain=inf cannot be translated"),
    ],
    ids=lambda value: re.sub(r"\W+", "_", " ".join(value))[:40] if isinstance(value, list) else "",
)
def test_a_wrong_question_is_one_line(capsys, arguments, words):
    status = main(arguments)
    said = capsys.readouterr()
    assert (status, said.out, said.err.count("\n")) == (2, "", 1)
    assert words in said.err
    assert len(said.err) < 600


def test_a_name_may_stand_as_in_a_script():
    assert str(dictionary.translate("torch.optim.AdamW", lr=0.1)) == str(dictionary.translate("AdamW", lr=0.1))
    named = dictionary.translate("torch.optim.lr_scheduler.StepLR", step_size=5)
    assert str(named) == str(dictionary.translate("StepLR", step_size=5))

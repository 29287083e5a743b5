"""Optimizers of optax in torch.optim: run side by side."""

import inspect
import re
import types

import optax
import pytest
import torch

from jaxopt_study import dictionary
from jaxopt_study.dictionary.__main__ import main
from jaxopt_study.dictionary.allowed import REQUIRED, DictionaryError
from jaxopt_study.dictionary.from_optax import NEAREST, RULES, TABLES
from jaxopt_study.dictionary.options import OPTIONS
from jaxopt_study.dictionary.others import OPTAX
from tests.test_porting import follow, leaves

pytestmark = pytest.mark.usefixtures("backends")  # both frameworks in float64

SAME = [
    "sgd(0.1, momentum=0.9)",
    "sgd(0.1, momentum=0.9, nesterov=True)",
    "sgd(0.1, momentum=0.0, nesterov=True)",
    "adam(0.01, b1=0.8, b2=0.99, eps=1e-3)",
    "adamw(0.01, weight_decay=0.1)",
    "nadam(0.01, b1=0.8)",
    "nadamw(0.01, weight_decay=0.1)",
    "adamax(0.01)",
    "rmsprop(0.01, eps_in_sqrt=False, centered=True, momentum=0.9, eps=1e-3)",
    "rmsprop(0.01, eps_in_sqrt=False, bias_correction=True)",
    "adagrad(0.1)",
    "adagrad(0.1, initial_accumulator_value=0.0, eps=1e-3)",
    "adadelta(0.5, weight_decay=0.1)",
    "adadelta()",
]
OTHERS = [
    "amsgrad(0.1)",
    "radam(0.01, eps=1e-2)",
    "rmsprop(0.01)",
    "rmsprop(0.01, eps_in_sqrt=False, momentum=0.9, nesterov=True)",
    "adadelta(weight_decay=0.1)",
]


def apart(call, change=lambda code: code):
    """Return how far parameters are after 100 steps with the same gradients, some of them 0, 1e6 and 1e-12."""
    params = leaves(((4, 5),))
    made = dictionary.to_torch(f"optax.{call}")
    optimizer = eval(change(made.expression), {"torch": torch, "params": params.values()})
    ours = types.SimpleNamespace(transformation=lambda: eval(f"optax.{call}", {"optax": optax}))
    return made, follow(ours, optimizer, params, 100)


@pytest.mark.parametrize("call", SAME)
def test_torchs_class_has_the_same_rule(call):
    made, distance = apart(call)
    assert made.status == ("exact under conditions" if re.search("NAdam|centered", made.expression) else "exact")
    assert distance < 2e-14, made.expression  # 1.7e-15 was the worst


CHAINS = [
    ("chain(optax.add_decayed_weights(0.1), optax.adam(0.01))", "exact"),
    ("chain(optax.clip(0.5), optax.add_decayed_weights(0.1), optax.sgd(0.1, momentum=0.9))", "exact under conditions"),
    ("chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1))", "approximate"),
    ("chain(optax.adam(0.01))", "exact"),
]


@pytest.mark.parametrize(("call", "status"), CHAINS)
def test_a_chain_has_torchs_clipping_and_decay(call, status):
    """5e-16 was the worst, and 4e-8 of clipping by norm, where torch adds 1e-6."""
    params = leaves(((4, 5),))
    made = dictionary.to_torch(f"optax.{call}")
    assert made.status == status
    space = {"torch": torch, "params": list(params.values())}
    optimizer = eval(made.expression, space)
    clip = re.search(r"call (torch\S+\(params, [\d.]+\))", made.condition)

    def clipped(*_):
        for leaf in params.values():
            leaf.grad = leaf.grad.clone()  # torch clips in place, and JAX is given the same ones later
        eval(clip[1], space)

    if clip:
        optimizer.register_step_pre_hook(clipped)
    ours = types.SimpleNamespace(transformation=lambda: eval(f"optax.{call}", {"optax": optax}))
    assert follow(ours, optimizer, params, 50, hard=False) < (1e-7 if "norm" in call else 1e-14)


@pytest.mark.parametrize("call", OTHERS)
def test_where_torch_has_another_rule_it_is_said(call):
    made, distance = apart(call)
    assert made.status == "approximate"
    assert made.condition
    assert distance > 1e-9


@pytest.mark.parametrize(
    ("call", "slip"), [("adamw(0.01)", ("0.0001", "0.01")), ("adagrad(0.1)", ("0.1000001", "0.1"))]
)
def test_a_wrong_option_is_seen(call, slip):
    assert apart(call, lambda code: code.replace(*slip).replace("0.100000000001", "0.1"))[1] > 1e-9


@pytest.mark.parametrize("name", TABLES)
def test_the_options_have_optaxs_order_and_defaults(name):
    theirs = inspect.signature(getattr(optax, name)).parameters.values()
    found = [(p.name, REQUIRED if p.default is p.empty else p.default) for p in theirs]
    leaving = ("bias_correction_mu", "bias_correction_nu")
    assert [(option, default) for option, (default, _) in TABLES[name].items()] == [
        pair for pair in found if pair[0] not in leaving
    ]


def test_every_name_is_optaxs_and_every_class_torchs():
    assert {f"optax.{name}" for name in (*TABLES, *NEAREST)} <= OPTAX
    assert set(NEAREST.values()) <= set(OPTIONS)
    assert set(RULES) == set(TABLES)
    assert not TABLES.keys() & NEAREST.keys()


def test_the_printed_code_runs_as_it_stands(capsys):
    assert main(["optax.adamw", "learning_rate=0.1"]) == 0
    exec(capsys.readouterr().out, space := {})
    assert isinstance(space["optimizer"], torch.optim.AdamW)
    assert space["optimizer"].defaults["weight_decay"] == 1e-4


def test_conditions_of_torchs_class_hold_here_too():
    assert "in float64. In float32" in dictionary.to_torch("adam", learning_rate=0.1, b2=0.9999).condition
    assert "set_default_dtype" in dictionary.to_torch("nadam", learning_rate=0.1).condition
    zeros = dictionary.to_torch("adagrad", learning_rate=0.1, initial_accumulator_value=0, eps=0)
    assert "if no entry of the first gradient is 0" in zeros.condition


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["optax.lion"], "torch.optim does not have the rule of optax.lion; the nearest is torch.optim.AdamW"),
        (
            ["optax.prodigy"],
            "torch.optim does not have the rule of optax.contrib.prodigy; the nearest is torch.optim.AdamW",
        ),
        (["optax.contrib.cocob(0.1)"], "torch.optim does not have the rule of optax.contrib.cocob"),
        (["optax.adamv"], "did you mean adam?"),
        (["optax.adamw", "lr=1e-3"], "did you mean learning_rate?"),
        (["optax.sgd"], "optax.sgd needs learning_rate"),
        (["optax.adam(schedule)"], "learning_rate of optax.adam cannot be read"),
        (["optax.chain(optax.scale(2.0), optax.adam(0.1))"], "in optax.chain cannot be translated: first a clipping"),
        (["optax.chain(optax.add_decayed_weights(0.1), optax.adamw(0.1))"], "AdamW has no decay of the gradient"),
        (["optax.chain(optax.clip(1.0))"], "optax.chain must end with an optimizer"),
        (["optax.chain()"], "optax.chain must end with an optimizer"),
        (["optax.adam(0.1)", "b1=0.5"], "has its options already: b1 cannot be given"),
        (["optax.adam", "learning_rate=0.1", "name=5"], "unknown option of optax.adam 'name'"),
        (["optax.adam", "learning_rate=-1"], "it must be a number of at least 0; a schedule is a scheduler in torch"),
        (["optax.adam", "learning_rate=1", "b1=1"], "torch.optim.Adam refuses betas=(1, 0.999)"),
        (["optax.adamw", "learning_rate=1", "mask=3"], "None: make a parameter group of torch for each"),
        (["optax.adam", "learning_rate=1", "mu_dtype=bfloat16"], "torch keeps its state in the parameters' type"),
        (["optax.adam", "learning_rate=1", "--schedule"], "'optax.adam' is in optax already"),
    ],
    ids=lambda value: re.sub(r"\W+", "_", " ".join(value)) if isinstance(value, list) else "",
)
def test_a_wrong_question_is_one_line(capsys, arguments, words):
    status = main(arguments)
    said = capsys.readouterr()
    assert (status, said.out, said.err.count("\n")) == (2, "", 1)
    assert words in said.err


def test_options_are_named_once():
    with pytest.raises(DictionaryError, match="has its options already: eps cannot be given"):
        dictionary.to_torch("adam(0.1)", eps=1.0)


def test_what_is_torchs_is_no_transformation():
    with pytest.raises(
        TypeError, match=r"torch.optim.Adam\(params, .* is torch's, and needs parameters: paste its code"
    ):
        dictionary.to_torch("optax.adam(1e-2)").transformation()

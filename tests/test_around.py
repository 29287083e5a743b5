"""What stands around an optimizer: clipping, accumulation, schedules by epochs, and averages of parameters."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.optim import swa_utils

from jaxopt_study import dictionary
from jaxopt_study.dictionary.allowed import DictionaryError
from tests.test_porting import follow, gradients, network, numpy_of, parameters

clip_grad_norm_, clip_grad_value_ = torch.nn.utils.clip_grad_norm_, torch.nn.utils.clip_grad_value_
KINDS = {torch.float64: "float64", torch.float32: "float32"}


pytestmark = pytest.mark.usefixtures("backends")  # both frameworks in float64

# Clipping.

CLIPPINGS = [
    *(f"clip_grad_norm_(p, 0.7, {order})" for order in ("1.0", "3", "0.5", "7", "0", "-1", "float('-inf')")),
    *(f"clip_grad_norm_(p, 1e3, norm_type={order})" for order in ("2.0", "3.0", "float('inf')")),
    *(f"clip_grad_norm_(p, max_norm={size})" for size in ("float('inf')", 0, -1.0, 1e-3)),
    *(f"clip_grad_value_(p, {size})" for size in (0.7, 0, -0.5, "float('inf')")),
]


SIZES = ((), (3, 4), (2, 1, 5))


def clipped(call, dtype, expression=None, trees=3):
    """Return how far clipped gradients differ from torch's, relative to the largest, over drawn trees."""
    made, generator, worst = dictionary.translate(f"nn.utils.{call}"), np.random.default_rng(0), 0.0
    rule = dictionary.build(expression or made.expression)
    for number in range(trees):
        drawn = [100.0 ** (number - 1) * g for g in gradients(generator, SIZES, hard=number % 2)]
        params = [torch.nn.Parameter(torch.zeros(shape, dtype=dtype)) for shape in SIZES]
        for leaf, gradient in zip(params, drawn, strict=True):
            leaf.grad = torch.tensor(gradient, dtype=dtype)
        tree = [jnp.asarray(g, KINDS[dtype]) for g in drawn]
        eval(call, {"clip_grad_norm_": clip_grad_norm_, "clip_grad_value_": clip_grad_value_, "p": params})
        ours, _ = rule.update(tree, rule.init(tree))
        assert {str(leaf.dtype) for leaf in ours} == {KINDS[dtype]}
        largest = max(max(float(leaf.grad.abs().max()) for leaf in params), 1e-300)
        for mine, leaf in zip(ours, params, strict=True):
            worst = np.maximum(worst, np.abs(np.asarray(mine, float) - numpy_of(leaf.grad)).max() / largest)
    return worst


# Ten times the worst: 3.1e-16 and 9.0e-8.
BOUNDS = {torch.float64: 3e-15, torch.float32: 1e-6}


@pytest.mark.parametrize(
    ("call", "dtype"),
    [*((call, torch.float64) for call in CLIPPINGS), *((call, torch.float32) for call in CLIPPINGS[::4])],
)
def test_clipped_gradients_are_torchs(call, dtype):
    assert clipped(call, dtype) < BOUNDS[dtype]


@pytest.mark.parametrize("values", [[np.nan, 1.0], [np.inf, 1.0], [0.0, 0.0], [1e200, 1e200]], ids=str)
def test_gradients_that_are_not_finite_are_clipped_as_torch_does(values):
    for call in ("clip_grad_norm_(p, 1.0)", "clip_grad_norm_(p, 1.0, float('inf'))", "clip_grad_value_(p, 0.5)"):
        leaf = torch.nn.Parameter(torch.zeros(2))
        leaf.grad = torch.tensor(values)
        eval(call, {"clip_grad_norm_": clip_grad_norm_, "clip_grad_value_": clip_grad_value_, "p": [leaf]})
        rule = dictionary.translate(call).transformation()
        ours, _ = rule.update(jnp.asarray(values), rule.init(jnp.asarray(values)))
        assert np.allclose(ours, numpy_of(leaf.grad), rtol=1e-15, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    "wrong", ["optax.clip_by_global_norm(1.0)", ("1.0 / (", "1.0 / jnp.sqrt("), ("1e-06", "2e-06")], ids=str
)
def test_a_wrong_clipping_is_seen(wrong):
    call = "clip_grad_norm_(p, 1.0)"
    code = dictionary.translate(call).expression.replace("1e-6", "1e-06")
    assert clipped(call, torch.float64, wrong if isinstance(wrong, str) else code.replace(*wrong)) > 1e-9


# Live optimizers with what is around them.


class Scripted:
    """What a script does around an optimizer: adds gradients up, clips, steps, and steps the scheduler."""

    def __init__(self, optimizer, params, clip=lambda params: None, accumulate=1, share=1.0, scheduler=None, every=1):
        self.optimizer, self.params, self.clip, self.scheduler = optimizer, list(params), clip, scheduler
        self.accumulate, self.share, self.every, self.batches, self.sums = accumulate, share, every, 0, {}

    def step(self):
        """Take the gradients of a batch, as `backward()` leaves them."""
        self.batches += 1
        for leaf in self.params:
            if leaf.grad is not None:
                gradient = leaf.grad * self.share
                self.sums[leaf] = self.sums[leaf] + gradient if leaf in self.sums else gradient
        if self.batches % self.accumulate:
            return
        for leaf in self.params:
            leaf.grad = self.sums.pop(leaf, None)
        self.clip(self.params)
        self.optimizer.step()
        if self.scheduler and self.batches // self.accumulate % self.every == 0:
            self.scheduler.step()


def slipped(translation, *slip):
    """Return a translation whose code has a fault."""
    expression = translation.expression
    assert slip[0] in expression
    labels = translation._labels()
    names = {"labels": labels, "trainable": dictionary.trainable}
    names |= {name: dictionary.build(code) for name, code in translation.schedules.items()}
    made = dictionary.build(expression.replace(*slip), **names)
    return types.SimpleNamespace(transformation=lambda: made)


def grouped(name, model, dtype, **options):
    model = model.to(dtype)
    weights, biases = ([p for n, p in model.named_parameters() if n.endswith(end)] for end in ("weight", "bias"))
    groups = [{"params": weights, "weight_decay": 0.1}, {"params": biases, "lr": 0.03}]
    return getattr(torch.optim, name)(groups, lr=0.1, **options)


def of_two_groups(dtype, clip, frozen=False):
    model = network()
    model[0].weight.requires_grad_(not frozen)
    optimizer = grouped("SGD", model, dtype, momentum=0.9)
    translation = dictionary.translate(optimizer, model=model, clip=clip)
    known = {"clip_grad_norm_": clip_grad_norm_, "clip_grad_value_": clip_grad_value_}
    calls = clip if isinstance(clip, list) else [clip]
    script = Scripted(optimizer, model.parameters(), lambda params: [eval(c, known | {"p": params}) for c in calls])
    missing = (lambda step, place: place == 0) if frozen else lambda step, place: False
    return translation, lambda made: follow(made, script, parameters(model), 30, missing=missing)


# Ten times the worst: 4.4e-16 and 1.2e-7.
FOLLOWED = {torch.float64: 5e-15, torch.float32: 1.2e-6}


@pytest.mark.parametrize("dtype", FOLLOWED, ids=str)
@pytest.mark.parametrize(
    "clip", ["clip_grad_norm_(p, 1.0)", ["clip_grad_value_(p, 0.5)", "clip_grad_norm_(p, 1.0, 3)"]]
)
def test_all_groups_are_clipped_together(clip, dtype):
    translation, distance = of_two_groups(dtype, clip)
    assert translation.status == "exact under conditions"
    assert distance(translation) < FOLLOWED[dtype]


def test_frozen_parameters_do_not_count_in_the_norm():
    translation, distance = of_two_groups(torch.float64, "clip_grad_norm_(p, 1.0)", frozen=True)
    exec(str(translation), space := {})
    assert distance(types.SimpleNamespace(transformation=lambda: space["optimizer"])) < FOLLOWED[torch.float64]


def test_a_norm_of_frozen_parameters_too_is_seen():
    translation, distance = of_two_groups(torch.float64, "clip_grad_norm_(p, 1.0)", frozen=True)
    assert distance(slipped(translation, "trainable(labels)", "True")) > 0.01


@pytest.mark.parametrize(("divided", "dtype"), [(False, torch.float64), (True, torch.float64), (True, torch.float32)])
def test_gradients_of_several_batches_are_added_up(divided, dtype):
    """Clipped after that; the schedule counts optimizer steps, of which each third steps the scheduler."""
    translation, distance = accumulated(divided, dtype)
    assert distance(translation) < FOLLOWED[dtype]
    words = "(loss / 4).backward()" if divided else "of the loss on which torch calls backward(), divided or not"
    assert words in translation.condition


def accumulated(divided, dtype):
    model = network()
    optimizer = grouped("SGD", model, dtype)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4)
    around = {"accumulate": 4, "loss_divided": divided, "every": 3, "clip": "clip_grad_value_(p, 0.5)"}
    translation = dictionary.translate(optimizer, model=model, scheduler=scheduler, **around)
    share = 0.25 if divided else 1.0
    script = Scripted(
        optimizer, model.parameters(), lambda params: clip_grad_value_(params, 0.5), 4, share, scheduler, every=3
    )
    return translation, lambda made: follow(made, script, parameters(model), 80)


@pytest.mark.parametrize(
    "slip",
    [
        ("use_grad_mean=False", "use_grad_mean=True"),
        (", accumulator_dtype=jnp.float64", ""),
        ("optax.scale(1 / 4)", "optax.identity()"),
    ],
    ids=str,
)
def test_a_wrong_accumulation_is_seen(slip):
    translation, distance = accumulated(True, torch.float64)
    assert distance(slipped(translation, *slip)) > 1e-9


def test_parameters_of_another_optimizer_are_said_not_to_count():
    model = network()
    optimizer = torch.optim.SGD(list(model.parameters())[:3])
    condition = dictionary.translate(optimizer, model=model, clip="clip_grad_norm_(model.parameters(), 1.0)").condition
    assert "the 1 trainable parameters that are not the optimizer's: here they do not count in the norm" in condition
    assert "trainable" not in dictionary.translate(optimizer, model=model, clip="clip_grad_value_(p, 1.0)").condition


def test_a_clipping_may_be_a_translation():
    optimizer, clip = torch.optim.SGD(network().parameters()), dictionary.translate("clip_grad_value_", clip_value=0.5)
    translation = dictionary.translate(optimizer, clip=clip)
    assert "    optax.clip(0.5),\n    optax.sgd(0.001),\n" in translation.expression
    raising = dictionary.translate(optimizer, clip="clip_grad_norm_(p, 1.0, error_if_nonfinite=True)")
    assert "At a norm that is infinite or NaN torch raises an error" in raising.condition


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"clip": "StepLR(o, 5)"}, "is no clipping: give torch's call, as 'clip_grad_norm_"),
        ({"clip": 1.0}, "clip=1.0 is no clipping"),
        ({"clip": dictionary.translate("zeros_")}, "is no clipping"),
        ({"clip": "clip_grad_norm_(p)"}, "clip_grad_norm_ needs max_norm"),
        ({"clip": "clip_grad_norm_(p, size)"}, "max_norm of clip_grad_norm_ cannot be read"),
        ({"accumulate": 0}, "accumulate=0 must be a whole number of at least 1"),
        ({"accumulate": True}, "accumulate=True must be"),
        ({"every": 4}, "every= says how often a scheduler steps: give scheduler= too"),
    ],
    ids=str,
)
def test_a_wrong_question_is_one_line(options, words):
    with pytest.raises(DictionaryError, match=words) as caught:
        dictionary.translate(torch.optim.SGD(network().parameters()), **options)
    assert "\n" not in str(caught.value)


def test_what_is_around_lbfgs_is_refused():
    optimizer = torch.optim.LBFGS(network().parameters())
    for options in ({"clip": "clip_grad_value_(p, 1.0)"}, {"accumulate": 2}):
        with pytest.raises(DictionaryError, match="L-BFGS calls its closure"):
            dictionary.translate(optimizer, **options)


def test_a_scheduler_may_step_once_per_epoch():
    optimizer = torch.optim.SGD(network().parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
    code = dictionary.translate_schedule(scheduler, every=5)
    assert code == dictionary.translate("StepLR", step_size=2, gamma=0.5, lr=0.1, every=5).expression
    expected = []
    for step in range(40):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step % 5 == 4:
            scheduler.step()
    assert np.allclose(jax.vmap(dictionary.build(code))(jnp.arange(40)), expected, rtol=1e-14, atol=0)
    with pytest.raises(DictionaryError, match="every=0 must be a whole number"):
        dictionary.translate_schedule(scheduler, every=0)


# Averages.

CHOICES = {
    "": [""],
    "multi_avg_fn": ["get_ema_multi_avg_fn(0.9)", "get_ema_multi_avg_fn(decay=0)", "get_swa_multi_avg_fn()"],
    "avg_fn": ["get_ema_avg_fn()", "get_swa_avg_fn()"],
}
AVERAGES = [
    f"AveragedModel(model, {f'{kind}={function}, ' if kind else ''}use_buffers={buffers})"
    for kind, functions in CHOICES.items()
    for function in functions
    for buffers in (False, True)
    if not buffers or "get_swa_multi" not in function  # torch refuses to divide whole numbers
]


def averaged(call, dtype, make=lambda translation: translation.transformation(), counted=True, steps=25):
    """Return how far averages differ from torch's, relative to the largest parameter, at the worst step."""
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3)).to(dtype)
    theirs = eval(call, vars(swa_utils) | {"model": model})
    generator, average, worst = np.random.default_rng(0), make(dictionary.translate(call)), 0.0
    buffers = theirs.use_buffers
    as_tree = lambda module: {  # noqa: E731
        name: jnp.asarray(leaf.detach().numpy().copy())
        for name, leaf in [*module.named_parameters(), *(module.named_buffers() if buffers else ())]
    }
    state = average.init(as_tree(model))
    for _ in range(steps):
        every = [*model.parameters(), *model[1].buffers()]
        drawn = gradients(generator, [leaf.shape for leaf in every], hard=True)
        for leaf, value in zip(every, drawn, strict=True):
            leaf.data = torch.tensor(value * (30 if leaf.dtype == torch.long else 1)).to(leaf.dtype)
        theirs.update_parameters(model)
        state = average.update(state, as_tree(model))
        for name, expected in as_tree(theirs.module).items():
            assert state.params[name].dtype == expected.dtype
            difference = np.abs(np.asarray(state.params[name], float) - np.asarray(expected, float)).max()
            worst = np.maximum(worst, difference / max(1.0, np.abs(np.asarray(expected, float)).max()))
    assert not counted or int(state.n_averaged) == int(theirs.n_averaged) == steps
    return worst


# Ten times the worst: 2.7e-15 and 2.3e-6, of get_ema_avg_fn, which rounds otherwise.
@pytest.mark.parametrize(
    ("call", "dtype"),
    [*((call, torch.float64) for call in AVERAGES), *((call, torch.float32) for call in AVERAGES[::3])],
)
def test_averages_are_torchs(call, dtype):
    assert averaged(call, dtype) < {torch.float64: 3e-14, torch.float32: 2.4e-5}[dtype]


@pytest.mark.parametrize(
    "change",
    [
        lambda code, average: average._replace(init=lambda p: average.init(p)._replace(n_averaged=jnp.int32(1))),
        lambda code, _: dictionary.build(code.replace("0.9", "0.9001")),
    ],
    ids=["no copy at first", "another decay"],
)
def test_a_wrong_average_is_seen(change):
    call = "AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))"
    make = lambda made: change(made.expression, made.transformation())  # noqa: E731
    assert averaged(call, torch.float64, make, counted=False) > 1e-5


def test_equal_averages_under_torchs_own_default_dtype():
    """With `get_swa_multi_avg_fn` torch rounds 1 / (n + 1) to it: 7.3e-7 of a parameter in float64."""
    calls = [call for call in AVERAGES if "ema" not in call and "False" in call]
    torch.set_default_dtype(torch.float32)
    try:
        found = {call: averaged(call, torch.float64) for call in calls}
    finally:
        torch.set_default_dtype(torch.float64)
    for call, distance in found.items():
        assert (distance > 1e-8) == ("get_swa_multi" in call), call
        assert ("in float64" in dictionary.translate(call).condition) == ("avg_fn=get_swa_avg_fn" not in call)


def test_what_is_no_average_of_torchs_is_refused():
    for call, words in [
        ("AveragedModel(model, avg_fn=mine)", "'avg_fn=mine' cannot be read"),
        ("AveragedModel(model, avg_fn=get_ema(0.5))", "did you mean get_ema_avg_fn?"),
        ("AveragedModel(m, avg_fn=get_ema_avg_fn(2))", "refuses decay=2"),
        ("AveragedModel(m, avg_fn=get_ema_avg_fn(), multi_avg_fn=get_swa_multi_avg_fn())", "refuses both avg_fn and"),
        ("torch.amp.GradScaler()", "GradScaler is out of scope"),
    ]:
        with pytest.raises(DictionaryError, match=words.replace("?", r"\?")):
            dictionary.translate(call)
    assert dictionary.translate("get_ema_avg_fn(0.5)").expression == "transforms.averaged_model(decay=0.5)"

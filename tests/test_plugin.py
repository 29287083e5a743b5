"""A user's own models, losses and optimizers: what is trained, what is skipped, and what bad input is told."""

import importlib
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jaxopt_study import plugin, register, user_code
from jaxopt_study.bench.case import Case
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.task import Refused
from jaxopt_study.compare import run
from jaxopt_study.config import Config, ConfigError, check
from jaxopt_study.data.workload import ravel
from jaxopt_study.studies import trained
from jaxopt_study.studies.loops import usual
from jaxopt_study.studies.optimizers import Optimizers, method_of
from jaxopt_study.studies.own import chosen, spelled, twins
from tests.conftest import load_backend, make_plan
from tests.here import workers_here

PAGE = (Path(__file__).parents[1] / "docs" / "plugin.md").read_text()
(SHOWN,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
GOOD = (
    SHOWN
    + """

def jax_small():
    import flax.linen as nn

    return nn.Sequential([nn.Dense(10)])


def torch_small():
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(64, 10))
    model.register_buffer("shift", torch.zeros(12))
    return model


register.model("small", jax=jax_small, torch=torch_small, modules={"layers_0": "0"})
"""
)
LAST = len(GOOD.splitlines()) + 1


def line_of(text):
    """Return the number of the line of a text in the plugin."""
    return GOOD[: GOOD.index(text)].count("\n") + 1


ASKED = {"model": "net", "workload": "digits-mlp", "batch_size": 64, "studies": ("optimizers",), "profile": "smoke"}


@pytest.fixture
def written(tmp_path):
    """Return a function that writes a plugin: the good one with a text replaced, or another text after it."""
    numbers = iter(range(100))

    def write(old="", new="", after="", text=GOOD):
        assert old in text
        path = tmp_path / f"mine{next(numbers)}.py"
        path.write_text(text.replace(old, new) + after)
        return str(path)

    return write


def attached(**options):
    """Return the workload of a run as its workers' answers make it; the workers are this process."""
    plan = check(Config(**(ASKED | options)))

    def call(framework, place, *arguments):
        module, _, name = place.partition(":")
        backend = load_backend(framework, plan.dtype)
        return getattr(importlib.import_module(module), name)(backend, plan, *arguments)

    try:
        return twins.attach(chosen.workload(plan, None), plan, plan.frameworks, call), plan
    finally:
        for framework in plan.frameworks:
            load_backend(framework)


def refusal(**options):
    """Return why a run is refused, in one line."""
    with pytest.raises((ConfigError, Refused)) as raised:
        attached(**options)
    words = str(raised.value)
    assert "\n" not in words
    assert "Traceback" not in words
    return words


@pytest.mark.parametrize(
    ("dtype", "model", "name", "bound"),
    [("float64", "net", "decayed", 7e-15), ("float32", "small", "NAdam(lr=2e-3)", 3e-6)],
)
def test_models_losses_and_optimizers_of_a_user_train_alike(written, tmp_path, dtype, model, name, bound):
    optimizers = (name, "lion") if model == "small" else (name,)
    options = {"loss": "smooth", "optimizers": optimizers, "dtype": dtype, "model": model, "epochs": 1}
    config = Config(plugin=written(), out=tmp_path / "out", **(ASKED | options))
    with workers_here("jax", "torch"):
        outcome = run(config)
    assert outcome.status == 0
    records = {(r.subject, r.framework): r for r in outcome.results.records}
    if model == "small":
        assert records["lion", "torch"].status == "skipped"
        assert records["lion", "torch"].reason == "it is registered for JAX alone"
    assert {r.method for r in outcome.results.records} == {"scan", "notebook"}
    jax, torch = (np.array(records[name, f].value["params"]) for f in ("jax", "torch"))
    assert 0 < np.abs(jax - torch).max() < bound  # 6.7e-16 and 2.7e-7 were measured
    assert len(outcome.findings) == 3
    text = " ".join(map(str, outcome.tables))
    assert f"digits-mlp with {model} and smooth" in text
    assert f"{model}, registered by the plugin" in text


def test_parameters_get_to_each_framework_and_back_to_the_bit(written):
    workload, _ = attached(plugin=written(), dtype="float64")
    assert workload.order.ndim == 3
    assert {layer: sorted(leaves) for layer, leaves in workload.params.items()} == {
        "conv": ["bias", "kernel"],
        "fc1": ["bias", "kernel"],
        "norm": ["bias", "scale"],
        "fc2": ["bias", "kernel"],
    }
    numbered = {
        layer: {name: np.arange(leaf.size, dtype=float).reshape(leaf.shape) for name, leaf in leaves.items()}
        for layer, leaves in workload.params.items()
    }
    for framework in ("jax", "torch"):
        convert = trained.conversion(load_backend(framework), framework, workload.network)
        assert np.array_equal(ravel(convert.to_tree(convert.from_tree(numbered))), ravel(numbered))


@pytest.mark.parametrize("other", ["jax", "torch"])
def test_a_model_for_one_framework_alone_runs_there(written, tmp_path, other):
    path = written("jax=jax_small, ", "") if other == "jax" else written(", torch=torch_small", "")
    config = Config(plugin=path, out=tmp_path / "out", optimizers=("sgd",), epochs=1, **(ASKED | {"model": "small"}))
    with workers_here("jax", "torch"):
        outcome = run(config)
    assert outcome.status == 0
    by_framework = {r.framework: r for r in outcome.results.records}
    alone = "torch" if other == "jax" else "jax"
    assert by_framework[alone].status == "ok"
    assert by_framework[other].reason == f"it is registered for {'PyTorch' if other == 'jax' else 'JAX'} alone"


def test_what_a_notebook_registers_is_sent_to_the_workers(written, tmp_path, monkeypatch):
    monkeypatch.setattr(register, "_here", register.Registry(again=True))
    monkeypatch.setattr(register, "_current", [register._here])
    user_code.run(tmp_path / written().rpartition("/")[2])
    user_code.run(tmp_path / "mine0.py")  # a cell that is run again
    config = Config(out=tmp_path / "out", optimizers=("decayed",), epochs=1, **(ASKED | {"model": "small"}))
    with workers_here("jax", "torch"):
        assert run(config).status == 0
    with pytest.raises(ConfigError, match=r"unknown optimizer 'decoyed'.*did you mean 'decayed'"):
        run(Config(plugin=str(tmp_path / "mine0.py"), optimizers=("decoyed",)))


def test_a_plugin_that_registers_nothing_is_refused(tmp_path):
    (tmp_path / "nothing.py").write_text("def jax_net(): ...\n")
    assert re.search(
        r"--plugin .*nothing.py registers nothing: call register.model or register.loss or register.optimizer in it$",
        refusal(plugin=str(tmp_path / "nothing.py")),
    )


BOTH = ("jax", "torch")


@pytest.mark.parametrize(
    ("frameworks", "old", "new", "words"),
    [
        (BOTH, 'name="fc2")', 'name="out")', "'net': PyTorch has no parameter for out/bias (10,), out/kernel (12"),
        (BOTH, "padding=1", "padding=1, bias=False", "PyTorch has no parameter for conv/bias (3,)"),
        (BOTH, 'flattened={"fc1": (3, 8, 8)}', "modules={}", "the outputs of the two frameworks differ by"),
        (BOTH, '"fc1": (3', '"fc3": (3', "'fc3' is PyTorch's name of no linear layer: the linear layers are fc1, fc2"),
        (BOTH, "functional.gelu", "functional.relu", "look for another activation or epsilon"),
        (BOTH, ", approximate=False", "", "look for another activation or epsilon"),
        (["torch"], "(12, 10)", "(12, 9)", "torch: the model 'net' returns shape (64, 9) for a batch, and it must be"),
        (["torch"], "return Net()", "return Net().requires_grad_(False)", "conv.weight has requires_grad=False"),
        (["torch"], "self.fc1(x)", "nn.functional.dropout(self.fc1(x))", "'net': two calls on the same rows differ"),
        (["torch"], "nn.LayerNorm(12), ", "nn.BatchNorm1d(12), ", "torch: the model 'net': a call changes its buffers"),
        (["torch"], "(12, 10)", "(12, 10).bfloat16()", f"mine0.py:{line_of('return self.fc2')}: RuntimeError: mat1"),
        (["torch"], "self.conv =", "self.a = nn.Parameter(nn.Linear(1, 1).weight.half())\n            self.conv =",
         "a has type float16, and the run float32"),
        (["jax"], "nn.LayerNorm(1e-5, name", "nn.BatchNorm(False, name", "'net': it has batch_stats beside its params"),
        (["jax"], "Net()\n\n\ndef torch_net", "Net\n\n\ndef torch_net", "jax= made a type, and not a flax"),
        (["jax"], "nn.Dense(12", "nn.Dens(12", f"mine0.py:{line_of('nn.Dense(12')}: AttributeError: module 'flax"),
    ],
)  # fmt: skip
def test_models_that_cannot_be_trained_are_refused_in_one_line(written, frameworks, old, new, words):
    assert words in refusal(plugin=written(old, new), optimizers=("sgd",), frameworks=tuple(frameworks))


@pytest.mark.parametrize(
    ("framework", "old", "new", "words"),
    [
        (
            "torch",
            "label_smoothing=0.1",
            "reduction='none'",
            "the loss 'smooth' returns shape (64,), and it must",
        ),
        ("jax", "0.1)).mean()", "0.1)).mean() * 0", "jax: the loss 'smooth' has no gradient"),
        ("jax", "0.1)).mean()", "0.1)).mean() * float('nan')", "the loss 'smooth' has a gradient with NaN or infinity"),
        (
            "jax",
            "optax.softmax_cross",
            "optax.no_such_cross",
            f"mine0.py:{line_of('optax.softmax_cross')}: AttributeError: module 'optax' has no",
        ),
        (
            "jax",
            "optax.lion(learning_rate)",
            "optax.constant_schedule(1.0)",
            "optimizer 'lion': jax= made a f",
        ),
    ],
)
def test_losses_and_optimizers_that_cannot_be_used_are_refused(written, framework, old, new, words):
    options = {"loss": "smooth", "optimizers": ("lion",), "model": "linear", "frameworks": (framework,)}
    assert words in refusal(plugin=written(old, new), **options)


@pytest.mark.parametrize(
    ("after", "words"),
    [
        ("register.model('net', jax=jax_net)", f"mine0.py:{LAST}: ValueError: the model 'net' is registered twice"),
        ("register.model('other')", "ValueError: the model 'other' needs jax=, torch= or both"),
        ("register.loss('my loss', jax=jax_smooth)", "ValueError: 'my loss' is no name for a loss"),
        ("register.loss('none', jax=3)", "TypeError: the loss 'none': jax= is no function but a int"),
        ("import no_such_module", f"mine0.py:{LAST}: ModuleNotFoundError: No module named 'no_such_module'"),
        ("def f(:", f"mine0.py:{LAST}: SyntaxError: invalid syntax"),
        ("raise SystemExit(3)", f"mine0.py:{LAST}: SystemExit: 3"),
        ("register.optimizer('adam', jax=jax_lion)", "'adam' is the name of a built-in optimizer"),
        ("register.loss('cross_entropy', jax=jax_smooth)", "'cross_entropy' is the name of a built-in loss"),
        ("register.model('linear', jax=jax_net)", "'linear' is the name of a built-in model"),
        (
            "register.model('a', jax=jax_net, modules=['a'])",
            f"mine0.py:{LAST}: TypeError: the model 'a': modules=['a'] is no",
        ),
        (
            "register.model('a', jax=jax_net, flattened={'a': 3})",
            "flattened={'a': 3} is no dict of names and (channels",
        ),
    ],
)
def test_a_plugin_that_cannot_be_used_is_refused_with_its_own_line(written, after, words):
    assert words in refusal(plugin=written(after=after))


def test_names_and_files_that_are_not_there_are_refused(written, tmp_path):
    assert "--plugin none.py: none.py does not exist" in refusal(plugin="none.py")
    assert "is neither a file whose name ends in .py nor a module" in refusal(plugin="no.such.module")
    assert "choose from smooth" in refusal(plugin=written(), loss="smoth")
    assert "--loss smooth is for a --plugin that registers it" in refusal(loss="smooth", model=None)
    assert "'nets' is no model: write linear" in refusal(plugin=written(), model="nets")
    assert "or net, small of the plugin" in refusal(plugin=written(), model="nets")
    tokens = refusal(workload="modular-transformer", model="linear")
    assert "the rows of modular-transformer are tokens, and not numbers" in tokens


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("AdamW(weight_decy=0.1)", "did you mean weight_decay?"),
        ("AdmW(lr=0.1)", "did you mean AdamW?"),
        ("StepLR(step_size=3)", "StepLR is no optimizer"),
        ("LBFGS(lr=1)", "LBFGS cannot be used here: it computes the loss several times per step"),
        ("SGD(lr=-1)", "--optimizers SGD(lr=-1): "),
    ],
)
def test_a_call_that_is_no_optimizer_is_refused(call, words):
    assert words in refusal(optimizers=(call,), model=None)


def test_calls_are_separated_by_commas_outside_brackets_and_keep_their_learning_rate():
    nested = "Adam(lr=1e-3, betas=(0.9, 0.99))"
    plan = check(Config(optimizers=(f"adam,AdamW(lr=0.1, weight_decay=0.2),sgd,{nested}", "SGD(momentum=0.5)")))
    assert plan.optimizers == ("adam", "AdamW(lr=0.1, weight_decay=0.2)", "sgd", nested, "SGD(momentum=0.5)")
    import torch

    leaf = [torch.zeros(1, requires_grad=True)]
    mine = spelled.make(load_backend("torch"), "torch", plan.optimizers[1], 0.5)(leaf)
    assert (mine.defaults["lr"], mine.defaults["weight_decay"]) == (0.1, 0.2)
    assert spelled.make(load_backend("torch"), "torch", plan.optimizers[4], 0.5)(leaf).defaults["lr"] == 0.5


def test_the_digest_covers_what_a_file_imports_from_its_folder(tmp_path):
    """Also from a package without __init__.py, relatively, and by way of a module between."""
    files = {
        "mine.py": "import os, helper\nfrom nets.large import net\n",
        "helper.py": "from nets import small\n",
        "nets/large.py": "from . import parts\nfrom .parts import *\nimport helper\n",
        "nets/small.py": "",
        "nets/parts.py": "this is no Python",
        "other.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    before = user_code.digest(tmp_path / "mine.py")
    for name in files:
        (tmp_path / name).write_text(files[name] + "\n# changed")
        assert (user_code.digest(tmp_path / "mine.py") != before) == (name != "other.py"), name
        (tmp_path / name).write_text(files[name])
    assert user_code.digest(tmp_path / "mine.py") == before


def test_a_module_may_be_a_plugin_and_a_changed_file_is_another_one(written, tmp_path, monkeypatch):
    written()
    monkeypatch.syspath_prepend(tmp_path)
    assert check(Config(plugin="mine0", **ASKED)).plugin == "mine0"
    before = check(Config(plugin=str(tmp_path / "mine0.py"), **ASKED)).plugin_digest
    (tmp_path / "mine0.py").write_text(GOOD.replace('"net"', '"changed"'))
    after = check(Config(plugin=str(tmp_path / "mine0.py"), **(ASKED | {"model": "changed"})))
    assert after.plugin_digest != before
    (tmp_path / "mine0.py").write_text((tmp_path / "mine0.py").read_text() + "\nimport beside_mine\n")
    digests = set()
    for number in (1, 1, 2):
        (tmp_path / "beside_mine.py").write_text(f"NUMBER = {number}\n")
        digests.add(user_code.digest(tmp_path / "mine0.py"))
    assert len(digests) == 2
    assert list(plugin.load(after.plugin, after.plugin_digest).entries["model"]) == ["changed", "small"]
    imported = importlib.import_module("mine0")  # one that the user has imported before registers all the same
    assert imported.register is register
    plugin.load.cache_clear()
    assert check(Config(plugin="mine0", **(ASKED | {"model": "changed"}))).model == "changed"


def test_a_case_is_named_by_the_loop_that_runs():
    """A transformer's steps on one row are no native function, since its gradient has a scatter."""
    for workload, loop in (("digits-linear", "native_scan"), ("modular-transformer", "scan"), ("wine", "native_scan")):
        plan = check(Config(workload=workload))
        assert method_of("jax", plan).loop == loop
    assert method_of("jax", check(Config(workload="wine", batch_size=8))).loop == "scan"


def test_a_users_optimizer_makes_its_first_step_from_the_workloads_parameters():
    """None before it, as torch's own make for their buffers; and what it keeps of the parameters is theirs."""
    import torch

    class Warm(torch.optim.Adam):
        def __init__(self, params, lr):
            super().__init__(params, lr=lr)
            self.made, self.kept = 0, [p.detach().clone() for group in self.param_groups for p in group["params"]]

        def step(self, closure=None):
            self.made += 1
            return super().step(closure)

    backend = load_backend("torch")
    params = {"weight": torch.full((2, 3), 5.0), "bias": torch.full((2,), 7.0)}
    made = backend.registered.optimizer(Warm, 0.1)
    state = backend.loops.prepared(torch.nn.Linear(3, 2), made).init(params)
    assert state.optimizer.made == 0
    assert [leaf.unique().tolist() for leaf in state.optimizer.kept] == [[5.0], [7.0]]
    assert {name: leaf.unique().tolist() for name, leaf in state.params.items()} == {"weight": [5.0], "bias": [7.0]}


@pytest.mark.parametrize("workload", ["digits-linear", "breast-cancer-raw"])
def test_a_call_is_tried_on_one_row_without_a_batch_axis(workload):
    asked = {"workload": workload, "model": None, "batch_size": None, "optimizers": ("Adam(betas=(0.9, 0.99))",)}
    assert attached(**asked)[0].order.ndim == 2
    assert "torch: the optimizer 'Adam(differentiable=True)': " in refusal(
        **(asked | {"optimizers": ("Adam(differentiable=True)",)})
    )


def test_a_users_loss_gets_a_batch_axis_also_with_a_built_in_model(written):
    workload, _ = attached(plugin=written(), loss="smooth", model="linear", batch_size=1, optimizers=("sgd",))
    assert workload.order.shape[-1] == 1


def test_a_loss_that_broadcasts_is_refused(written):
    loss = "register.loss('square', jax=lambda outputs, targets: ((outputs - targets) ** 2).mean())"
    asked = {"workload": "diabetes", "model": "linear", "loss": "square", "frameworks": ("jax",)}
    assert "is not the mean of its rows' losses" in refusal(plugin=written(after=loss), **asked)
    right = loss.replace("outputs - ", "outputs[:, 0] - ")
    assert attached(plugin=written(after=right), **asked)[0].loss == "square"


def test_random_buffers_are_the_same_each_time():
    import torch

    def make():
        model = torch.nn.Linear(2, 2)
        model.register_buffer("noise", torch.randn(3))
        return model

    first, second = (load_backend("torch").registered.model(make) for _ in range(2))
    assert torch.equal(first.noise, second.noise)


def test_a_framework_without_a_worker_is_not_asked(written):
    """As in the study spread, which is JAX's alone."""
    plan = check(Config(**(ASKED | {"plugin": written(), "studies": ("spread",)})))
    asked = []

    def call(framework, place, *arguments):
        asked.append(framework)
        module, _, name = place.partition(":")
        return getattr(importlib.import_module(module), name)(load_backend(framework, plan.dtype), plan, *arguments)

    assert twins.attach(chosen.workload(plan, None), plan, ["jax"], call).params
    load_backend("jax")
    assert asked == ["jax"]


def test_what_a_plugin_prints_is_not_on_standard_output(written, capsys):
    check(Config(**(ASKED | {"plugin": written(after="print('hello')")})))
    assert capsys.readouterr() == ("", "hello\n")


def of(framework, method, losses, moved=None):
    value = {"losses": list(losses)} | ({"moved_losses": list(moved)} if moved else {})
    case = Case("loops", "ladder", "NAdam()", framework, method)
    return Record(**vars(case), environment="", group=0.0, status="ok", samples=(1.0,), value=value)


LOSSES = tuple(1 / np.arange(1.0, 51))


def test_a_loop_without_a_formula_is_compared_with_the_usual_loops():
    """The wrong loop is named, and the usual one is not made doubtful by it."""
    wrong = (*LOSSES[:20], *(loss * 1.01 for loss in LOSSES[20:]))
    records = [
        of("jax", "jitted", LOSSES, LOSSES),
        of("jax", "scan", (*LOSSES, 0.1)),
        of("jax", "flat_scan", wrong),
        of("torch", "prepared", LOSSES[:40], LOSSES[:40]),
        of("torch", "notebook", LOSSES[:40]),
    ]
    found = usual.findings(records, make_plan())
    verdicts = {tuple(case.method for case in finding.cases): finding.agrees for finding in found}
    assert verdicts == {
        ("jitted", "prepared"): True,
        ("scan",): True,
        ("flat_scan",): False,
        ("notebook",): True,
    }
    assert usual.distances(records)[records[2].case] == pytest.approx(0.01 / 21)
    planted = [records[0], replace(records[3], value=records[3].value | {"losses": [2.0, *LOSSES[1:40]]})]
    (finding,) = usual.findings(planted, make_plan())
    assert finding.agrees is False
    assert len(finding.cases) == 2


def test_chaotic_training_is_compared_by_its_first_steps():
    moved = (*LOSSES[:10], *(loss + 0.1 for loss in LOSSES[10:]))
    records = [of("jax", "jitted", LOSSES, moved), of("jax", "scan", (*LOSSES[:10], *moved[10:]))]
    (finding,) = usual.findings(records, make_plan())
    assert finding.agrees
    assert "the first 10 steps" in finding.what


def test_a_users_optimizer_is_allowed_what_rounding_does_to_it_and_a_pinned_one_is_not():
    def of_run(name, framework, scale):
        losses = (np.array(LOSSES) * scale).tolist()
        moved = (np.array(losses) * (1 + 5e-5)).tolist()
        value = {"diverged_at_step": -1, "params": losses, "moved_params": moved}
        value |= {f"{which}_losses": losses for which in ("epoch", "first")}
        value |= {f"moved_{which}_losses": moved for which in ("epoch", "first")}
        case = Optimizers().case(name, framework, "loop")
        return Record(**vars(case), environment="", group=0.0, status="ok", samples=(1.0,), value=value)

    for name, agree in (("NAdam(lr=0.1)", True), ("adam", False)):
        plan = check(Config(optimizers=(name,), dtype="float64"))
        records = [of_run(name, "jax", 1.0), of_run(name, "torch", 1.001)]
        assert {f.agrees for f in Optimizers().findings(records, plan)} == {agree}, name

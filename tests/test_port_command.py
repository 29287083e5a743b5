"""`python -m jaxopt_study.port`: checkpoints from files to files, and back; what cannot be read is one line."""

import runpy
import subprocess
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import torch
from torch.nn.utils import parametrizations

from jaxopt_study.port import Matching, to_optax_state
from jaxopt_study.port.arguments import parser
from jaxopt_study.port.command import main


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.conv = torch.nn.Embedding(5, 3), torch.nn.Conv2d(2, 4, 3)
        self.bn, self.fc = torch.nn.BatchNorm2d(4), torch.nn.Linear(16, 3)


KINDS = ["--embedding", "embed", "--flattened", "fc=4,2,2"]


@pytest.fixture(autouse=True, scope="module")
def float64():
    """The command turns 64 bits on."""
    before = jax.config.read("jax_enable_x64")
    yield
    jax.config.update("jax_enable_x64", before)


def trained(name="AdamW", named=False, **options):
    torch.manual_seed(0)
    model = Network()
    optimizer = getattr(torch.optim, name)(model.named_parameters() if named else model.parameters(), **options)
    for _ in range(7):
        for leaf in model.parameters():
            leaf.grad = torch.randn(leaf.shape, dtype=leaf.dtype)
        optimizer.step()
    return model, optimizer


def saved(folder, model, optimizer, **more):
    path = folder / "checkpoint.pt"
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()} | more, path)
    return path


def asked(*arguments):
    return main(parser().parse_intermixed_args(list(map(str, arguments))))


@pytest.mark.parametrize("named", [True, False])
def test_a_checkpoint_goes_there_and_back(tmp_path, capsys, named):
    model, optimizer = trained(named=named)
    path, out = saved(tmp_path, model, optimizer), tmp_path / "out"
    assert asked(path, out, *KINDS, "--optimizer", "AdamW") == 0
    said = capsys.readouterr().out
    assert "params/fc/kernel (16, 3)         fc.weight (3, 16)         flattened\n" in said
    assert named != ("they were taken to be the model's, in the model's order" in said)

    checkpointer = ocp.StandardCheckpointer()
    variables = checkpointer.restore(out / "params")
    assert np.array_equal(variables["batch_stats"]["bn"]["mean"], model.bn.running_mean.numpy())
    rule = runpy.run_path(str(out / "optimizer.py"))["optimizer"]
    params = variables["params"]
    state = checkpointer.restore(out / "optimizer_state", rule.init(params))
    matching = Matching(flattened={"fc": (4, 2, 2)})
    expected = to_optax_state(optimizer, rule.init(params), params, matching, model=model)
    assert jax.tree.all(jax.tree.map(np.array_equal, state, expected))

    again = tmp_path / "again.pt"
    assert asked(out, again, "--like", path, "--optimizer", "AdamW") == 0  # the folder says its layout
    first, second = (torch.load(file, weights_only=True) for file in (path, again))
    assert all(torch.equal(first["model"][name], second["model"][name]) for name in first["model"])
    assert first["optimizer"]["param_groups"] == second["optimizer"]["param_groups"]
    for index, kept in first["optimizer"]["state"].items():
        assert all(torch.equal(value, second["optimizer"]["state"][index][key]) for key, value in kept.items())


def test_the_folder_says_its_layout_or_the_way_back_asks(tmp_path, capsys):
    path, out = saved(tmp_path, *trained()), tmp_path / "out"
    assert asked(path, out, *KINDS) == 0
    assert asked(out, tmp_path / "again.pt", "--like", path, *KINDS) == 0
    assert "--flattened" not in capsys.readouterr().out.splitlines()[-1]
    assert asked(out, tmp_path / "other.pt", "--like", path, "--flattened", "fc=2,4,2") == 2
    assert "out was written with --flattened fc=4,2,2, and not with --flattened fc=2,4,2" in capsys.readouterr().err
    (out / "layout.json").write_text("{")
    assert asked(out, tmp_path / "other.pt", "--like", path) == 2
    assert "layout.json is damaged: remove it" in capsys.readouterr().err
    (out / "layout.json").unlink()
    assert asked(out, tmp_path / "other.pt", "--like", path, "--embedding", "embed") == 0
    assert "give --flattened MODULE=C,H,W" in capsys.readouterr().out


def test_leaves_that_do_not_fit_are_named(tmp_path, capsys):
    path, out = saved(tmp_path, *trained()), tmp_path / "out"
    kind = str(torch.get_default_dtype()).removeprefix("torch.")
    assert asked(path, out, *KINDS) == 0
    like = tmp_path / "like.pt"
    torch.save({"conv.weight": torch.ones(4, 2, 3, 3), "conv.bias": torch.ones(5), "b": torch.ones(1)}, like)
    (out / "layout.json").unlink()
    assert asked(out, tmp_path / "new.pt", "--like", like) == 2
    said = capsys.readouterr().err
    assert "out/params does not fit the checkpoint: only the folder has batch_stats/bn/mean (4,)" in said
    assert (
        f"; only the checkpoint has params/b (1,) {kind}; params/conv/bias is (4,) {kind} in the folder and (5,) "
        in said
    )
    assert said.count("\n") == 1
    halved = {
        name: leaf.half() if leaf.is_floating_point() else leaf for name, leaf in torch.load(path)["model"].items()
    }
    torch.save(halved, like)
    assert asked(out, tmp_path / "new.pt", "--like", like, *KINDS) == 2
    assert f"params/bn/bias is (4,) {kind} in the folder and (4,) float16 for the" in capsys.readouterr().err
    (tmp_path / "empty" / "params").mkdir(parents=True)
    assert asked(tmp_path / "empty", tmp_path / "new.pt", "--like", like, *KINDS) == 2
    assert "empty/params is not in orbax's format" in capsys.readouterr().err


def test_what_a_checkpoint_does_not_say_is_said(tmp_path, capsys):
    model, optimizer = trained(named=True)
    model.up = torch.nn.ConvTranspose2d(4, 4, 2)
    path = saved(tmp_path, model, optimizer, scheduler={"last_epoch": 7})
    assert asked(path, tmp_path / "out", "--embedding", "embed") == 0
    said = capsys.readouterr().out
    assert "give --flattened MODULE=C,H,W" in said
    assert "(else give --transposed MODULE): up.weight" in said
    assert "the optimizer's state is left out: give --optimizer" in said
    assert "its scheduler, at step 7, is left out" in said


def test_steps_that_are_not_counted_are_the_schedulers_or_given(tmp_path, capsys):
    model, optimizer = trained("SGD", momentum=0.9, dampening=0.1)
    path = saved(tmp_path, model, optimizer)
    arguments = [*KINDS, "--optimizer", "SGD"]
    assert asked(path, tmp_path / "out", *arguments) == 2
    assert "nothing says how many steps group 0 made" in capsys.readouterr().err
    assert asked(path, tmp_path / "out", *arguments, "--steps", 7) == 0
    path = saved(tmp_path, model, optimizer, lr_scheduler={"last_epoch": 7})
    assert asked(path, tmp_path / "other", *arguments) == 0


def unnamed_groups(model):
    return torch.optim.AdamW([{"params": model.conv.parameters()}, {"params": model.fc.parameters()}])


@pytest.mark.parametrize(
    ("make", "arguments", "words"),
    [
        (lambda m, o: {"weights": m.state_dict()}, [], "has no model's state_dict: it holds weights; its key may be"),
        (lambda m, o: [1, 2], [], "holds a list, not a state_dict"),
        (lambda m, o: m, [], "it holds objects besides tensors and numbers; save model.state_dict()"),
        (lambda m, o: m.state_dict(), [], "give --linear embed or --embedding embed"),
        (lambda m, o: m.state_dict(), ["--embedding", "nix"], "has no module nix: it has bn, conv, embed, fc"),
        (lambda m, o: {"a": torch.ones(2), "a.b": torch.ones(2)}, [], "a.b: there is a second leaf in its place"),
        (lambda m, o: m.state_dict() | {"fc.kernel": torch.ones(2)}, KINDS, "there is a second leaf in its place"),
        (
            lambda m, o: {"model": m.state_dict(), "optimizer": o.state_dict()},
            [*KINDS, "--optimizer", "Adagrad"],
            "--optimizer Adagrad does not fit the checkpoint's options: lr_decay, initial_accumulator_value",
        ),
        (
            lambda m, o: {"model": m.state_dict(), "optimizer": o.state_dict()},
            [*KINDS, "--optimizer", "adamw"],
            "--optimizer adamw: choose from",
        ),
        (
            lambda m, o: {"model": m.state_dict(), "optimizer": torch.optim.Adam(m.parameters()).state_dict()},
            [*KINDS, "--optimizer", "AdamW"],
            "the checkpoint's decay is L2, as Adam's is",
        ),
        (lambda m, o: m.state_dict(), [*KINDS, "--optimizer", "AdamW"], "the checkpoint has no optimizer's state"),
        (lambda m, o: m.state_dict(), [*KINDS, "--linear", "embed"], "embed is said to be two kinds of layer"),
        (
            lambda m, o: m.state_dict(),
            [*KINDS, "--transposed", "fc"],
            "'fc' is PyTorch's name of no convolution: the convolutions are conv",
        ),
        (
            lambda m, o: m.state_dict(),
            [*KINDS, "--flattened", "nope=4,2,2"],
            "no linear layer: the linear layers are fc",
        ),
        (lambda m, o: torch.nn.LSTM(3, 4).state_dict(), [], "weight_ih_l0 is of a recurrent layer"),
        (lambda m, o: torch.nn.GRUCell(3, 4).state_dict(), [], "weight_ih is of a recurrent layer"),
        (lambda m, o: torch.nn.MultiheadAttention(4, 2).state_dict(), [], "in_proj_weight is of nn.MultiheadAttention"),
        (
            lambda m, o: torch.nn.MultiheadAttention(4, 2, kdim=3).state_dict(),
            [],
            "q_proj_weight is of nn.MultiheadAttention",
        ),
        (
            lambda m, o: torch.nn.Sequential(parametrizations.weight_norm(torch.nn.Linear(3, 2))).state_dict(),
            [],
            "0.parametrizations.weight.original0 is of a parametrization",
        ),
        (
            lambda m, o: {"out.weight_g": torch.ones(2, 1), "out.weight_v": torch.ones(2, 3)},  # of older releases
            [],
            "out.weight_g is of weight normalization",
        ),
        (lambda m, o: torch.nn.Linear(3, 2, bias=False).state_dict(), [], "give --linear '' or --embedding ''"),
        (
            lambda m, o: {"model": m.state_dict(), "optimizer": {"lr": 1.0}},
            [*KINDS, "--optimizer", "AdamW"],
            "is no state_dict of torch.optim: it has no param_groups",
        ),
        (
            lambda m, o: {"model": m.state_dict(), "optimizer": unnamed_groups(m).state_dict()},
            [*KINDS, "--optimizer", "AdamW"],
            "groups have no names, so nothing says which parameter is in which: give each group pairs of name and "
            "parameter, as {'params': [(name, p)",
        ),
        (
            lambda m, o: {"model": m.state_dict(), "optimizer": torch.optim.AdamW(m.fc.parameters()).state_dict()},
            [*KINDS, "--optimizer", "AdamW"],
            "the optimizer has 2 parameters, and the model 7: make it of named_parameters()",
        ),
    ],
)
def test_a_checkpoint_that_cannot_be_ported_is_one_line(tmp_path, capsys, make, arguments, words):
    path = tmp_path / "checkpoint.pt"
    torch.save(make(*trained()), path)
    assert asked(path, tmp_path / "out", *arguments) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("nowhere.pt out", "nowhere.pt: No such file or directory"),
        ("text.pt out", "text.pt cannot be read: it is no file that torch.save wrote"),
        ("empty.pt out", "empty.pt cannot be read: it is no file that torch.save wrote"),
        ("full out", "full: Is a directory"),
        ("checkpoint.pt full", "full exists, and is no empty folder"),
        ("checkpoint.pt text.pt", "text.pt exists, and is no empty folder"),
        ("nowhere new.pt --like checkpoint.pt", "nowhere/params: there is no such folder"),
        ("full checkpoint.pt --like checkpoint.pt", "checkpoint.pt exists"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_one_line(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.pt").write_text("not a checkpoint")
    (tmp_path / "empty.pt").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    saved(tmp_path, *trained())
    assert asked(*arguments.split(), *KINDS) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def wrapped(folder, make):
    """Return a checkpoint whose model stands in a wrapper, and the same one without it."""
    model, optimizer = trained(named=True)
    state, saved_state = model.state_dict(), optimizer.state_dict()
    plain = {"model": state, "optimizer": saved_state, "epoch": 3}
    torch.save(plain, folder / "plain.pt")
    torch.save(make(state, saved_state), folder / "checkpoint.pt")
    return plain


def prefixed(prefix):
    def make(state, optimizer):
        names = [prefix + name for name in optimizer["param_groups"][0]["param_names"]]
        group = optimizer["param_groups"][0] | {"param_names": names}
        return {
            "state_dict": {prefix + name: tensor for name, tensor in state.items()},
            "optimizer_states": [optimizer | {"param_groups": [group]}],
            "epoch": 3,
        }

    return make


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_a_wrappers_prefix_and_lightnings_keys_are_known(tmp_path, prefix):
    wrapped(tmp_path, prefixed(prefix))
    for name in ("plain", "checkpoint"):
        assert asked(tmp_path / f"{name}.pt", tmp_path / name, *KINDS, "--optimizer", "AdamW") == 0
    checkpointer = ocp.StandardCheckpointer()
    both = [checkpointer.restore(tmp_path / name / "params") for name in ("plain", "checkpoint")]
    assert jax.tree.all(jax.tree.map(np.array_equal, *both))
    like = tmp_path / "checkpoint.pt"
    arguments = [tmp_path / "checkpoint", tmp_path / "new.pt", "--like", like, *KINDS, "--optimizer", "AdamW"]
    assert asked(*arguments) == 0
    first, second = (torch.load(file, weights_only=True) for file in (like, tmp_path / "new.pt"))
    assert first.keys() == second.keys()
    assert second["epoch"] == 3
    assert all(torch.equal(second["state_dict"][name], tensor) for name, tensor in first["state_dict"].items())
    assert first["optimizer_states"][0]["param_groups"] == second["optimizer_states"][0]["param_groups"]
    assert not list(tmp_path.glob(".*"))


def test_tied_weights_are_written_once(tmp_path, capsys):
    model = torch.nn.ModuleDict({"embed": torch.nn.Embedding(5, 3), "out": torch.nn.Linear(3, 5)})
    model["out"].weight = model["embed"].weight
    path, out = tmp_path / "checkpoint.pt", tmp_path / "out"
    torch.save(model.state_dict(), path)
    assert asked(path, out, "--embedding", "embed") == 0
    assert "tied weights are written once: out.weight is embed.weight" in capsys.readouterr().out
    assert sorted(ocp.StandardCheckpointer().restore(out / "params")["params"]["out"]) == ["bias"]
    assert asked(out, tmp_path / "new.pt", "--like", path, "--embedding", "embed") == 0
    again = torch.load(tmp_path / "new.pt", weights_only=True)
    assert torch.equal(again["out.weight"], model["embed"].weight)
    assert torch.equal(again["embed.weight"], model["embed"].weight)


def test_a_parameter_without_state_is_frozen(tmp_path, capsys):
    model, optimizer = trained(named=True)
    state = optimizer.state_dict()
    del state["state"][0]
    torch.save({"model": model.state_dict(), "optimizer": state}, tmp_path / "checkpoint.pt")
    assert asked(tmp_path / "checkpoint.pt", tmp_path / "out", *KINDS, "--optimizer", "AdamW") == 0
    assert "frozen, since the optimizer keeps nothing of them: embed.weight" in capsys.readouterr().out
    rule = runpy.run_path(str(tmp_path / "out" / "optimizer.py"))["optimizer"]
    params = ocp.StandardCheckpointer().restore(tmp_path / "out" / "params")["params"]
    updates, _ = rule.update(params, rule.init(params), params)
    assert not np.any(updates["embed"]["embedding"])
    assert np.any(updates["fc"]["kernel"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda o: o | {"state": {0: 3}}, "the checkpoint's optimizer cannot be read"),
        (lambda o: o | {"param_groups": [3]}, "the checkpoint's optimizer cannot be read"),
        (lambda o: o | {"param_groups": [o["param_groups"][0] | {"lr": "x"}]}, "cannot be read: ValueError"),
        (
            lambda o: o | {"state": {n: s | {"step": torch.ones(3)} for n, s in o["state"].items()}},
            "the checkpoint's optimizer cannot be read",
        ),
    ],
)
def test_a_broken_optimizer_is_one_line(tmp_path, capsys, change, words):
    model, optimizer = trained()
    torch.save({"model": model.state_dict(), "optimizer": change(optimizer.state_dict())}, tmp_path / "checkpoint.pt")
    assert asked(tmp_path / "checkpoint.pt", tmp_path / "out", *KINDS, "--optimizer", "AdamW") == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("pickled", [b"\x80\x02(.", b"\x80\x02K\x01K\x02\x86R.", b"\x80", b"PK\x03\x04"])
def test_a_pickle_that_is_no_checkpoint_is_one_line(tmp_path, capsys, pickled):
    (tmp_path / "checkpoint.pt").write_bytes(pickled)
    assert asked(tmp_path / "checkpoint.pt", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "cannot be read: it is no file that torch.save wrote" in said
    assert said.count("\n") == 1


def test_names_cannot_command_the_terminal(tmp_path, capsys):
    torch.save({"a\x1b[31m.bias": torch.ones(2)}, tmp_path / "checkpoint.pt")
    assert asked(tmp_path / "checkpoint.pt", tmp_path / "out") == 0
    torch.save({"a\n\x1b[31m.weight": torch.ones(2, 2)}, tmp_path / "checkpoint.pt")
    assert asked(tmp_path / "checkpoint.pt", tmp_path / "other") == 2
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    assert "a\\x1b[31m" in said.out
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("arguments", ["--steps -3", "--steps x", "--flattened fc", "--flattened fc=4,-2,2"])
def test_arguments_are_checked_before_anything_is_loaded(arguments):
    code = f"""
import sys
from jaxopt_study.port.arguments import parser
try:
    parser().parse_intermixed_args(["checkpoint.pt", "out", *{arguments.split()!r}])
except SystemExit as end:
    print(end.code, sorted({{"jax", "torch"}} & set(sys.modules)))
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "2 []\n"


def test_the_command_runs(tmp_path):
    """Also into a pipe that is closed: no traceback."""
    path = saved(tmp_path, *trained())
    command = [sys.executable, "-m", "jaxopt_study.port", str(path), str(tmp_path / "out"), *KINDS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert (tmp_path / "out" / "params").is_dir()

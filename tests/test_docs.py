"""The examples in docstrings run, and give the results that they show."""

import doctest
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import jax
import numpy as np
import pytest
import torch

from jaxopt_study.port import arguments, command
from jaxopt_study.studies.steps import source

ROOT = Path(__file__).parents[1]
WITH_EXAMPLES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for package in ("jaxopt_study", "torch_reference")
    for path in sorted((ROOT / package).rglob("*.py"))
    if ">>> " in path.read_text()
]
BY_A_USER = {
    "blocks": ("diagonal_exact", "gauss_newton", "hessian_blocked"),
    "derivatives": (
        "diagonal",
        "gauss_newton",
        "gradient",
        "hessian",
        "hessian_of_network",
        "hvp",
        "hvp_forward_over_reverse",
        "hvp_reverse_over_forward",
        "hvp_reverse_over_reverse",
    ),
    "last_layer": ("hessian_last_layer",),
    "newton_step": ("newton_step",),
    "newton.minimize": ("minimize",),
    "newton.adapter": ("scipy_method",),
}
"""The functions of both twins that a user calls."""
CALLED = [
    *((f"{twin}.{module}", names) for twin in ("jaxopt_study.backends.jax", "torch_reference")
      for module, names in BY_A_USER.items()),
    ("jaxopt_study.native", ("native",)),
    ("jaxopt_study.parity.locate", ("locate", "assert_same_training")),
    ("jaxopt_study.parity.record", ("record", "recorded")),
    ("jaxopt_study.dictionary", ("labels_by_name", "to_torch", "trainable", "translate", "translate_schedule")),
    ("jaxopt_study.port", ("to_flax_params", "to_torch_params", "to_optax_state", "to_torch_state_dict")),
]  # fmt: skip


@pytest.mark.usefixtures("float32")
@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_give_what_they_show(module):
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted
    assert not result.failed


@pytest.fixture
def float32():
    """Both frameworks as they are when nothing was set."""
    before = torch.get_default_dtype(), jax.config.read("jax_enable_x64")
    torch.set_default_dtype(torch.float32)
    with jax.enable_x64(False):
        yield
    torch.set_default_dtype(before[0])
    jax.config.update("jax_enable_x64", before[1])  # the command of a port turns it on


def page(name):
    return (ROOT / "docs" / f"{name}.md").read_text()


def run_page(name):
    """Run the blocks of a page, and return the names that they made."""
    names = {"__name__": name}
    for block in re.findall(r"```python\n(.*?)```", page(name), re.DOTALL):
        exec(block, names)
    return names


def test_the_page_of_a_port_runs(float32, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run_page("porting")
    there, back = re.findall(r"^    python -m jaxopt_study\.port (.*)$", page("porting"), re.MULTILINE)
    for line in (there, back):
        assert command.main(arguments.parser().parse_intermixed_args(line.split())) == 0
    first, second = (torch.load(file, weights_only=True) for file in ("checkpoint.pt", "new.pt"))
    assert all(torch.equal(tensor, second["model"][name]) for name, tensor in first["model"].items())
    pairs = [(kept, second["optimizer"]["state"][n]) for n, kept in first["optimizer"]["state"].items()]
    assert all(torch.equal(kept[key], other[key]) for kept, other in pairs for key in kept)
    assert names["state"][1].inner_states["0"].inner_state[0].count == 40
    assert names["mlp_state"][0].count == 5


def test_the_page_of_derivatives_runs(float32):
    names = run_page("derivatives")
    assert (names["matrix"].shape, names["found"].shape) == ((7, 7), (8, 8))
    assert names["product"]["dense"]["kernel"].shape == (3, 2)
    assert names["whole"].shape == (22, 22)


def test_the_page_of_the_minimizers_runs(float32):
    names = run_page("minimizers")
    assert names["result"].converged
    assert names["stopped"].reason == "Stopped: the callback asked for it."
    assert names["values"][-1] < 1e-3 < names["values"][0]
    assert abs(float(names["slope"]) - 4) < 1e-3  # 4e-4 was measured
    assert abs(float(names["a"].grad) - 4) < 1e-3
    assert names["found"].success


def test_the_page_of_the_locator_runs(float32, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert not run_page("locator")["report"].same
    assert "missing or different weight decay" in capsys.readouterr().out


def test_the_page_of_native_functions_runs(float32, capsys):
    names = run_page("native")
    assert capsys.readouterr().out.split("\n")[:2] == ["['cholesky (LAPACK)']", "(3, 3)"]
    x, path = np.ones(400), []
    for _ in range(1000):
        path.append(x[0])
        x = x - 0.1 * np.sin(x)
    np.testing.assert_allclose(names["path"], path, atol=3e-7)  # 3.0e-8 measured


def test_the_page_of_an_experiment_shows_the_file_that_is_written():
    (shown,) = re.findall(r"```python\n(.*?)```", page("experiment"), re.DOTALL)
    assert shown == source.TEMPLATE.read_text()


def test_the_page_of_the_dictionary_is_written_from_it():
    path = ROOT / "docs" / "make_dictionary.py"
    spec = importlib.util.spec_from_file_location("make_dictionary", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text() == module.page() + "\n"


@pytest.mark.parametrize(("text", "failed"), [(">>> 1 + 1\n2\n", 0), (">>> 1 + 1\n3\n", 1)])
def test_a_wrong_example_is_found(text, failed, capsys):
    planted = ModuleType("planted", text)
    assert doctest.testmod(planted).failed == failed


@pytest.mark.parametrize(("module", "names"), CALLED)
def test_functions_that_a_user_calls_have_examples(module, names):
    loaded = importlib.import_module(module)
    assert [name for name in names if ">>> " not in getattr(loaded, name).__doc__] == []

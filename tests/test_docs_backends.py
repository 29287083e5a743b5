"""The examples in the docstrings of the two backends run, each backend's in a process of its own."""

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

from jaxopt_study.backends import BACKENDS

ROOT = Path(__file__).parents[1]
FUNCTIONS = {
    "blocks": ("diagonal_exact", "gauss_newton", "hessian_blocked"),
    "derivatives": (
        "gradient",
        "hvp_forward_over_reverse",
        "hvp_reverse_over_forward",
        "hvp_reverse_over_reverse",
    ),
    "newton_step": ("newton_step",),
}
"""The functions that a user calls must have an example."""

RUN = """
import doctest, importlib, sys
results = [doctest.testmod(importlib.import_module(name)) for name in sys.argv[1:]]
sys.exit(any(result.failed or not result.attempted for result in results))
"""


def examples_of(package):
    """Return the modules of a package, and of the packages in it, that have examples."""
    path = importlib.import_module(package).__path__
    infos = list(pkgutil.walk_packages(path, f"{package}."))
    files = {info.name: Path(info.module_finder.find_spec(info.name).origin) for info in infos}
    return [name for name, file in files.items() if ">>> " in file.read_text()]


def run(*names, folder=ROOT):
    command = [sys.executable, "-c", RUN, *names]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_examples_run(framework):
    answer = run(*examples_of(BACKENDS[framework]))
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize(("text", "status"), [(">>> 1 + 1\n2", 0), (">>> 1 + 1\n3", 1), ("no example", 1)])
def test_a_wrong_example_is_found(tmp_path, text, status):
    (tmp_path / "planted.py").write_text(f"'''{text}\n'''\n")
    assert run("planted", folder=tmp_path).returncode == status


@pytest.mark.parametrize("framework", ["jax", "torch"])
@pytest.mark.parametrize("module", FUNCTIONS)
def test_functions_that_a_user_calls_have_examples(framework, module):
    loaded = importlib.import_module(f"{BACKENDS[framework]}.{module}")
    assert all("Example:\n" in getattr(loaded, name).__doc__ for name in FUNCTIONS[module])

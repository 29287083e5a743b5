"""The pytest plugin in a package of its own: red with a planted fault, green without, and unnoticed where not used."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from jaxopt_study import parity

ROOT = Path(__file__).parents[1]
TEST = """
import os, sys
import numpy as np
from jaxopt_study import parity

def step(params, batch):
    return {"layer.weight": params["layer.weight"] - float(os.environ["RATE"]) * (params["layer.weight"] - batch)}

def test_net(same_training):
    start = {"layer.weight": np.linspace(0, 1, 7, dtype=np.float32)}
    batches = np.random.default_rng(0).standard_normal((5, 7)).astype(np.float32)
    same_training(parity.walk(step, start, batches), "sgd")
    assert not {"jax", "torch", "flax", "optax", "scipy"} & set(sys.modules)
"""


def run(folder, *arguments, plugin="jaxopt_study.pytest_plugin", **env):
    """Run pytest in a folder, as its user would."""
    paths = os.pathsep.join(map(str, (ROOT, folder / "installed")))
    # Other plugins take seconds to load.
    fixed = {"PYTHONPATH": paths, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "", "COLUMNS": "80"}
    env = os.environ | fixed | {"RATE": "0.1"} | env
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", plugin, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=env)


@pytest.fixture
def package(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_net.py").write_text(TEST)
    return tmp_path


def test_a_training_is_held_to_its_golden_file(package):
    golden = package / "tests" / "golden" / "test_net" / "sgd.npz"
    missing = run(package)
    assert missing.returncode == 1
    assert "there is no tests/golden/test_net/sgd.npz." in missing.stdout
    assert "To write it: pytest --update-golden" in missing.stdout
    assert not golden.exists()
    assert run(package, "--update-golden").returncode == 0
    assert len(list(parity.load_trajectory(golden))) == 6
    written = golden.read_bytes()
    assert run(package).returncode == 0
    fault = run(package, RATE="0.11")
    assert fault.returncode == 1
    assert golden.read_bytes() == written
    assert run(package, "--update-golden", RATE="0.11").returncode == 0
    assert golden.read_bytes() != written
    said = fault.stdout
    assert "this training is not that of tests/golden/test_net/sgd.npz." in " ".join(said.split())
    assert "First difference: step 1, layer.weight[" in said
    assert "pytest_plugin.py" not in said
    assert "__tracebackhide__" not in said
    message = [line for line in said.splitlines() if line.startswith("E ")]
    assert len(message) > 5
    assert max(map(len, message)) <= 80


WRONG = {
    'same_training([{"other": np.ones(2)}], "a")': "only the first training has w; only the second training has other.",
    'same_training([{"w": np.ones(2)}] * 2, "a")': "ends before step 1, and the second training goes on.",
    'same_training([{"w": np.ones(2)}], "../a")': "name must be that of a file, without folders, not '../a'",
    'same_training("none.npz", "a")': "None.npz: there is no such file.",
}


def test_what_cannot_be_compared_fails_in_words(tmp_path):
    tests = (f"def test_{i}(same_training):\n    {call}\n" for i, call in enumerate(WRONG))
    (tmp_path / "test_wrong.py").write_text("import numpy as np\n" + "\n".join(tests))
    (tmp_path / "golden" / "test_wrong").mkdir(parents=True)
    parity.save_trajectory(tmp_path / "golden" / "test_wrong" / "a", [{"w": np.ones(2)}])
    said = run(tmp_path).stdout
    assert "4 failed" in said
    assert "pytest_plugin.py" not in said
    for words in WRONG.values():
        assert words in " ".join(said.replace("\nE ", " ").split())


def installed(folder):
    """Install the entry point, and nothing else: the package itself is found in the repository."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    points = "".join(f"{name} = {place}\n" for name, place in project["entry-points"]["pytest11"].items())
    info = folder / "installed" / "planted-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: planted\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[pytest11]\n{points}")


def test_the_entry_point_brings_fixture_and_option(package):
    installed(package)
    assert run(package, "--update-golden", plugin="jaxopt_study").returncode == 0
    said = run(package, plugin="jaxopt_study", RATE="0.11").stdout
    assert "this training is not that of tests/golden/test_net/sgd.npz" in said


@pytest.mark.parametrize("action", ['action="store_true"', 'action="store"'])
def test_a_project_that_has_this_option_keeps_it(action, tmp_path):
    """Two options of one name are an error of pytest, and ended each run of such a project."""
    (tmp_path / "conftest.py").write_text(
        f'def pytest_addoption(parser): parser.addoption("--update-golden", {action})'
    )
    (tmp_path / "test_a.py").write_text("def test_a(pytestconfig): assert not pytestconfig.option.update_golden")
    said = run(tmp_path)
    assert said.returncode == 0, said.stdout + said.stderr


def test_loading_the_plugin_loads_nothing_else():
    code = "import pytest, sys; old = {*sys.modules}; import jaxopt_study.pytest_plugin; print(*{*sys.modules} - old)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert set(answer.stdout.split()) == {"jaxopt_study", "jaxopt_study.pytest_plugin"}

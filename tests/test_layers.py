"""Who may import whom, and what no import may load: `CONTRIBUTING.md` has the floors."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WING = {
    "runtime",
    "models",
    "optimizers",
    "training",
    "loops",
    "nnx_loop",
    "functional",
    "compiled_loops",
    "calibration",
    "validation",
    "derivatives",
    "blocks",
    "closed_form",
    "newton",
    "newton_step",
    "sweep",
    "trajectories",
    "conventions",
    "quirks",
}
HEAVY = {"jax", "jaxlib", "flax", "optax", "torch", "matplotlib", "sklearn", "scipy"}


def loaded_by(statement):
    code = f"import sys; {statement}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(answer.stdout.splitlines()[-1].split())


def imports_of(path):
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize(
    "module",
    [
        "jaxopt_study",
        "jaxopt_study.compare",
        "jaxopt_study.studies",
        "jaxopt_study.bench.engine",
        "jaxopt_study.bench.worker",
        "jaxopt_study.parity",
        "jaxopt_study.dictionary",
        "jaxopt_study.dictionary.__main__",
        "torch_reference",
    ],
)
def test_importing_loads_no_framework_and_no_plotting_library(module):
    assert not loaded_by(f"import {module}") & HEAVY


def test_help_loads_no_framework():
    loaded = loaded_by("from jaxopt_study.compare import main; main(['--help'])")
    assert "cyclopts" in loaded
    assert not loaded & HEAVY


def test_a_wrong_command_line_loads_no_framework():
    loaded = loaded_by("from jaxopt_study.compare import main; assert main(['--epochs', '0']) == 2")
    assert not loaded & HEAVY


@pytest.mark.parametrize(("package", "other"), [("jaxopt_study", "torch"), ("torch_reference", "jax")])
def test_a_wing_loads_its_own_framework_alone(package, other):
    names = [
        name for name in WING if any((ROOT / package / f"{name}{end}").exists() for end in (".py", "/__init__.py"))
    ]
    loaded = loaded_by("; ".join(f"import {package}.{name}" for name in names))
    assert other not in loaded
    assert "matplotlib" not in loaded
    code = f"import sys; {'; '.join(f'import {package}.{name}' for name in names)}; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not any(".bench" in name or ".studies" in name for name in modules.stdout.split() if "jaxopt" in name)


def files(folder):
    return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in sorted(folder.rglob("*.py"))]


@pytest.mark.parametrize("path", files(ROOT / "jaxopt_study" / "bench"))
def test_the_bench_imports_no_study_wing_or_roof(path):
    above = {"jaxopt_study.studies", "jaxopt_study.compare", "jaxopt_study.session", "jaxopt_study.config"}
    above |= {f"jaxopt_study.{name}" for name in WING} | {"torch_reference"}
    assert not {name for name in imports_of(path) if any(name == a or name.startswith(f"{a}.") for a in above)}


@pytest.mark.parametrize("path", files(ROOT / "jaxopt_study" / "studies"))
def test_a_study_imports_no_wing_and_no_roof(path):
    above = {"jaxopt_study.compare", "jaxopt_study.session", "jaxopt_study.config"}
    above |= {f"jaxopt_study.{name}" for name in {*WING, "transforms"}} | {"torch_reference", "jax", "torch"}
    assert not {name for name in imports_of(path) if any(name == a or name.startswith(f"{a}.") for a in above)}


@pytest.mark.parametrize("path", files(ROOT / "jaxopt_study"))
def test_only_timing_reads_a_clock(path):
    if path.name != "timing.py":
        assert not {"time", "timeit"} & imports_of(path)


def test_the_floors_are_seen_from_a_file_that_breaks_them(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text("from jaxopt_study import training\nimport time\n")
    assert {"jaxopt_study.backends.jax.training", "time"} <= imports_of(bad)

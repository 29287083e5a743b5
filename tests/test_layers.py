"""Who may import whom, and what an import may load: the rules of `CONTRIBUTING.md`, for every module of the folders."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

from jaxopt_study.backends import BACKENDS

ROOT = Path(__file__).parents[1]
PACKAGES = ("jaxopt_study", "torch_reference")
FRAMEWORKS = {"jax", "jaxlib", "flax", "optax", "orbax", "torch", "torchmin"}
DRAWING = {"altair", "vl_convert", "jinja2"}
HEAVY = {*FRAMEWORKS, *DRAWING, "scipy", "sklearn"}

# From the top. A module may import from its own file or folder of this table, and from lower layers.
LAYERS = (
    ("__main__",),
    ("reporting",),
    ("compare",),
    ("redraw",),
    ("session", "drawing"),
    ("side_by_side",),
    ("exported",),
    ("measuring", "verdict", "folders", "outcome", "progress"),
    ("tally",),
    ("config",),
    ("studies",),
    ("report", "native"),
    ("bench",),
    ("port",),
    ("data", "dictionary"),
    ("plugin",),
    ("backends",),  # the registry; each backend stands alone
    # These import nothing of ours: what a command owes its terminal, which is imported first; a user's Python.
    ("terminal", "user_code", "register"),
)
# Beside lower layers:
EXTRA = {
    "jaxopt_study.__main__": {"jaxopt_study.parity"},
    "jaxopt_study.studies": {"jaxopt_study.backends.numpy", "jaxopt_study.parity"},
    "jaxopt_study.dictionary.build": {"jax", "optax"},
    "jaxopt_study.dictionary.transforms": {"jax", "optax"},
    "jaxopt_study.native": {"jax", "jaxopt_study.backends.jax.native"},
    "jaxopt_study.port": {"jax", "optax", "orbax", "torch"},
}
# These stand alone: each may import the standard library, NumPy, itself, and what is named here.
ALONE = {
    "jaxopt_study.backends.jax": {"scipy", "jaxtyping", "jax", "flax", "optax", "asdex", "optimistix"},
    "jaxopt_study.backends.numpy": {"scipy", "jaxtyping", "sklearn"},
    "jaxopt_study.backends.c": {"scipy", "jaxtyping", "jaxopt_study.backends.numpy.runtime"},
    "torch_reference": {"scipy", "jaxtyping", "torch", "torchmin"},
    "jaxopt_study.parity": set(),
    "jaxopt_study.pytest_plugin": {"pytest", "jaxopt_study.parity"},
    "jaxopt_study.newton": {"jaxopt_study.backends.jax.newton"},
    "jaxopt_study.derivatives": {"jaxopt_study.backends.jax.derivatives"},
}
# A clock is read in one place, and JSON is written in few.
ONLY_IN = {
    # A minimizer that may take at most so many seconds stands alone, and reads the clock itself.
    "time": {"jaxopt_study.bench.timing", "jaxopt_study.backends.jax.newton.watch", "torch_reference.newton.watch"},
    "timeit": set(),
    "datetime": {"jaxopt_study.bench.timing", "jaxopt_study.compare"},
    "json": {
        "jaxopt_study.bench.record",
        "jaxopt_study.bench.environment",
        "jaxopt_study.compare",
        "jaxopt_study.port.folder",
    },
}
# They offer names of all layers, and load them when they are used.
OFFERING = ("jaxopt_study", "jaxopt_study.report")
# The only modules whose import loads a framework.
LOADING = (
    "jaxopt_study.backends.jax",
    "torch_reference",
    "jaxopt_study.native",
    "jaxopt_study.newton",
    "jaxopt_study.derivatives",
    "jaxopt_study.dictionary.transforms",
    "jaxopt_study.port",
)

# Each breaks one rule: folder, code, and the import that is not allowed.
PLANTED = (
    ("jaxopt_study/bench", "from jaxopt_study import studies", "jaxopt_study.studies"),
    ("jaxopt_study/bench", "from jaxopt_study.backends import numpy", "jaxopt_study.backends.numpy"),
    ("jaxopt_study/bench", "def f():\n    import time", "time"),
    ("jaxopt_study/bench", "from . import stats", "."),
    ("jaxopt_study/report", "from jaxopt_study.studies.registry import OPTIMIZERS", "jaxopt_study.studies.registry"),
    ("jaxopt_study/report", "import json", "json"),
    ("jaxopt_study/studies", "from jaxopt_study.session import run", "jaxopt_study.session"),
    ("jaxopt_study/studies", "import torch_reference.loops", "torch_reference.loops"),
    ("jaxopt_study/studies", "from jaxopt_study.backends.c import loops", "jaxopt_study.backends.c.loops"),
    ("jaxopt_study/studies", "def f():\n    import jax.numpy", "jax.numpy"),
    ("jaxopt_study/data", "from jaxopt_study.bench import case", "jaxopt_study.bench.case"),
    ("jaxopt_study/data", "from jaxopt_study.dictionary import rules", "jaxopt_study.dictionary.rules"),
    ("jaxopt_study/dictionary", "import optax", "optax"),
    ("jaxopt_study/dictionary", "from jaxopt_study.port import params", "jaxopt_study.port.params"),
    ("jaxopt_study/port", "from jaxopt_study.bench import stats", "jaxopt_study.bench.stats"),
    ("jaxopt_study/backends", "from jaxopt_study.data import workload", "jaxopt_study.data.workload"),
    ("jaxopt_study/backends/jax", "from jaxopt_study.data import workload", "jaxopt_study.data.workload"),
    ("jaxopt_study/backends/jax", "import torch", "torch"),
    ("jaxopt_study/backends/numpy", "import jax", "jax"),
    (
        "jaxopt_study/backends/c",
        "from jaxopt_study.backends.numpy import training",
        "jaxopt_study.backends.numpy.training",
    ),
    ("torch_reference", "import jax", "jax"),
    ("torch_reference", "from jaxopt_study.backends.jax import models", "jaxopt_study.backends.jax.models"),
    ("torch_reference", "from timeit import timeit", "timeit"),
    ("jaxopt_study/parity", "import scipy", "scipy"),
    ("jaxopt_study/parity", "import pytest", "pytest"),
    ("jaxopt_study/parity", "from jaxopt_study.bench import stats", "jaxopt_study.bench.stats"),
)


def modules(root):
    """Return the file of each module of both packages."""
    files = [file for package in PACKAGES for file in sorted((root / package).rglob("*.py"))]
    names = (".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__") for file in files)
    return dict(zip(names, files, strict=True))


def imports_of(file, known):
    """Return what a file imports, also in its functions; modules of `known` by their whole names."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            names = (f"{module}.{alias.name}" for alias in node.names)
            found |= {name if name in known else module for name in names}
    return found


def within(module, packages):
    """Return the one of `packages` that `module` is or belongs to."""
    return next((package for package in packages if f"{module}.".startswith(f"{package}.")), None)


def layer_of(module):
    """Return the module's layer, 0 at the top, or None."""
    part = module.removeprefix("jaxopt_study.").split(".")[0]
    return next((number for number, layer in enumerate(LAYERS) if part in layer), None)


def allowed(module, name):
    top = name.split(".")[0]
    if top in ONLY_IN:
        return module in ONLY_IN[top]
    if module in OFFERING:
        return top in PACKAGES or top in sys.stdlib_module_names
    alone, more = within(module, ALONE), EXTRA.get(within(module, EXTRA), ())
    if alone:
        return top in sys.stdlib_module_names or within(name, {"numpy", alone, *ALONE[alone]})
    if within(name, more) or name == "jaxopt_study":
        return True
    if top not in PACKAGES:
        return top and top not in FRAMEWORKS
    layer, other = layer_of(module), layer_of(name)
    if within(name, ALONE) or None in (layer, other):
        return False
    return layer < other or module.split(".")[1] == name.split(".")[1]


def violations(root):
    """Return each import that a rule forbids, and each module that has no place."""
    known = modules(root)
    homeless = [m for m in known if layer_of(m) is None and not within(m, ALONE) and m != "jaxopt_study"]
    imports = ((m, name) for m, file in known.items() for name in imports_of(file, known))
    return {*((m, "has no layer") for m in homeless), *(pair for pair in imports if not allowed(*pair))}


def run(code, *arguments, root=ROOT):
    command = [sys.executable, "-c", code, *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout.splitlines()[-1])


def heavy_imports(names, root=ROOT):
    """Return the first module, imported in this order, after which something heavy is loaded, and what is."""
    code = """
import importlib, json, sys
heavy, found = set(json.loads(sys.argv[1])), []
for name in json.loads(sys.argv[2]):
    importlib.import_module(name)
    found = sorted(heavy & set(sys.modules))
    if found:
        found = [name, *found]
        break
print(json.dumps(found))
"""
    return run(code, json.dumps(sorted(HEAVY)), json.dumps(names), root=root)


def loaded_by(statement):
    return set(run(f"import json, sys; {statement}; print(json.dumps(list(sys.modules)))"))


@pytest.fixture(scope="module")
def ours():
    return violations(ROOT)


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A copy of both packages in which each rule is broken once."""
    root = tmp_path_factory.mktemp("broken")
    for package in PACKAGES:
        copytree(ROOT / package, root / package, ignore=ignore_patterns("__pycache__"))
    for number, (folder, code, _) in enumerate(PLANTED):
        (root / folder / f"planted_{number}.py").write_text(code)
    (root / "jaxopt_study" / "elsewhere.py").touch()
    (root / "jaxopt_study" / "report" / "drawing.py").write_text("import altair")
    return root


def test_imports_go_downward_only(ours):
    assert ours == set()


def test_each_broken_rule_is_found(ours, broken):
    expected = {
        (f"{folder.replace('/', '.')}.planted_{number}", name) for number, (folder, _, name) in enumerate(PLANTED)
    }
    assert violations(broken) - ours == expected | {("jaxopt_study.elsewhere", "has no layer")}


def test_importing_loads_no_framework_and_no_plotting_library():
    names = [name for name in modules(ROOT) if name in LOADING[:2] or not within(name, LOADING)]
    assert heavy_imports(names) == []


def test_an_import_that_loads_a_plotting_library_is_found(broken):
    names = ["jaxopt_study.report.table", "jaxopt_study.report.drawing"]
    assert heavy_imports(names, broken) == ["jaxopt_study.report.drawing", "altair", "jinja2"]


def test_help_and_a_wrong_command_line_load_no_framework():
    loaded = loaded_by("from jaxopt_study.compare import main; main(['--help']); assert main(['--epochs', '0']) == 2")
    assert "cyclopts" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize("framework", BACKENDS)
def test_a_backend_loads_its_own_framework_alone(framework):
    loaded = loaded_by(f"from jaxopt_study import backends; backends.load({framework!r})")
    assert loaded & FRAMEWORKS <= {*ALONE[BACKENDS[framework]], "jaxlib"}
    assert not loaded & DRAWING
    assert not [name for name in loaded if "jaxopt_study." in name and not within(name, ["jaxopt_study.backends"])]

"""What several tests need: plans, whole runs, and the command line as a user calls it."""

import gc
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from importlib.metadata import version

import pytest
from hypothesis import settings

from jaxopt_study import compare as command_line
from jaxopt_study.backends import load
from jaxopt_study.bench.case import Plan
from jaxopt_study.data.workloads import digits_linear

# A shell's background jobs and nohup ignore these, and so would whatever the tests start there.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

# What takes time to compile, and changes no value: fused loops, a program in many parts, the place of each operation in
# the source. No time is cited from here. XLA aborts where it does not know a flag, so that these are set for the JAX
# that they were tried with.
if version("jax").startswith("0.10."):
    quicker = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {quicker}".strip()
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")

# JAX's traces are many objects that live on, through which each collection would go.
gc.set_threshold(100_000, 50, 100)

# How much is drawn: `pytest --hypothesis-profile full` takes hours.
settings.register_profile("quick", deadline=None, max_examples=2, derandomize=True, database=None)
settings.register_profile("full", deadline=None, max_examples=200, print_blob=True)
settings.load_profile("quick")


def pytest_collection_modifyitems(items):
    """Begin with the file that is one long run, and with a long one of the last, so that no process is idle long."""
    items.sort(key=lambda item: item.path.name not in ("test_recipes.py", "test_workloads.py"))


def pytest_collection_finish():
    """Leave what was imported out of collections that something asks for."""
    gc.freeze()


def make_plan(**changes):
    """Return a small plan."""
    plan = {
        "studies": ("optimizers",),
        "overview": False,
        "workload": "digits-linear",
        "optimizers": ("adam", "rmsprop", "sgd", "adagrad"),
        "frameworks": ("jax", "torch"),
        "profile": "smoke",
        "dtype": "float64",
        "device": "cpu",
        "threads": 1,
        "seed": 0,
        "epochs": 1,
        "learning_rate": 1e-3,
        "repeats": 1,
    }
    return Plan(**(plan | changes))


def compare(*arguments, **options):
    """Run `python -m jaxopt_study.compare` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "jaxopt_study.compare", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"COLUMNS": "200", "PYTHONUNBUFFERED": ""},
        **options,
    )


@pytest.fixture
def compare_here(monkeypatch, capsys):
    """The same in this process, which has loaded what the command line needs; its workers are processes as ever."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        status = command_line.main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, status, said.out, said.err)

    return run


@pytest.fixture(scope="session")
def digits():
    """The notebook's data, with one epoch of order."""
    return digits_linear(seed=0, epochs=1)


def load_backend(name, dtype="float64"):
    """Load a backend into this process, and set its type."""
    backend = load(name)
    backend.runtime.configure(dtype, "cpu", 1)
    return backend


@contextmanager
def compiled_quickly(quickly=True):
    """Let XLA compile without most of its optimizations: for programs that run once, in milliseconds.

    It computes in another order then, so that a bound that is measured beside it is a bound of these tests alone.
    """
    import jax

    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", quickly)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module", autouse=True)
def in_this_process():
    """Compile quickly here: what runs for milliseconds is not worth optimizing for seconds. Workers optimize."""
    with compiled_quickly():
        yield


@pytest.fixture
def optimized():
    """Let XLA optimize, as in a worker: for tests of the program that it makes."""
    with compiled_quickly(False):
        yield


@pytest.fixture(scope="module")
def backends():
    """Both backends, in float64."""
    return {name: load_backend(name) for name in ("jax", "torch")}


@pytest.fixture(scope="module")
def float32():
    """Set both frameworks as they are when nothing was set."""
    import jax
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    with jax.enable_x64(False):
        yield
    torch.set_default_dtype(before)

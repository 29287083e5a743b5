"""The two backends line up: the same modules, the same public names, the same parameters; and both are a `Backend`."""

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from jaxopt_study import backends
from jaxopt_study.studies.ranking import points
from jaxopt_study.studies.registry import OPTIMIZERS

ROOT = Path(__file__).parents[1]
JAX, TORCH = (backends.BACKENDS[name] for name in ("jax", "torch"))

# Only one backend has these; the reason is why the other has not.
MODULES_ALONE = {
    "jax": {
        "native": "attributes of XLA",
        "compiling": "options of XLA",
        "newton.collection": "the problems are written in JAX",
        "newton.compiled": "PyTorch runs the loop eagerly",
        "newton.program": "what is traced and compiled is found again by it",
        "nnx_loop": "flax.nnx is JAX's second way to write a network",
        "sparse": "asdex colours the Hessians of JAX's functions alone",
        "streams": "a thousand descents at once, by vmap",
        "surfaces": "a thousand descents at once, by vmap",
        "sweep": "vmap and map over whole trainings need a functional loop",
    },
    "torch": {
        "compiled_loops": "torch.compile and CUDA graphs; JAX's loops are compiled in `loops`",
        "functional": "pure optimizers, which optax already has",
        "onednn": "the library of matrix products that nn.Linear does not use; XLA uses it",
    },
}
NAMES_ALONE = {
    "jax": {
        "grid": dict.fromkeys(("compiled", "natively", "sequential", "vmapped"), "a whole grid is one program"),
        "loops": dict.fromkeys(
            ("donated", "flat_scan", "jitted", "native_scan", "operator_by_operator", "scan", "unrolled_scan"),
            "a way to loop under jax.jit, or without it",
        )
        | {"nnx_jitted": "the loop of flax.nnx"},
        "models": {"transposing_network": "a remedy for a slow matrix product of XLA"},
        "newton": {"collection": "the problems are written in JAX", "many": "vmap over whole minimizations"},
        "newton.driver": dict.fromkeys(
            ("advance", "begin", "look_further", "settle", "take"), "a run is compiled in these parts"
        ),
        "newton.minimize": {"many": "vmap over whole minimizations"},
        "newton.peers": dict.fromkeys(
            ("optimistix_bfgs", "peers", "scipy"), "a minimizer that takes JAX's derivatives"
        ),
        "newton.step": {"tally": "counts as arrays, for a compiled loop", "when": "a branch of a compiled loop"},
        "steps": dict.fromkeys(("donated", "jitted", "native_scan", "scan"), "a way to loop under jax.jit"),
        "more_optimizers": dict.fromkeys(("adabelief", "lion", "schedule_free_adamw"), "torch.optim has no such class")
        | {"evaluated": "it is for schedule-free optimizers", "muon": "torch.optim.Muon takes matrices alone"},
        "registered": {"check_by_rate": "the rate of a torch optimizer is no part of a compiled program"},
        "optimizers": {"folded_adam": "torch.optim.Adam is computed so already"},
    },
    "torch": {
        "calibration": {"onednn_product": "XLA uses oneDNN already"},
        "defects": {"normalization_explains": "JAX's Hessians are right"},
        "derivatives": {
            "hessian_compiled": "all of JAX's functions are compiled",
            "hessian_double_backward": "the notebook's way in PyTorch",
            "hessian_functional": "torch.autograd.functional, PyTorch's older interface",
            "hessian_functional_forward": "torch.autograd.functional, PyTorch's older interface",
            "hessian_functional_vectorized": "torch.autograd.functional, PyTorch's older interface",
        },
        "loops": dict.fromkeys(("foreach", "fused", "notebook", "prepared", "quickest"), "a way to call torch.optim"),
        "models": {"onednn_network": "a remedy for a slow matrix product of MKL"},
        "newton.peers": dict.fromkeys(("torch_lbfgs", "torchmin"), "a minimizer in PyTorch"),
        "optimizers": dict.fromkeys(("implementation", "quickest"), "torch.optim has several implementations"),
        "registered": {"named": "in JAX the dictionary makes the optimizer of a call in torch"},
        "runtime": {
            "compiled": "a variable of the environment can switch torch.compile off",
            "ravel_tree": "JAX has it: jax.flatten_util.ravel_pytree",
        },
        "steps": dict.fromkeys(("compiled", "cuda_graph"), "a way to loop of PyTorch"),
        "validation": {"twice_differentiable": "PyTorch's fused attention has a first derivative alone"},
        "trajectories": {"make": "in JAX `dictionary.build` makes the optimizer from its text"},
    },
}
PARAMETERS_DIFFER = {
    "last_layer.settled": "in JAX the check is in the compiled program, in PyTorch it comes after",
    "newton.driver.drive": "PyTorch's loop can ask after each step whether to stop; a compiled one runs in pieces",
    "newton.implicit.solution": "JAX differentiates a compiled program of its data, PyTorch the objective as it is",
    "training.make_step": "a torch optimizer holds its parameters, so it is part of the state and not of the step",
}


def modules_of(package):
    """Return the names of a package's modules, those of its packages too."""
    path = importlib.import_module(package).__path__
    return {info.name.removeprefix(f"{package}.") for info in pkgutil.walk_packages(path, f"{package}.")}


BOTH = sorted(modules_of(JAX) & modules_of(TORCH))


def public(package, module):
    backend = importlib.import_module(f"{package}.{module}")
    return {name: getattr(backend, name) for name in backend.__all__}


def parameters(function):
    return [(p.name, p.default) for p in inspect.signature(function).parameters.values()]


def test_modules_are_the_same():
    jax, torch = modules_of(JAX), modules_of(TORCH)
    assert jax - torch == set(MODULES_ALONE["jax"])
    assert torch - jax == set(MODULES_ALONE["torch"])


@pytest.mark.parametrize("module", BOTH)
def test_public_names_are_the_same(module):
    jax, torch = set(public(JAX, module)), set(public(TORCH, module))
    assert jax - torch == set(NAMES_ALONE["jax"].get(module, ()))
    assert torch - jax == set(NAMES_ALONE["torch"].get(module, ()))


@pytest.mark.parametrize("module", BOTH)
def test_parameter_names_and_defaults_are_the_same(module):
    jax, torch = public(JAX, module), public(TORCH, module)
    for name in jax.keys() & torch.keys():
        if inspect.isroutine(inspect.unwrap(jax[name])) and f"{module}.{name}" not in PARAMETERS_DIFFER:
            assert parameters(jax[name]) == parameters(torch[name]), name


@pytest.mark.parametrize(
    ("package", "module"), [(p, m) for p in (JAX, TORCH) for m in sorted(modules_of(p))], ids=lambda given: given
)
def test_every_public_function_is_documented(package, module):
    for name, value in public(package, module).items():
        assert not callable(value) or value.__doc__, name


def test_exceptions_are_of_modules_that_exist():
    names = [name for part in (MODULES_ALONE, NAMES_ALONE) for name in (*part["jax"], *part["torch"])]
    names += [name.rpartition(".")[0] for name in PARAMETERS_DIFFER]
    assert set(names) <= modules_of(JAX) | modules_of(TORCH)


def test_the_optimizer_tables_have_the_same_rows():
    jax, torch = (public(package, "optimizers")["OPTIMIZERS"] for package in (JAX, TORCH))
    assert list(jax) == list(torch) == list(OPTIMIZERS)


def test_the_ranking_has_each_optimizer_of_the_table_and_a_default_rate_for_each():
    jax, torch = (public(package, "more_optimizers")["OPTIMIZERS"] for package in (JAX, TORCH))
    assert list(jax)[: len(OPTIMIZERS)] == list(torch)[: len(OPTIMIZERS)] == list(OPTIMIZERS)
    assert set(torch) - set(jax) == set()
    assert set(jax) == set(points.OPTIMIZERS)


def test_the_registry_says_which_forms_of_an_optimizer_exist():
    from jaxopt_study.backends.c import loops
    from jaxopt_study.backends.numpy import training
    from torch_reference import functional

    for name, row in OPTIMIZERS.items():
        exists = (name in training.RULES, name in loops.OPTIMIZERS, name in functional.FUNCTIONAL)
        assert (bool(row.loops), row.c, row.functional) == exists, name


def test_a_backend_has_the_modules_that_both_twins_have():
    assert set(typing.get_type_hints(backends.Backend)) == {name for name in BOTH if "." not in name}


def test_the_type_checker_finds_each_module_to_have_the_functions_of_its_protocol(tmp_path):
    """It cannot compare a package with `Backend`, so it compares each module; the last one is planted and wrong."""
    pytest.importorskip("mypy")
    protocols = {name: kind for name, kind in typing.get_type_hints(backends.Backend).items() if kind is not typing.Any}
    pairs = [(f"{package}.{name}", kind.__name__) for package in (JAX, TORCH) for name, kind in protocols.items()]
    pairs += [(f"{backends.BACKENDS[name]}.runtime", "Runtime") for name in ("numpy", "c")]
    pairs.append((f"{TORCH}.models", "Runtime"))
    lines = ["from jaxopt_study import backends", *(f"import {module}" for module, _ in pairs)]
    lines += [f"_{number}: backends.{kind} = {module}" for number, (module, kind) in enumerate(pairs)]
    file = tmp_path / "compared.py"
    file.write_text("\n".join(lines))
    command = [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", file]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    errors = re.findall(r"compared.py:(\d+): error:", answer.stdout)
    assert errors == [str(len(lines))], answer.stdout

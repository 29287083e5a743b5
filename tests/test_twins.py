"""The two backends line up: the same public names, with the same parameter names."""

import importlib
import inspect

import pytest

MODULES = (
    "runtime",
    "models",
    "optimizers",
    "training",
    "loops",
    "calibration",
    "validation",
    "derivatives",
    "blocks",
    "closed_form",
    "newton",
    "newton_step",
    "trajectories",
    "conventions",
    "quirks",
)

# What only one backend has, by name.
JAX_ALONE = {
    ("loops", "donated"),
    ("loops", "flat_scan"),
    ("loops", "jitted"),
    ("loops", "nnx_jitted"),
    ("loops", "operator_by_operator"),
    ("loops", "scan"),
    ("loops", "unrolled_scan"),
    ("loops", "native_scan"),
    ("models", "transposing_network"),
    ("newton", "many"),
    ("optimizers", "folded_adam"),
    ("trajectories", "namesake"),
}
TORCH_ALONE = {
    ("calibration", "onednn_product"),
    ("models", "onednn_network"),
    ("newton", "peers"),
    ("optimizers", "implementation"),
    ("optimizers", "quickest"),
    ("loops", "foreach"),
    ("loops", "fused"),
    ("loops", "notebook"),
    ("loops", "prepared"),
    ("derivatives", "hessian_compiled"),
    ("derivatives", "hessian_double_backward"),
    ("derivatives", "hessian_functional"),
    ("derivatives", "hessian_functional_forward"),
    ("derivatives", "hessian_functional_vectorized"),
}


def public(package, module):
    backend = importlib.import_module(f"{package}.{module}")
    return {name: getattr(backend, name) for name in backend.__all__}


@pytest.mark.parametrize("module", MODULES)
def test_public_names_are_the_same(module):
    jax, torch = set(public("jaxopt_study", module)), set(public("torch_reference", module))
    assert {(module, name) for name in jax - torch} == {pair for pair in JAX_ALONE if pair[0] == module}
    assert {(module, name) for name in torch - jax} == {pair for pair in TORCH_ALONE if pair[0] == module}


@pytest.mark.parametrize("module", MODULES)
def test_parameter_names_and_defaults_are_the_same(module):
    jax, torch = public("jaxopt_study", module), public("torch_reference", module)
    for name in jax.keys() & torch.keys():
        if inspect.isfunction(jax[name]) and (module, name) != ("training", "make_step"):
            assert parameters(jax[name]) == parameters(torch[name]), name


@pytest.mark.parametrize("module", MODULES)
def test_every_public_function_says_what_it_does(module):
    for package in ("jaxopt_study", "torch_reference"):
        for name, value in public(package, module).items():
            assert not callable(value) or value.__doc__, name


def test_make_step_differs_where_it_must():
    """A torch optimizer holds its parameters, so it is part of the state and not of the step."""
    assert [name for name, _ in parameters(public("jaxopt_study", "training")["make_step"])] == ["loss", "optimizer"]
    assert [name for name, _ in parameters(public("torch_reference", "training")["make_step"])] == ["loss"]


def test_the_optimizer_tables_have_the_same_rows():
    jax, torch = (public(p, "optimizers")["OPTIMIZERS"] for p in ("jaxopt_study", "torch_reference"))
    assert list(jax) == list(torch)
    from jaxopt_study.studies.optimizers import NOTEBOOK, OPTIMIZERS

    assert list(jax) == list(OPTIMIZERS) == list(NOTEBOOK)


def parameters(function):
    return [(p.name, p.default) for p in inspect.signature(function).parameters.values()]

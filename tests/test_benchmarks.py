"""The benchmarks compare losses before they show a time. No test asserts a time."""

import importlib.util
from functools import partial
from pathlib import Path

import pytest

from jaxopt_study.data.workloads import WORKLOADS
from tests.conftest import compiled_quickly, load_backend


def benchmark(name):
    """Return a benchmark's module."""
    path = Path(__file__).parents[1] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def batches(monkeypatch):
    """The benchmark of batches, small and without torch.compile, which takes ten seconds."""
    module = benchmark("batches")
    monkeypatch.setattr(module, "ROUNDS", 2)
    monkeypatch.delitem(module.PYTORCH, "torch.compile")
    return module


@pytest.fixture
def both():
    loaded = {name: load_backend(name, "float32") for name in ("jax", "torch")}
    with compiled_quickly():
        yield loaded
    for name in loaded:
        load_backend(name)


def test_each_loop_of_pytorch_has_a_ratio(batches, both):
    jax, *lines = batches.measured(both, WORKLOADS["digits-mlp"](0, 1, 32), 4)
    assert jax.startswith(("JAX by jax.jit", "JAX by lax.scan"))
    assert [line.split(":")[0] for line in lines] == ["PyTorch by its usual loop", "PyTorch by fused"]
    assert all("times JAX's" in line for line in lines)


def test_a_loop_that_trains_otherwise_has_no_time(batches, both, monkeypatch):
    right = both["torch"].loops.fused

    monkeypatch.setattr(
        both["torch"].loops, "fused", lambda *given: right(given[0], partial(given[1], weight_decay=0.5))
    )
    *_, usual, wrong = batches.measured(both, WORKLOADS["digits-mlp"](0, 1, 32), 4)
    assert "times JAX's" in usual
    assert "PyTorch by fused: its losses differ by" in wrong


def test_each_way_of_the_ranking_trains_the_same_first_network(both, monkeypatch):
    ranking = benchmark("ranking")
    monkeypatch.setattr(ranking, "EPOCHS", 1)
    problem = ranking.made(32, starts=1)
    found = [
        ranking.sweep(both["jax"], problem, "vmapped", rates=1),
        ranking.own_loop(both["torch"], problem),
        ranking.by_torch_vmap(both["torch"], problem, compiled=False, models=2),
    ]
    losses = [float(train()) for train, _ in found]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)  # 2.1e-6 measured
    assert [steps for _, steps in found] == [2 * 2 * 22, 22, 2 * 22]


def test_each_route_to_the_hessian_has_its_ratios_and_a_wrong_one_has_none(both, digits, monkeypatch):
    hessians = benchmark("hessians")
    monkeypatch.setattr(hessians, "ROUNDS", 1)
    right = hessians.routes

    def planted(backend, framework):
        found = right(backend, framework)
        return {**found, "HVP blocks": lambda *given: 1.1 * found["HVP blocks"](*given)}

    monkeypatch.setattr(hessians, "routes", planted)
    for framework, own in hessians.OWN.items():
        lines = list(hessians.measured(framework, digits))
        assert [line.split(":")[0].split(", ")[1] for line in lines] == [own, "HVP blocks", "last layer", "closed form"]
        assert "differs from the closed form by 1.0e-01" in lines[1]
        assert f"of {own}" in lines[2]

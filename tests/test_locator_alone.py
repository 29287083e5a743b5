"""What the locator says from the parameters alone, where a certain name was false: momentum, one leaf, clamping."""

import numpy as np
import pytest
import torch
from torch import nn

from jaxopt_study import parity

STEPS = 12


@pytest.fixture(autouse=True)
def _drawn_in_float32():
    """The same seed draws other numbers in another default type, which a test before may have left."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(before)


def trained(seed, optimizer, *, gradients=None, after=None, swapped=()):
    """Return the parameters of each step of a small convolutional network in float64.

    Args:
        seed: Of the initial parameters and the batches.
        optimizer: Makes the optimizer of some parameters.
        gradients: Changes the gradients of the model before each step.
        after: Changes the parameters after each step.
        swapped: Two steps whose batches are exchanged.
    """
    torch.manual_seed(seed)
    layers = nn.Unflatten(1, (1, 8)), nn.Conv1d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 5)
    model = nn.Sequential(*layers).double()
    data = [(torch.randn(16, 8, dtype=torch.float64), torch.randint(5, (16,))) for _ in range(24)]
    if swapped:
        i, j = swapped
        data[i], data[j] = data[j], data[i]
    rule = optimizer(model.parameters())
    trees = [{name: leaf.detach().clone() for name, leaf in model.named_parameters()}]
    for inputs, targets in data[:STEPS]:
        rule.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        if gradients:
            gradients(model)
        rule.step()
        if after:
            after(model)
        trees.append({name: leaf.detach().clone() for name, leaf in model.named_parameters()})
    return trees


def sgd(lr=0.05, momentum=0.9, **constants):
    return lambda params: torch.optim.SGD(params, lr, momentum, **constants)


def adam(**constants):
    return lambda params: torch.optim.Adam(params, 0.01, **constants)


@pytest.mark.parametrize("seed", range(1, 5))
@pytest.mark.parametrize("exchanged", [False, True])
def test_momentum_that_repeats_a_step_is_no_batch_order(seed, exchanged):
    """A dampened second update is nearly the first one."""
    pair = trained(seed, sgd()), trained(seed, sgd(dampening=0.9))
    report = parity.locate(*(pair[::-1] if exchanged else pair))
    assert (report.difference.step, report.pattern.name) == (2, "unknown"), report


@pytest.mark.parametrize("rule", [sgd(), sgd(momentum=0), adam()], ids=["momentum", "sgd", "adam"])
def test_swapped_batches_are_still_named(rule):
    report = parity.locate(trained(1, rule), trained(1, rule, swapped=(3, 4)))
    assert (report.difference.step, report.pattern.name) == (4, "another batch order"), report
    assert "is that of step 5 in the other" in str(report)


def times(factor, name):
    return lambda model: model.get_parameter(name).grad.mul_(factor)


def test_a_factor_of_one_leaf_is_told_of_that_leaf():
    report = parity.locate(trained(1, sgd()), trained(1, sgd(), gradients=times(1.1, "1.weight")))
    words = report.pattern.words
    assert report.pattern.name == "a constant factor"
    assert words.startswith("all elements of the second's update of 1.weight at step 1 are 1.1 times the first's"), (
        words
    )
    assert "1.bias, 4.bias, 4.weight agree: if these are trained, a learning rate of its own group, or its" in words


def test_another_damping_of_one_leaf_is_told_of_that_leaf():
    rule = adam(eps=1e-3)
    report = parity.locate(trained(1, rule), trained(1, rule, gradients=times(3, "4.weight")))
    words = report.pattern.words
    assert report.pattern.name == "a different eps or scale of the gradients"
    assert words.startswith("in 4.weight the second's first update is "), words
    assert "1.bias, 1.weight, 4.bias agree: if these are trained, another eps of its own group" in words


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("eps", [1e-5, 1e-3])
def test_another_eps_of_all_leaves_is_told_of_all(eps, kind):
    """A leaf of which the gradients are large agrees under any eps."""
    first, second = trained(1, adam()), trained(1, adam(eps=eps))
    for trees in (first, second):
        for n, tree in enumerate(trees):
            tree["large"] = torch.linspace(-1, 1, 9, dtype=torch.float64) + 0.01 * n
    first, second = (
        [{name: leaf.to(kind) for name, leaf in tree.items()} for tree in each] for each in (first, second)
    )
    report = parity.locate(first, second)
    assert report.pattern.name == "a different eps or scale of the gradients"
    assert "large" not in report.leaves
    assert "agree" not in report.pattern.words, report


def test_a_leaf_that_no_learning_rate_moves_leaves_both_causes_open():
    """Running statistics of the first step agree, whatever the learning rate is."""
    first, second = trained(1, sgd()), trained(1, sgd(lr=0.06))
    for trees in (first, second):
        for n, tree in enumerate(trees):
            tree["running_mean"] = torch.full((4,), 0.1 * n) if n < 2 else 0.9 * tree["1.bias"]
    words = parity.locate(first, second).pattern.words
    assert "running_mean agree: if these are trained, " in words
    assert words.endswith("if not, another learning rate or scale of the loss")


def test_the_next_steps_are_said_to_agree_only_where_they_do():
    both = parity.locate(trained(1, sgd()), trained(1, sgd(lr=0.06, momentum=0.5))).pattern
    assert both.name == "a constant factor"
    assert "1.2 times the first's (the next steps do not tell whether more differs)" in both.words
    assert "clipping, or nesterov in one" in both.words
    rate = parity.locate(trained(1, sgd()), trained(1, sgd(lr=0.051))).pattern.words
    assert "1.02 times the first's, and those of the next two steps about 1.0" in rate


def clamp(low, high):
    def change(model):
        for leaf in model.parameters():
            leaf.data.clamp_(low, high)

    return change


@pytest.mark.parametrize("exchanged", [False, True])
@pytest.mark.parametrize("seed", [4, 18])
def test_clamped_parameters_are_no_clipping(seed, exchanged):
    pair = trained(seed, sgd()), trained(seed, sgd(), after=clamp(-0.3, 0.3))
    report = parity.locate(*(pair[::-1] if exchanged else pair))
    assert report.pattern.name == "clamped parameters", report
    assert f"the {'first' if exchanged else 'second'}'s parameters are the other's, cut at " in str(report)
    assert "0.3" in report.pattern.words


def test_bounds_of_several_leaves_are_no_clipping():
    """One bound for all does not explain them, so the cause is unknown."""

    def change(model):
        model.get_parameter("1.weight").data.clamp_(-0.3, 0.3)
        model.get_parameter("4.weight").data.clamp_(-0.1, 0.1)

    for seed in range(1, 5):
        report = parity.locate(trained(seed, sgd(lr=1e-3)), trained(seed, sgd(lr=1e-3), after=change))
        assert report.pattern.name == "unknown", report


def test_bounds_are_no_clipping_where_all_updates_have_one_size():
    """Adam's first updates do: beside a jump to a bound, each looks as if it were cut."""
    inside, small = np.linspace(-0.1, 0.1, 8), np.full(8, 5e-3)
    start = {"a": np.array([0.4, 0.45, 0.5, *inside]), "b": np.array([0.25, 0.28, 0.35, *inside])}
    update = np.array([-0.01] * 3 + [*small])
    first = {name: leaf + update for name, leaf in start.items()}
    second = {name: np.minimum(first[name], bound) for name, bound in (("a", 0.3), ("b", 0.2))}
    report = parity.locate([start, first], [start, second])
    assert report.pattern.name == "unknown", report


@pytest.mark.parametrize("seed", [1, 2])
def test_clipping_by_value_is_still_named(seed):
    def clip(model):
        nn.utils.clip_grad_value_(model.parameters(), 0.05)

    report = parity.locate(trained(seed, sgd()), trained(seed, sgd(), gradients=clip))
    assert report.pattern.name == "clipping by value", report

"""A training of either framework is recorded in one line, and the two files are compared."""

import gc
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import linen

from jaxopt_study import parity, port
from jaxopt_study.parity import saving

ROOT = Path(__file__).parents[1]
STEPS, RATE = 6, 0.05

pytestmark = pytest.mark.usefixtures("float32")


class State(NamedTuple):
    params: Any
    statistics: Any
    memory: Any


class MLP(linen.Module):
    @linen.compact
    def __call__(self, inputs):
        hidden = linen.tanh(linen.Dense(5, name="first")(inputs.reshape(len(inputs), -1)))
        return linen.Dense(3, name="out")(hidden)


class CNN(linen.Module):
    @linen.compact
    def __call__(self, inputs):
        hidden = linen.Conv(4, (3, 3), padding=1, name="conv")(inputs)
        hidden = linen.relu(linen.BatchNorm(use_running_average=False, name="bn")(hidden))
        return linen.Dense(3, name="out")(hidden.mean((1, 2)))


def mlp():
    return torch.nn.ModuleDict({"first": torch.nn.Linear(32, 5), "out": torch.nn.Linear(5, 3)})


def cnn():
    parts = {"conv": torch.nn.Conv2d(2, 4, 3, padding=1), "bn": torch.nn.BatchNorm2d(4), "out": torch.nn.Linear(4, 3)}
    return torch.nn.ModuleDict(parts)


def logits(model, inputs):
    if "first" in model:
        return model["out"](torch.tanh(model["first"](inputs.flatten(1))))
    hidden = torch.relu(model["bn"](model["conv"](inputs.permute(0, 3, 1, 2))))
    return model["out"](hidden.mean((2, 3)))


def batches(steps=STEPS):
    draw = np.random.default_rng(0)
    return [(draw.standard_normal((8, 4, 4, 2), np.float32), draw.integers(3, size=8)) for _ in range(steps)]


def train_torch(model, optimizer, stop=None):
    for step, (inputs, targets) in enumerate(batches()):
        if step == stop:
            raise KeyboardInterrupt
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits(model, torch.tensor(inputs)), torch.tensor(targets)).backward()
        optimizer.step()


def in_flax(network, model, rate=RATE):
    """Return the step and the first state of the same training in JAX."""
    rule = optax.sgd(rate, momentum=0.9)
    template = jax.eval_shape(network.init, jax.random.key(0), jnp.ones((1, 4, 4, 2)))
    variables = port.to_flax_params(model, template)

    def loss(params, statistics, inputs, targets):
        given = {"params": params, **statistics}
        outputs, changed = network.apply(given, inputs, mutable=["batch_stats"])
        return optax.softmax_cross_entropy_with_integer_labels(outputs, targets).mean(), dict(changed)

    @jax.jit
    def step(state, batch):
        slope, statistics = jax.grad(loss, has_aux=True)(state.params, state.statistics, *batch)
        updates, memory = rule.update(slope, state.memory, state.params)
        return State(optax.apply_updates(state.params, updates), statistics, memory)

    params = variables.pop("params")
    return step, State(params, variables, rule.init(params))


@pytest.mark.parametrize("rate", [RATE, 1.1 * RATE])
@pytest.mark.parametrize(("make", "network"), [(mlp, MLP), (cnn, CNN)])
def test_both_are_recorded_and_compared_in_six_lines(make, network, rate, tmp_path):
    """A wrong learning rate makes the test red, so the files hold what the trainings did."""
    torch.manual_seed(0)
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=0.9)
    step, state = in_flax(network(), model, rate)
    with parity.record(model, optimizer, tmp_path / "torch.npz") as recorded:
        train_torch(model, optimizer)
    with parity.recorded(
        step, tmp_path / "jax", lambda s: port.to_torch_params(s.params, dict(model.named_parameters()))
    ) as step:
        for batch in batches():
            state = step(state, batch)
    report = parity.locate(recorded, step.path)
    assert len(report.distances) == (STEPS + 1 if rate == RATE else 2)
    assert report.same == (rate == RATE), report
    assert rate == RATE or report.pattern.name == "a constant factor"


def test_a_training_that_raises_leaves_the_steps_it_made(tmp_path):
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), RATE)
    with pytest.raises(KeyboardInterrupt), parity.record(model, optimizer, tmp_path / "a") as path:
        train_torch(model, optimizer, stop=2)
    train_torch(model, optimizer)  # the hook is gone
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]
    trees = list(parity.load_trajectory(path))
    assert [sorted(tree) for tree in trees] == [["first.bias", "first.weight", "out.bias", "out.weight"]] * 3
    assert not np.array_equal(trees[1]["out.bias"], trees[2]["out.bias"])


def test_buffers_are_recorded_on_request(tmp_path):
    model = cnn()
    optimizer = torch.optim.SGD(model.parameters(), RATE)
    with parity.record(model, optimizer, tmp_path / "a", buffers=True) as path:
        train_torch(model, optimizer)
    last = list(parity.load_trajectory(path))[-1]
    assert last["bn.num_batches_tracked"] == STEPS
    assert np.array_equal(last["bn.running_mean"], model["bn"].running_mean)
    assert np.array_equal(last["conv.weight"], model["conv"].weight.detach())


def test_what_cannot_be_recorded_is_refused(tmp_path):
    model, other = mlp(), mlp()
    for optimizer, words in (
        (torch.optim.SGD(other.parameters(), RATE), "the optimizer steps no parameter of this model"),
        (optax.sgd(RATE), "give one of torch.optim, or use `recorded`"),
    ):
        with pytest.raises(ValueError, match=words), parity.record(model, optimizer, tmp_path / "a"):
            pass
    with (
        pytest.raises(ValueError, match=r"step was never called, so .*a\.npz was not written"),
        parity.recorded(lambda state, _: state, tmp_path / "a"),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_a_step_may_return_more_than_the_state_or_nothing(tmp_path):
    """Arrays that are changed in place are copied at each step."""

    def add(state, by):
        state["w"] += by

    def added(state, by):
        return {"w": state["w"] + by}, 0.5

    for step in (
        parity.recorded(add, tmp_path / "a"),
        parity.recorded(added, tmp_path / "b", state=lambda output: output[0]),
    ):
        state = {"w": np.zeros(2)}
        with step:
            for by in (1, 2):
                output = step(state, by)
                state = state if output is None else output[0]
        step.close()
        assert [tree["w"].tolist() for tree in parity.load_trajectory(step.path)] == [[0, 0], [1, 1], [3, 3]]


def test_a_step_that_nobody_closes_is_written_in_the_end(tmp_path):
    step = parity.recorded(lambda state, by: {"w": state["w"] + by}, tmp_path / "a")
    step({"w": np.zeros(2)}, 1)
    del step
    gc.collect()
    assert len(list(parity.load_trajectory(tmp_path / "a.npz"))) == 2
    code = "import sys; from jaxopt_study import parity; s = parity.recorded(lambda x, y: [y], sys.argv[1]); s([1], 2)"
    subprocess.run([sys.executable, "-c", code, tmp_path / "b"], check=True, cwd=ROOT)
    assert len(list(parity.load_trajectory(tmp_path / "b.npz"))) == 2


def test_a_disk_that_is_full_leaves_no_file(tmp_path, monkeypatch):
    """Every write to this device fails, once the buffer is full."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full")
    monkeypatch.setattr(saving.tempfile, "TemporaryFile", lambda **_: full.open("rb+", buffering=0))
    with pytest.raises(OSError, match="No space"):
        parity.save_trajectory(tmp_path / "a", [{"w": np.zeros(3)}] * 2)
    with (
        pytest.raises(OSError, match="No space"),
        parity.recorded(lambda state, _: state, tmp_path / "a") as step,
    ):
        step({"w": np.zeros(3)}, 1)
    assert not list(tmp_path.iterdir())

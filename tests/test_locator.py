"""The divergence locator finds planted mistakes: step and leaf right, and the pattern named."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_study import parity

ROOT = Path(__file__).parents[1]
STEPS = 12


# A small network in NumPy: 6 inputs, a square layer with tanh, a linear layer, squared error.


def initial(seed=0):
    generator = np.random.default_rng(seed)
    return {
        "layer1": {"kernel": generator.standard_normal((6, 6)), "bias": generator.standard_normal(6)},
        "layer2": {"kernel": generator.standard_normal((6, 3)), "bias": generator.standard_normal(3)},
    }


def batches(seed=1, steps=STEPS):
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((steps, 4, 6))
    x[..., 2] = 0  # a dead input: its row of the kernel has no gradient
    return list(zip(x, generator.standard_normal((steps, 4, 3)), strict=True))


def gradient(params, batch):
    x, y = batch
    one, two = params["layer1"], params["layer2"]
    hidden = np.tanh(x @ one["kernel"] + one["bias"])
    error = (hidden @ two["kernel"] + two["bias"] - y) / len(x)
    back = (error @ two["kernel"].T) * (1 - hidden**2)
    return {
        "layer1": {"kernel": x.T @ back, "bias": back.sum(0)},
        "layer2": {"kernel": hidden.T @ error, "bias": error.sum(0)},
    }


def each(function, *trees):
    return {
        layer: {name: function(*(tree[layer][name] for tree in trees)) for name in leaves}
        for layer, leaves in trees[0].items()
    }


def adam(lr=lambda t: 0.01, eps=1e-8, inside=False, correct=True, decay=0.0, l2=0.0, sign=-1, lag=False):
    """Return a step (state, batch) -> state of Adam; state is (params, m, v, t, update kept back)."""

    def step(state, batch):
        params, m, v, t, kept = state
        t += 1
        g = each(lambda g, p: g + l2 * p, gradient(params, batch), params)
        m = each(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = each(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        c1, c2 = (1 - 0.9**t, 1 - 0.999**t) if correct else (1, 1)

        def rule(m, v, p):
            root = np.sqrt(v / c2 + eps) if inside else np.sqrt(v / c2) + eps
            return sign * lr(t) * (m / c1 / root) - lr(t) * decay * p

        update = each(rule, m, v, params)
        return each(np.add, params, kept if lag else update), m, v, t, update

    return step


def sgd(lr=lambda t: 0.05, momentum=0.0, nesterov=False, decay=None, inside=False):
    """Return a step of SGD; `inside` keeps the learning rate in the buffer; `decay` is by leaf."""

    def step(state, batch):
        params, buffer, v, t, kept = state
        t += 1
        g = gradient(params, batch)
        g = {
            layer: {n: leaf + (decay or {}).get(f"{layer}/{n}", 0) * params[layer][n] for n, leaf in leaves.items()}
            for layer, leaves in g.items()
        }
        rate = lr(t) if inside else 1
        buffer = each(lambda b, g: momentum * b + rate * g, buffer, g)
        step = each(lambda b, g: momentum * b + rate * g, buffer, g) if nesterov else buffer
        params = each(lambda p, s: p - (1 if inside else lr(t)) * s, params, step)
        return params, buffer, v, t, kept

    return step


def run(step, params=None, data=None, steps=STEPS):
    params = initial() if params is None else params
    zero = each(np.zeros_like, params)
    start = (params, zero, zero, 0, zero)
    return list(parity.walk(step, start, batches(steps=steps) if data is None else data, lambda state: state[0]))


def changed(tree, leaf, change):
    layer, name = leaf.split("/")
    return {**tree, layer: {**tree[layer], name: change(tree[layer][name])}}


def exchanged(first, second):
    data = batches()
    data[first], data[second] = data[second], data[first]
    return data


ALL = ["layer1/bias", "layer1/kernel", "layer2/bias", "layer2/kernel"]
EVERYWHERE = dict.fromkeys(ALL, 0.1)


def drop(t):
    return 0.05 if t < 5 else 0.01


def warm_up(t):
    return 0.001 * t


# name: (right, wrong, step, leaves, pattern)
FAULTS = {
    "wrong decay": (
        lambda: run(sgd(decay=EVERYWHERE)),
        lambda: run(sgd(decay=dict.fromkeys(ALL, 0.2))),
        1,
        ALL,
        "missing or different weight decay",
    ),
    "decay missing in one leaf": (
        lambda: run(sgd(decay=EVERYWHERE)),
        lambda: run(sgd(decay=EVERYWHERE | {"layer2/kernel": 0})),
        1,
        ["layer2/kernel"],
        "missing or different weight decay",
    ),
    "eps inside the root": (
        lambda: run(adam(eps=1e-3)),
        lambda: run(adam(eps=1e-3, inside=True)),
        1,
        ALL,
        "a different eps or scale of the gradients",
    ),
    "another eps": (
        lambda: run(adam()),
        lambda: run(adam(eps=1e-6)),
        1,
        ALL,
        "a different eps or scale of the gradients",
    ),
    "one-step lag": (lambda: run(adam()), lambda: run(adam(lag=True)), 1, ALL, "a one-step lag"),
    "transposed kernel": (
        lambda: run(adam()),
        lambda: run(adam(), changed(initial(), "layer1/kernel", np.transpose)),
        0,
        ["layer1/kernel"],
        "a transposed leaf",
    ),
    "missing bias correction": (
        lambda: run(adam()),
        lambda: run(adam(correct=False)),
        1,
        ALL,
        "missing bias correction",
    ),
    "wrong sign": (lambda: run(adam()), lambda: run(adam(sign=1)), 1, ALL, "a wrong sign"),
    "L2 instead of decoupled decay": (
        lambda: run(adam(decay=0.1)),
        lambda: run(adam(l2=0.1)),
        1,
        ALL,
        "L2 instead of decoupled weight decay",
    ),
    "off-by-one schedule": (
        lambda: run(adam(lr=warm_up)),
        lambda: run(adam(lr=lambda t: warm_up(t + 1))),
        1,
        ALL,
        "a shifted schedule",
    ),
    "missing nesterov": (
        lambda: run(sgd(momentum=0.9, nesterov=True)),
        lambda: run(sgd(momentum=0.9)),
        1,
        ALL,
        "missing nesterov",
    ),
    "momentum before learning rate": (
        lambda: run(sgd(lr=drop, momentum=0.9)),
        lambda: run(sgd(lr=drop, momentum=0.9, inside=True)),
        5,
        ALL,
        "momentum before or after the learning rate",
    ),
    "shuffled batch order": (
        lambda: run(adam()),
        lambda: run(adam(), data=exchanged(3, 6)),
        4,
        ALL,
        "another batch order",
    ),
    "different initialization of one leaf": (
        lambda: run(adam()),
        lambda: run(adam(), changed(initial(), "layer2/bias", lambda b: 0 * b)),
        0,
        ["layer2/bias"],
        "different initialization",
    ),
    "another learning rate": (lambda: run(sgd()), lambda: run(sgd(lr=lambda t: 0.1)), 1, ALL, "a constant factor"),
}


@pytest.mark.parametrize("swapped", [False, True], ids=["", "swapped"])
@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name, swapped):
    right, wrong, step, leaves, pattern = FAULTS[name]
    pair = (wrong(), right()) if swapped else (right(), wrong())
    report = parity.locate(*pair)
    assert (report.difference.step, list(report.leaves)) == (step, leaves), report
    assert report.difference.leaf in leaves
    assert report.pattern.name == pattern, report
    with pytest.raises(AssertionError, match=f"step {step}, {report.difference.leaf}"):
        parity.assert_same_training(*pair)


# Two runs that are the same.


def test_equal_runs_are_equal_to_the_bit():
    report = parity.locate(run(adam()), run(adam()))
    assert report.same
    assert report.pattern.name == "equal"
    parity.assert_same_training(run(adam()), run(adam()))


def test_rounding_alone_is_called_so():
    moved = each(lambda p: np.nextafter(p, np.inf), initial())
    report = parity.locate(run(adam(), steps=50), run(adam(), moved, steps=50))
    assert report.same
    assert "rounding alone" in str(report)
    assert "to the power" in str(report)
    assert 0 < report.distances.max() < 1e-13


def test_growth_out_of_rounding_is_told_from_a_mistake():
    """A map that doubles every distance: beyond tolerance in the end, but no step made a jump."""

    def doubling(state, _):
        return {"x": (2 * state["x"]) % 1.0}

    start = {"x": np.array([0.1234567, 0.7654321])}
    moved = {"x": np.nextafter(start["x"], 1)}
    paths = [list(parity.walk(doubling, s, range(40))) for s in (start, moved)]
    report = parity.locate(*paths)
    assert not report.same
    assert report.pattern.name == "plain rounding growth"


@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_one_changed_element_is_found_where_it_is(data):
    """Any element, at any step, by any amount beyond tolerance; by less, it is called the same."""
    right = run(adam(), steps=6)
    step = data.draw(st.integers(0, 6))
    leaf = data.draw(st.sampled_from(ALL))
    layer, name = leaf.split("/")
    shape = right[step][leaf].shape
    index = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    size = data.draw(st.floats(1e-9, 1e3)) * data.draw(st.sampled_from([-1, 1]))
    wrong = [{k: v.copy() for k, v in tree.items()} for tree in right]
    for tree in wrong[step:]:
        tree[leaf][index] += size
    del layer, name
    found = parity.locate(right, wrong).difference
    assert (found.step, found.leaf, found.index) == (step, leaf, index)
    assert found.second - found.first == pytest.approx(size, rel=1e-5)
    assert parity.locate(right, wrong, tolerance=2 * abs(size)).same


# Input that cannot be compared.


def test_nan_is_placed_where_it_began():
    wrong = run(adam())
    for tree in wrong[7:]:
        tree["layer1/kernel"][3, 2] = np.nan
    report = parity.locate(run(adam()), wrong)
    assert "NaN or infinity began at step 7 in layer1/kernel[3, 2], in the second training alone" in str(report)
    assert "in both trainings" in str(parity.locate(wrong, wrong))


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (
            [{"a": np.zeros(2)}],
            [{"b": np.zeros(2)}],
            "step 0: only the first training has a; only the second training has b",
        ),
        (
            [{"a": np.zeros((2, 3))}],
            [{"a": np.zeros((2, 4))}],
            r"a has shape \(2, 3\) in the first training and \(2, 4\)",
        ),
        ([{"a": np.ones((2, 3))}], [{"a": np.ones((3, 2))}], "one is the transpose of the other"),
        (
            [{"a": np.ones(2)}] * 3,
            [{"a": np.ones(2)}] * 2,
            "the second training ends before step 2, and the first training goes on",
        ),
        ([{"a": np.array(["x"])}], [{"a": np.array(["x"])}], "a holds <U1 and not real numbers"),
        ([np.zeros(2)], [np.zeros(2)], "the first training, step 0 is no parameter tree but a ndarray"),
        ([], [], "nothing to compare"),
        ([{}], [{}], "has no numbers"),
        (lambda s: s, [{"a": np.zeros(2)}], "is no trajectory: make one of a step function by walk"),
        (3, [{"a": np.zeros(2)}], "3 is no trajectory"),
    ],
)
def test_what_cannot_be_compared_is_refused(first, second, words):
    with pytest.raises(ValueError, match=words):
        parity.locate(first, second)


@pytest.mark.parametrize(
    ("option", "value"),
    [("steps", -1), ("steps", np.nan), ("tolerance", -1.0), ("tolerance", np.nan), ("tolerance", np.inf)],
)
def test_what_is_no_tolerance_or_number_of_steps_is_refused(option, value):
    """NaN would make every comparison false, and so all trainings the same, as infinity does."""
    with pytest.raises(ValueError, match=f"{option} must be a finite number of at least 0, not {value!r}"):
        parity.locate(run(adam(), steps=2), run(adam(sign=1), steps=2), **{option: value})


def test_half_precision_has_a_tolerance_that_can_fail():
    """A cast moves a number by half a unit, 5e-4; 4096 units of float16 would be four times the parameter."""
    first = [{"w": np.array([0.5, 1.0], np.float16)}]
    assert parity.locate(first, [{"w": np.array([0.5, 1.0004])}]).same
    assert not parity.locate(first, [{"w": np.array([0.5, 1.01])}]).same


def test_names_of_several_types_and_shapes_that_change(tmp_path):
    mixed = [{1: np.ones(2), "w": np.ones(2)}]
    assert parity.locate(mixed, mixed).same
    with pytest.raises(ValueError, match=r"step 1: w has shape \(3,\), and \(2,\) at step 0"):
        parity.save_trajectory(tmp_path / "a.npz", [{"w": np.ones(2)}, {"w": np.ones(3)}])


def test_files_give_what_the_trees_give(tmp_path):
    paths = [tmp_path / "first.npz", tmp_path / "second.npz"]
    right, wrong, *_ = FAULTS["wrong sign"]
    for path, trees in zip(paths, (right(), wrong()), strict=True):
        parity.save_trajectory(path, trees)
    assert str(parity.locate(*paths)) == str(parity.locate(right(), wrong()))
    assert parity.locate(paths[0], str(paths[0])).pattern.name == "equal"


def test_files_that_cannot_be_compared_are_named(tmp_path):
    short, other = tmp_path / "short.npz", tmp_path / "other.npz"
    parity.save_trajectory(short, [{"a": np.ones(2)}])
    parity.save_trajectory(other, [{"a": np.ones(2)}] * 2)
    with pytest.raises(ValueError, match=r"short\.npz ends before step 1, and .*other\.npz goes on"):
        parity.locate(short, other)
    parity.save_trajectory(other, [{"b": np.ones(2)}])
    with pytest.raises(ValueError, match=r"step 0: only .*short\.npz has a; only .*other\.npz has b"):
        parity.locate(short, other)


def test_a_file_that_is_no_trajectory_is_refused(tmp_path):
    def written(name, write):
        path = tmp_path / name
        write(path)
        return path

    whole = written("whole.npz", lambda p: np.savez(p, a=np.zeros(3))).read_bytes()
    bad = {
        "it is no .npz file": written("text.npz", lambda p: p.write_text("hello")),
        "one array and no names": written("one.npy", lambda p: np.save(p, np.zeros(3))),
        "must share their first axis": written("axes.npz", lambda p: np.savez(p, a=np.zeros(2), b=np.zeros(3))),
        "it holds nothing": written("empty.npz", lambda p: np.savez(p)),
        "a holds Python objects, and not real numbers": written(
            "objects.npz", lambda p: np.savez(p, a=np.array([{}], dtype=object))
        ),
        "it is empty": written("nothing.npz", lambda p: p.write_bytes(b"")),
        "it is cut or damaged": written("cut.npz", lambda p: p.write_bytes(whole[:-40])),
    }
    for words, path in bad.items():
        with pytest.raises(ValueError, match=words):
            list(parity.load_trajectory(path))
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        parity.load_trajectory(tmp_path / "missing.npz")
    with pytest.raises(ValueError, match="no step to write"):
        parity.save_trajectory(tmp_path / "none.npz", [])


def shell(*arguments, **options):
    command = [sys.executable, "-m", "jaxopt_study.parity", *map(str, arguments)]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run(command, text=True, check=False, cwd=ROOT, **options)


def test_the_shell_says_the_same(tmp_path):
    right, wrong, *_ = FAULTS["wrong sign"]
    a, b = tmp_path / "a.npz", tmp_path / "b.npz"
    parity.save_trajectory(a, right())
    parity.save_trajectory(b, wrong())
    answers = [shell(a, a), shell(a, b), shell(a, tmp_path / "c.npz"), shell(a, __file__)]
    assert [answer.returncode for answer in answers] == [0, 1, 2, 2]
    assert "equal to the last bit" in answers[0].stdout
    assert "a wrong sign" in answers[1].stdout
    assert all(answer.stderr.startswith("error: ") and answer.stderr.count("\n") == 1 for answer in answers[2:])


def test_a_terminal_that_knows_ascii_alone_is_answered(tmp_path):
    a, b = tmp_path / "a.npz", tmp_path / "b.npz"
    for path, size in ((a, 0.0), (b, 1.0)):
        parity.save_trajectory(path, [{"\u03bc": np.full(2, size)}])
    said = shell(a, b, env=os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"})
    assert (said.returncode, said.stderr) == (1, "")
    assert "first difference: step 0, ?[0]" in said.stdout


def test_a_reader_that_goes_early_is_no_error(tmp_path):
    parity.save_trajectory(tmp_path / "a.npz", run(adam(), steps=2))
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as nobody:
        said = shell(tmp_path / "a.npz", tmp_path / "a.npz", stdout=nobody)
    assert (said.returncode, said.stderr) == (1, "")


def test_it_works_where_neither_framework_is_installed():
    code = (
        "import sys; sys.modules.update(jax=None, torch=None, flax=None, optax=None)\n"
        "import numpy as np; from jaxopt_study import parity\n"
        "a = [{'w': np.ones(3)}] * 2; parity.assert_same_training(a, a); print(*sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"scipy", "altair", "rich", "cyclopts"} & set(answer.stdout.split())


def test_step_functions_of_two_frameworks_are_walked():
    """A torch step that changes its model in place, and a JAX step that returns a new state: one loses its decay."""
    import jax
    import jax.numpy as jnp
    import optax
    import torch

    start = np.random.default_rng(0).standard_normal((3, 2))
    data = np.random.default_rng(1).standard_normal((20, 5, 3))
    for decay, same in ((0.1, True), (0.0, False)):
        rule = optax.chain(optax.add_decayed_weights(decay), optax.sgd(0.05))

        def jax_step(state, x, rule=rule):
            params, memory = state
            updates, memory = rule.update(jax.grad(lambda p: jnp.square(x @ p["w"]).mean())(params), memory, params)
            return optax.apply_updates(params, updates), memory

        params = {"w": jnp.asarray(start)}
        leaf = torch.nn.Parameter(torch.tensor(start))
        optimizer = torch.optim.SGD([leaf], lr=0.05, weight_decay=0.1)

        def torch_step(leaf, x, optimizer=optimizer):
            optimizer.zero_grad()
            (torch.tensor(x) @ leaf).square().mean().backward()
            optimizer.step()

        report = parity.locate(
            parity.walk(torch_step, leaf, data, lambda leaf: {"w": leaf}),
            parity.walk(jax_step, (params, rule.init(params)), data, lambda state: state[0]),
            tolerance=1e-5,
        )
        assert report.same == same, report
    assert (report.difference.step, report.pattern.name) == (1, "missing or different weight decay")


def test_counters_are_compared_as_whole_numbers_and_set_no_scale():
    """`num_batches_tracked` beside small parameters: it raised the tolerance to 0.98 of them, and was not compared."""

    def trained(weight, counter):
        return [{"w": np.full(3, 0.5, np.float32), "n": np.array(2_000_000)}, {"w": weight, "n": np.array(counter)}]

    right = trained(np.full(3, 0.25, np.float32), 2_000_001)
    assert parity.locate(right, right).same
    wrong = parity.locate(right, trained(np.full(3, 0.3, np.float32), 2_000_001))
    assert (wrong.difference.step, wrong.difference.leaf) == (1, "w")
    late = parity.locate(right, trained(np.full(3, 0.25, np.float32), 2_000_000))
    assert (late.difference.step, late.difference.leaf) == (1, "n")


def test_an_empty_comparison_is_not_called_the_same():
    with pytest.raises(ValueError, match="step 0: there is nothing to compare, the first training has no numbers"):
        parity.locate([{"w": np.zeros((0, 3))}], [{"w": np.zeros((0, 3))}])
    start = [{"w": np.ones(2)}]
    assert str(parity.locate(start, start)).startswith("the initial parameters are the same, no step was compared")

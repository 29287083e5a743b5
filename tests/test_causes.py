"""With gradients recorded, the locator says which part of a step is at fault: mistakes planted in a real training.

`docs/locator.md` has what was measured on 433 faults that two persons planted who had not read the locator, and on 42
right ports. Names that were wrong at the first look: 7 of 218 in float32 and 6 in float64, and 1 of 215 in both types
once these were mended. From the parameters alone, 198 of 218 steps and leaves were right in float32, and 54 names; 4
were wrong.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import linen
from hypothesis import given
from hypothesis import strategies as st

from jaxopt_study import parity, port
from jaxopt_study.parity import optimizers
from jaxopt_study.parity.fitting import Leaf
from jaxopt_study.parity.optimizers import SAME_RULE
from jaxopt_study.parity.searching import search

pytestmark = pytest.mark.usefixtures("float32")

STEPS = 14


class Network(linen.Module):
    @linen.compact
    def __call__(self, inputs):
        hidden = linen.tanh(linen.Dense(6, name="first")(inputs))
        return linen.Dense(3, name="out")(hidden)


def rows(steps=STEPS):
    draw = np.random.default_rng(0)
    return [(draw.standard_normal((8, 5), np.float32), draw.integers(3, size=8)) for _ in range(steps)]


@pytest.fixture(scope="module")
def right(float32, tmp_path_factory):
    """The right port, recorded in JAX: the start, and the path of the file."""
    torch.manual_seed(0)
    model = torch.nn.ModuleDict({"first": torch.nn.Linear(5, 6), "out": torch.nn.Linear(6, 3)})
    start = {name: value.clone() for name, value in model.state_dict().items()}
    network, like = Network(), dict(model.named_parameters())
    template = jax.eval_shape(network.init, jax.random.key(0), jnp.ones((1, 5)))
    variables = port.to_flax_params(start, template)
    clip, rule = optax.clip_by_global_norm(0.3), optax.adamw(0.01, weight_decay=0.1)

    def loss(variables, inputs, targets):
        outputs, seen = network.apply(variables, inputs, capture_intermediates=True, mutable=["intermediates"])
        return optax.softmax_cross_entropy_with_integer_labels(outputs, targets).mean(), seen["intermediates"]

    @jax.jit
    def step(state, batch):
        variables, memory = state
        (value, seen), gradients = jax.value_and_grad(loss, has_aux=True)(variables, *batch)
        clipped, _ = clip.update(gradients, clip.init(variables))
        updates, memory = rule.update(clipped, memory, variables)
        return (optax.apply_updates(variables, updates), memory), (value, gradients, clipped, seen)

    def also(output, batch):
        value, gradients, clipped, seen = output[1]
        in_torch = {"gradients": gradients, "clipped": clipped}
        return {name: port.to_torch_params(tree, like) for name, tree in in_torch.items()} | {
            "loss": value,
            "activations": seen,
            "batch": dict(zip(("inputs", "targets"), batch, strict=True)),
            "learning_rate": 0.01,
        }

    path = tmp_path_factory.mktemp("recorded") / "jax"
    state = variables, rule.init(variables)
    with parity.recorded(
        step, path, lambda s: port.to_torch_params(s[0], like), lambda output: output[0], also
    ) as recorded:
        for batch in rows():
            state, _ = recorded(state, batch)
    return start, recorded.path


class Fault:
    """The training in PyTorch; each method is a place where a mistake may be planted."""

    rule = torch.optim.AdamW
    constants: ClassVar = {"lr": 0.01, "weight_decay": 0.1}
    norm = 0.3

    def batch(self, step, batches):
        return batches[step]

    def hidden(self, x):
        return torch.tanh(x)

    def loss(self, logits, targets):
        return torch.nn.functional.cross_entropy(logits, targets)

    def gradients(self, model, step):
        torch.nn.utils.clip_grad_norm_(model.parameters(), self.norm)

    def update(self, optimizer, step):
        optimizer.step()


def recorded(fault, start, path):
    model = torch.nn.ModuleDict({"first": torch.nn.Linear(5, 6), "out": torch.nn.Linear(6, 3)})
    model.load_state_dict(start)
    optimizer = fault.rule(model.parameters(), **fault.constants)
    with parity.record(
        *(model, optimizer, path),
        gradients=True,
        activations=True,
        also=lambda: {"loss": loss, "batch": {"inputs": inputs, "targets": targets}},
    ) as file:
        for step in range(STEPS):
            inputs, targets = map(torch.tensor, fault.batch(step, rows()))
            optimizer.zero_grad()
            loss = fault.loss(model["out"](fault.hidden(model["first"](inputs))), targets)
            loss.backward()
            fault.gradients(model, step)
            fault.update(optimizer, step)
    return file


def planted(name, **changes):
    return type(name, (Fault,), changes)()


def constants(**changes):
    return {"constants": Fault.constants | changes}


def at_step(n, lr=0.01):
    def update(self, optimizer, step):
        optimizer.param_groups[0]["lr"] = lr if step < n else lr / 5
        optimizer.step()

    return update


def skip_first_bias(self, model, step):
    Fault.gradients(self, model, step)
    model["first"].bias.grad = None


FAULTS = [
    (planted("rows in another order", batch=lambda _, n, rows: [part[::-1].copy() for part in rows[n]]), "", 0, ""),
    (
        planted("off by one", batch=lambda _, n, b: b[(n + 1) % STEPS]),
        "another batch order",
        1,
        "the second's of step 2",
    ),
    (planted("classes", batch=lambda _, n, b: (b[n][0], np.roll(b[n][1], n == 4))), "other data", 5, "agree in inputs"),
    (planted("relu", hidden=lambda _, x: torch.relu(x)), "another forward pass", 1, "the output of out"),
    (
        planted("smoothing", loss=lambda _, *a: torch.nn.functional.cross_entropy(*a, label_smoothing=0.1)),
        "another loss",
        1,
        "the outputs of all recorded modules agree",
    ),
    (
        planted("sum", loss=lambda _, *a: torch.nn.functional.cross_entropy(*a, reduction="sum")),
        "another scale of the loss",
        1,
        "8 times",
    ),
    (planted("detached", hidden=lambda _, x: torch.tanh(x).detach()), "cut off from the loss", 1, "first.bias"),
    (planted("threshold", norm=0.2), "clipping by norm", 1, "0.3"),
    (
        planted("by value", gradients=lambda _, m, n: torch.nn.utils.clip_grad_value_(m.parameters(), 0.02)),
        "another clipping",
        1,
        "largest element 0.02",
    ),
    (planted("rate", **constants(lr=0.012)), "a constant factor", 1, "0.8333"),
    (planted("schedule", update=at_step(6)), "a shifted schedule", 7, "from step 7 on"),
    (planted("b1", **constants(betas=(0.8, 0.999))), "another b1", 2, "0.8 explains"),
    (planted("b2", **constants(betas=(0.9, 0.98))), "another b2", 2, "0.98"),
    (
        planted("two", **constants(betas=(0.9, 0.98), weight_decay=0.02)),
        "another b2",
        1,
        "besides, the gradients agree",
    ),
    (
        planted("decay and rate", **constants(lr=0.02, weight_decay=0.02)),
        "missing or different weight decay",
        1,
        "0.5 times",
    ),
    (planted("eps", **constants(eps=1e-5)), "another eps", 1, "1e-05"),
    (planted("amsgrad", **constants(amsgrad=True)), "amsgrad in one", None, "on in the first"),
    (planted("decay", **constants(weight_decay=0.02)), "missing or different weight decay", 1, "0.02 against 0.1"),
    (planted("coupled", rule=torch.optim.Adam), "L2 instead of decoupled weight decay", 1, "coupled (L2) in the first"),
    (planted("fewer rows", batch=lambda _, n, b: [x[:7] for x in b[n]]), "other data", 1, "7 rows against 8"),
    (
        planted("doubled", gradients=lambda _, m, n: [p.grad.mul_(2) for p in m.parameters()]),
        "gradients changed before the step",
        1,
        "up to 2 times as large",
    ),
    (
        planted("Adam without decay", rule=torch.optim.Adam, **constants(weight_decay=0.0)),
        "missing or different weight decay",
        1,
        "0.1",
    ),
    (
        planted("order and b1", batch=lambda _, n, b: [x[::-1].copy() for x in b[n]], **constants(betas=(0.8, 0.999))),
        "another b1",
        2,
        "0.8",
    ),
    (planted("frozen", gradients=skip_first_bias), "a frozen leaf", 1, "is not given the gradient of first.bias"),
]


@pytest.mark.parametrize(("fault", "name", "step", "words"), FAULTS, ids=lambda f: type(f).__name__)
def test_the_part_at_fault_is_named(fault, name, step, words, right, tmp_path):
    start, path = right
    report = parity.locate(recorded(fault, start, tmp_path / "torch"), path)
    assert report.same == (not name), report
    if name:
        assert report.pattern.name == name, report
        assert words in str(report)
        assert step in (None, report.difference.step)


def test_a_right_port_is_the_same_in_all_that_was_recorded(right, tmp_path):
    start, path = right
    assert parity.locate(recorded(Fault(), start, tmp_path / "torch"), path).same
    tree = list(parity.load_trajectory(path))[1]
    quantities = {name.split("/")[0] for name in tree if name.startswith("@")}
    assert quantities == {"@activations", "@batch", "@clipped", "@gradients", "@learning_rate", "@loss"}
    assert {"@activations/first", "@activations/out"} <= set(tree)


def test_without_more_than_gradients_the_report_says_what_to_record(right, tmp_path):
    start, path = right
    file = recorded(planted("relu", hidden=lambda _, x: torch.relu(x)), start, tmp_path / "torch")
    without = ("@batch", "@activations", "@loss")
    first = [
        {n: leaf for n, leaf in tree.items() if not n.startswith(without)} for tree in parity.load_trajectory(file)
    ]
    report = parity.locate(first, path)
    assert report.pattern.name == "unknown"
    assert "the gradients of step 1 differ in " in str(report)
    assert report.pattern.test == "record batch, activations, loss"


def test_a_step_from_the_others_parameters_shows_each_fault(right):
    """Five wrong steps of three kinds; all but the first are hidden behind it otherwise."""
    start, path = right
    model = torch.nn.ModuleDict({"first": torch.nn.Linear(5, 6), "out": torch.nn.Linear(6, 3)})
    model.load_state_dict(start)
    optimizer = torch.optim.AdamW(model.parameters(), 0.01, weight_decay=0.1)
    seen = {}

    def step(number, batch):
        inputs, targets = map(torch.tensor, batch)
        optimizer.zero_grad()
        hidden = model["first"](inputs)
        loss = torch.nn.functional.cross_entropy(
            model["out"](torch.relu(hidden) if number == 6 else torch.tanh(hidden)),
            (targets + (number in (3, 9))) % 3,
        )
        loss.backward()
        gradients = {name: leaf.grad.clone() for name, leaf in model.named_parameters()}
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.2 if number == 11 else 0.3)
        optimizer.step()
        clipped = {name: leaf.grad.clone() for name, leaf in model.named_parameters()}
        seen.update({"@loss": loss.detach(), "@gradients": gradients, "@clipped": clipped})
        return number + 1

    def restore(_, leaves):
        with torch.no_grad():
            for name, leaf in model.named_parameters():
                leaf.copy_(torch.tensor(leaves[name]))

    trees = parity.realigned(
        *(step, 1, rows(), parity.load_trajectory(path), restore),
        params=lambda _: dict(model.named_parameters()) | seen,
    )
    faults = parity.locate_each(path, trees)
    # The moments of Adam keep what a wrong step has left in them, so that updates differ from there on.
    assert [fault.steps[0] for fault in faults][:3] == [3, 4, 11], faults
    names = {fault.steps: fault.report.pattern.name for fault in faults}
    assert names[3, 6, 9] == "unknown"
    assert names[11,] == "clipping by norm"
    assert "3 steps from 3 to 9: first difference: step 3" in str(faults[0])


def test_the_weights_are_recorded_as_the_next_step_finds_them(tmp_path):
    """They may be clamped after the optimizer's step. A step that was not made leaves no outputs behind."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 3))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    outputs = []
    with parity.record(model, optimizer, tmp_path / "a", gradients=True, activations=True) as path:
        for n, (inputs, _) in enumerate(rows(4)):
            optimizer.zero_grad()
            outputs.append(model(torch.tensor(inputs)))
            outputs[-1].square().mean().backward()
            if n != 1:
                optimizer.step()
                with torch.no_grad():
                    model[0].weight.clamp_(-0.1, 0.1)
    trees = list(parity.load_trajectory(path))
    assert len(trees) == 4
    assert all(np.abs(tree["0.weight"]).max() <= np.float32(0.1) for tree in trees[1:])
    for tree, n in zip(trees[1:], (0, 2, 3), strict=True):
        assert np.allclose(tree["@activations/0"], parity.digest(outputs[n].detach().numpy()))


def test_a_training_goes_on_where_a_step_has_other_quantities(tmp_path):
    """A module that is not called, other rows, a leaf that is unfrozen: what is lacking is NaN in the file."""
    model = torch.nn.ModuleDict({"a": torch.nn.Linear(5, 3), "b": torch.nn.Linear(5, 3)})
    model["b"].requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with parity.record(
        *(model, optimizer, tmp_path / "a"),
        gradients=True,
        activations=True,
        also=lambda: {"batch": inputs} | ({"loss": loss} if n != 1 else {}),
    ) as path:
        for n, (x, _) in enumerate(rows(4)):
            inputs = torch.tensor(x[: 8 - n])
            optimizer.zero_grad()
            loss = model["ab"[n == 2]](inputs).square().mean() + (model["a"].bias.sum() if n == 2 else 0)
            loss.backward()
            optimizer.step()
            model["b"].requires_grad_(n >= 1)
    trees = list(parity.load_trajectory(path))
    assert [int(np.isfinite(tree["@batch"][:, 0]).sum()) for tree in trees[1:]] == [8, 7, 6, 5]
    assert [bool(np.isnan(tree["@loss"])) for tree in trees[1:]] == [False, True, False, False]
    assert np.isnan(trees[3]["@gradients/b.weight"]).all()  # before clipping, its first gradient was not seen
    assert np.array_equal(trees[2]["@gradients/b.weight"], np.zeros((3, 5)))
    assert parity.locate(trees, trees).same
    with (
        pytest.raises(ValueError, match="`also` returned a list: give a dict"),
        parity.record(model, optimizer, tmp_path / "b", also=lambda: [loss]),
    ):
        optimizer.step()


def test_a_learning_rate_late_in_a_long_training_is_not_taken_for_rounding():
    """Where all elements once had a gradient near rounding, none is left out for it."""
    draw = np.random.default_rng(0)
    gradients = draw.standard_normal((60, 12)).astype(np.float32)
    gradients[np.arange(24), np.arange(24) % 12] *= 1e-9  # each element, twice
    other = gradients * (1 + 4e-6 * draw.standard_normal(gradients.shape).astype(np.float32))

    def path(given, late):
        leaf, found = torch.zeros(12, requires_grad=True), [np.zeros(12, np.float32)]
        optimizer = torch.optim.Adam([leaf], 0.01)
        for n, gradient in enumerate(given):
            optimizer.param_groups[0]["lr"] = 0.02 if n >= late else 0.01
            leaf.grad = torch.tensor(gradient)
            optimizer.step()
            found.append(leaf.detach().numpy().copy())
        return [{"w": found[0]}] + [{"w": w, "@gradients": {"w": g}} for w, g in zip(found[1:], given, strict=True)]

    assert not parity.locate(path(gradients, 99), path(other, 40)).same


def test_recorded_learning_rates_that_differ_are_said():
    trees = [[{"w": np.zeros(2)}] + [{"w": np.ones(2), "@learning_rate": np.array(rate)}] * 2 for rate in (0.1, 0.2)]
    report = parity.locate(*trees)
    assert report.same
    assert "The recorded learning rates differ from step 1 on: 0.1 against 0.2." in str(report)


def gradients_of(seed, steps, size, dtype):
    draw = np.random.default_rng(seed)
    return (draw.standard_normal((steps, size)) * 10.0 ** draw.uniform(-4, 1, size)).astype(dtype)


def run_torch(make, gradients, start):
    """Return the parameters that an optimizer of torch.optim makes of given gradients."""
    leaf = torch.tensor(start, requires_grad=True)
    optimizer, path = make([leaf]), [start.copy()]
    for gradient in gradients:
        leaf.grad = torch.tensor(gradient)
        optimizer.step()
        path.append(leaf.detach().numpy().copy())
    return np.array(path, float)


decays, rates = st.sampled_from([0.0, 0.01, 0.1]), st.sampled_from([1e-3, 3e-3, 0.02])
RULES = st.one_of(
    st.builds(dict, kind=st.just("SGD"), lr=rates, momentum=st.sampled_from([0.0, 0.9, 0.77]), weight_decay=decays),
    st.builds(
        dict,
        kind=st.sampled_from(["Adam", "AdamW"]),
        lr=rates,
        betas=st.sampled_from([(0.9, 0.999), (0.9, 0.95), (0.83, 0.97)]),
        eps=st.sampled_from([1e-8, 1e-6]),
        weight_decay=decays,
        amsgrad=st.booleans(),
    ),
    st.builds(
        dict,
        kind=st.just("RMSprop"),
        lr=rates,
        alpha=st.sampled_from([0.99, 0.9]),
        momentum=st.sampled_from([0.0, 0.5]),
    ),
    st.builds(dict, kind=st.just("Adagrad"), lr=rates),
)


@given(RULES, st.integers(0, 2**31), st.sampled_from(["float32", "float64"]))
def test_the_rule_of_an_optimizer_of_torch_is_found(options, seed, dtype):
    """From its gradients and updates alone, with its decay; usual constants and others."""
    options = dict(options)
    kind = options.pop("kind")
    leaves = {}
    for number, name in enumerate(("a", "b")):
        gradients = gradients_of(seed + number, 16, 12, dtype)
        start = np.random.default_rng(seed + number + 2).standard_normal(12).astype(dtype)
        path = run_torch(lambda leaves: getattr(torch.optim, kind)(leaves, **options), gradients, start)
        leaves[name] = Leaf(path, gradients.astype(float), float(np.finfo(dtype).eps))
    found = search(leaves)
    assert found is not None
    for name in leaves:
        assert np.allclose(found.rates[name], options["lr"], rtol=0.02 if dtype == "float32" else 1e-6)
        decay = options.get("weight_decay", 0.0)
        if decay and dtype == "float64":
            assert found.decays[name][0] == pytest.approx(decay, rel=1e-4)
    assert optimizers.change(leaves, leaves).name == SAME_RULE


def test_an_element_whose_gradient_is_rounding_is_left_out():
    """Adam makes whole steps of it, in any direction; a wrong step of another element is found all the same."""
    gradients = gradients_of(3, 10, 12, "float32")
    gradients[:, 4] = 1e-12
    other = gradients.copy()
    other[:, 4] *= -1
    paths = [
        run_torch(lambda leaves: torch.optim.Adam(leaves, 0.01), g, np.zeros(12, np.float32))
        for g in (gradients, other)
    ]

    def trees(path, given):
        first = [{"w": path[0].astype(np.float32)}]
        return first + [
            {"w": w.astype(np.float32), "@gradients": {"w": g}} for w, g in zip(path[1:], given, strict=True)
        ]

    report = parity.locate(trees(paths[0], gradients), trees(paths[1], other))
    assert report.same, report
    assert "their gradient was rounding at some step: 1 of 12 in w." in str(report)
    assert not parity.locate(*([{"w": x} for x in path] for path in paths)).same
    wrong = paths[1].copy()
    wrong[5:, 7] += 1e-3
    report = parity.locate(trees(paths[0], gradients), trees(wrong, other))
    assert (report.difference.step, report.difference.index) == (5, (7,)), report


def test_names_that_begin_with_an_at_must_be_known():
    tree = {"w": np.zeros(2), "@gradient": np.zeros(2)}
    with pytest.raises(ValueError, match="@gradient: a name that begins with @ must be one of @batch, "):
        parity.locate([tree], [tree])


def test_digests_do_not_depend_on_the_layout_of_images():
    image = np.random.default_rng(0).standard_normal((4, 3, 8, 8))
    assert np.allclose(parity.digest(image), parity.digest(image.transpose(0, 2, 3, 1)))
    assert not np.allclose(parity.digest(image), parity.digest(image[..., ::-1]))

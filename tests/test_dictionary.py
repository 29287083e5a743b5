"""The dictionary: every torch.optim class is in it, and is in optax what its row says."""

import dataclasses
import inspect
import itertools
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jaxopt_study import dictionary, session, verdict
from jaxopt_study.backends.jax import defects
from jaxopt_study.bench import record
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.results import Results
from jaxopt_study.bench.task import Skipped
from jaxopt_study.data.workload import next_up
from jaxopt_study.data.workloads import breast_cancer_raw, digits_linear
from jaxopt_study.dictionary.__main__ import main
from jaxopt_study.dictionary.conventions import CONVENTIONS
from jaxopt_study.dictionary.options import IMPLEMENTATION, OPTIONS, DictionaryError, check
from jaxopt_study.dictionary.others import OPTAX, TORCH
from jaxopt_study.dictionary.rules import RULES, translate
from jaxopt_study.dictionary.table import TABLE, Row
from jaxopt_study.dictionary.transforms import torch_rprop
from jaxopt_study.report.figures import save
from jaxopt_study.studies import STUDIES
from jaxopt_study.studies.dictionary import bounds, paths
from jaxopt_study.studies.dictionary.growth import Growth
from jaxopt_study.studies.dictionary.paths import FIRST, ROWS, Trainer
from jaxopt_study.studies.dictionary.rows import LBFGS_STEPS, Configurations, steps_of
from tests.conftest import load_backend, make_plan
from tests.here import workers_here
from torch_reference import defects as torch_defects

ROOT = Path(__file__).parents[1]
SMOKE = make_plan(studies=("dictionary",), profile="smoke", dtype="float32")
CLASSES = sorted(
    name
    for name, kind in vars(torch.optim).items()
    if inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
)
SEARCHLESS = [row for row in TABLE if not row.options.get("line_search_fn")]


@pytest.fixture(scope="module")
def digits2():
    return digits_linear(seed=0, epochs=2)


def differences(backends, row, name, workload, steps):
    """Return how far the two frameworks' paths differ, and torch's path.

    With them comes torch's sensitivity to rounding, where a bound depends on it: a replay's seldom does.
    """
    jax, torch = (Trainer(backends[name], name, row, workload, 0) for name in ("jax", "torch"))
    ours, theirs, moved = jax.path(name, steps), torch.path(name, steps), None
    if name not in paths.REPLAYS or bounds.fed_back(translate(row.name, row.options)):
        moved = np.abs(torch.path(name, steps, moved="float64") - theirs).max(axis=1)
    return paths.differences(ours, theirs, moved, steps), theirs


# The table.


def test_every_class_of_torch_optim_has_options_a_rule_and_a_row():
    assert CLASSES == sorted(OPTIONS) == sorted(RULES) == sorted({row.name for row in TABLE})
    assert len(CLASSES) == 15


@pytest.mark.parametrize("name", CLASSES)
def test_the_defaults_are_torchs(name):
    leaf = torch.nn.Parameter(torch.zeros(2, 2))
    theirs = dict(getattr(torch.optim, name)([leaf]).defaults)
    if name == "AdamW":
        assert theirs.pop("decoupled_weight_decay") is True
    if name == "LBFGS":
        theirs["max_eval"] = None  # torch fills in max_iter * 5 // 4
    assert check(name, {}) == {option: value for option, value in theirs.items() if option not in IMPLEMENTATION}


VALUES = {
    "betas": [(0.9, 0.999), (0.8, 0.99), (0.0, 0.0), (1.0, 0.9), (0.9, -0.1), (0.5, 1.0)],
    "etas": [(0.5, 1.2), (1.5, 2.0), (0.5, 0.9), (0.0, 2.0)],
    "step_sizes": [(1e-6, 50.0), (1e-3, 0.1)],
    "ns_coefficients": [(3.4445, -4.775, 2.0315)],
    "adjust_lr_fn": [None, "original", "match_rms_adamw", "other"],
    "line_search_fn": [None, "strong_wolfe"],
    "max_iter": [1, 20],
    "max_eval": [None, 25],
    "history_size": [1, 100],
    "ns_steps": [1, 5],
}


def values_of(name, option):
    if name == "Adafactor" and option == "eps":
        return [(None, 1e-3), (1e-3, 1e-3), (-1.0, 1e-3), (None, -1.0)]
    if isinstance(OPTIONS[name][option][0], bool):
        return [True, False]
    return VALUES.get(option, [-1.0, -0.1, 0.0, 0.5, 1.0, 1.5, 1000.0])


@pytest.mark.parametrize("name", CLASSES)
def test_what_torch_refuses_is_refused_and_nothing_else(name):
    """Each value of each option, and each with each value of every other option."""
    chosen = [(option, value) for option in OPTIONS[name] for value in values_of(name, option)]
    leaf = torch.nn.Parameter(torch.zeros(2, 2))
    for one, other in itertools.combinations_with_replacement(chosen, 2):
        options = dict([one, other])
        try:
            getattr(torch.optim, name)([leaf], **options)
        except ValueError:
            with pytest.raises(DictionaryError, match=f"torch.optim.{name} refuses"):
                check(name, options)
        else:
            check(name, options)


def test_every_installed_optimizer_is_listed():
    """Each of optax and its contrib is someone's counterpart or has none; each of torch.optim has its rule."""
    assert set(defects.optimizers()) == OPTAX
    assert set(torch_defects.optimizers()) == TORCH == {f"torch.optim.{name}" for name in CLASSES}


# Replay and closed loop.


def bound_after_100_steps(translation, sensitivity):
    """Return how far replayed parameters may differ then: closer than the study's bounds, which hold for 1,000."""
    if translation.name == "Muon" or bounds.fed_back(translation):
        return bounds.replay_bound(translation, sensitivity)
    return 5e-15 if translation.decays else 2e-15  # 2.1e-15 and 8.3e-16 were measured


@pytest.mark.parametrize("row", [row for row in SEARCHLESS if row.name != "LBFGS"], ids=lambda row: row.key)
def test_replayed_gradients_give_the_same_parameters(backends, row):
    """100 steps under a learning rate that is constant, and one that changes, float64; 1,000 once for each class."""
    translation = translate(row.name, row.options)
    for name in paths.REPLAYS:
        many = row in FIRST and name == "schedule"
        found, _ = differences(backends, row, name, None, (1, 10, 100, 1000) if many else (1, 10, 100))
        allowed = (bounds.replay_bound if many else bound_after_100_steps)(translation, found.sensitivity)
        assert max(found.distance) <= allowed, (name, found)


def test_replay_leaves_the_arrays_it_is_given(backends):
    params, gradients = paths.draw_replay(Row("SGD"), 3, 0)
    before = next_up(params, "float64")  # a copy, one unit higher
    for name, backend in backends.items():
        optimizer = Trainer(backend, name, Row("SGD", {"lr": 1.0}), None, 0).optimizer()
        backend.trajectories.replay(optimizer, params, gradients, (3,))
    assert all(
        np.array_equal(before[layer][name], np.nextafter(leaf, np.inf))
        for layer, leaves in params.items()
        for name, leaf in leaves.items()
    )


CHOICES = {
    "weight_decay": [0.0, 0.01, 0.1],
    "momentum": [0.0, 0.5, 0.9],
    "dampening": [0.0, 0.5],
    "betas": [(0.9, 0.999), (0.8, 0.99), (0.5, 0.95)],
    "eps": [1e-8, 1e-4, 1e-2],
    "alpha": [0.99, 0.9],
    "rho": [0.9, 0.95],
    "lr_decay": [0.0, 0.01],
    "initial_accumulator_value": [0.0, 0.1],
    "lambd": [1e-4, 0.1],
    "momentum_decay": [4e-3, 0.1, 1e9],
    "etas": [(0.5, 1.2), (0.6, 1.1)],
    "step_sizes": [(1e-6, 50.0), (1e-4, 0.1)],
    "d": [1.0, 2.0],
    "beta2_decay": [-0.8, -0.5],
    "ns_steps": [1, 3, 5],
    "adjust_lr_fn": [None, "match_rms_adamw"],
    "max_iter": [1],
    "history_size": [1, 5, 100],
    "tolerance_grad": [1e-7, 1e-2],
    "tolerance_change": [1e-9, 1e-3],
}


def configurations(name, number):
    """Draw options of a class, at the learning rate of its first row: those that pair most values for the first time.

    Five of them pair as many values of two options as eight drawn at random do.
    """
    generator = np.random.default_rng(0)
    drawn, chosen, paired = [_draw(generator, name) for _ in range(100)], [], set()
    for _ in range(number):
        chosen.append(max(drawn, key=lambda row: len(_pairs(row) - paired)))
        paired |= _pairs(chosen[-1])
    return chosen


def _draw(generator, name):
    def one_of(values):
        return values[generator.integers(len(values))]

    first = next(row for row in TABLE if row.name == name)
    options = {"lr": first.options["lr"]}
    for option, (default, _) in OPTIONS[name].items():
        if isinstance(default, bool):
            options[option] = one_of([False, True])
        elif name == "Adafactor" and option == "eps":
            options[option] = one_of([(None, 1e-3), (1e-4, 1e-2)])
        elif option in CHOICES:
            options[option] = one_of(CHOICES[option])
    if name == "SGD" and options["nesterov"]:
        options |= {"dampening": 0.0, "momentum": options["momentum"] or 0.9}
    return Row(name, options)


def _pairs(row):
    return set(itertools.combinations(sorted(row.options.items()), 2))


@pytest.mark.parametrize("name", [name for name in CLASSES if name != "LBFGS"])
def test_options_drawn_at_random_are_replayed_exactly(backends, name):
    for row, path in zip(configurations(name, 5), itertools.cycle(paths.REPLAYS)):
        found, theirs = differences(backends, row, path, None, (1, 10, 100))
        allowed = bounds.replay_bound(translate(row.name, row.options), found.sensitivity)
        assert max(found.distance) <= allowed * max(1.0, np.abs(theirs).max()), row


@pytest.mark.parametrize("name", CLASSES)
def test_options_drawn_at_random_train_alike(backends, digits2, name):
    """Closed loops within 20 times the sensitivity to rounding, on digits and on the small network."""
    for row, problem in zip(configurations(name, 2), ("digits", "mlp"), strict=True):
        found, _ = differences(backends, row, problem, digits2, steps_of(row, problem, SMOKE))
        allowed = bounds.trained_bounds(translate(row.name, row.options), found.sensitivity)
        assert np.all(found.distance <= allowed), (row, found)


def test_a_wrong_translation_is_seen(backends, digits2):
    """Each of these is one slip in an expression; replay or the closed loop must see it."""
    slips = {
        "RMSprop": ("eps_in_sqrt=False", "eps_in_sqrt=True"),
        "RAdam": ("/ jnp.sqrt(1 - 0.999 ** (c + 1.0))", ""),
        "Adagrad": ("initial_scale=0.0", "initial_scale=0.1"),
        "NAdam": ("momentum_decay=0.004", "momentum_decay=0.005"),
        "Adam": ("eps=1e-08", "eps=1e-07"),
        "AdamW": ("weight_decay=0.01", "weight_decay=0.0101"),
        "ASGD": ("0.0001 *", "0.0002 *"),
    }
    for name, (right, wrong) in slips.items():
        row = next(row for row in TABLE if row.name == name)
        translation = translate(name, row.options)
        assert right in translation.expression
        params, gradients = paths.draw_replay(row, 100, 0)
        ours, slipped = (
            paths.flat(backends["jax"].trajectories.replay(dictionary.build(code), params, gradients, (100,)))
            for code in (translation.expression, translation.expression.replace(right, wrong))
        )
        assert np.abs(ours - slipped).max() > bounds.replay_bound(translation, ()), name


def test_lbfgs_follows_torch_iteration_by_iteration(backends, digits2):
    row = next(row for row in TABLE if row.name == "LBFGS")
    for problem in ("digits", "mlp"):
        found, _ = differences(backends, row, problem, digits2, LBFGS_STEPS)
        assert np.all(found.distance <= 20 * np.array(found.sensitivity)), found


def test_lbfgs_skips_pairs_of_little_curvature(backends, digits2):
    """On single rows the gradients are of different functions, so the guard decides; optax's own keeps every pair."""
    order, steps = np.arange(40), (1, 10, 40)
    data = (digits2.train[0] / 16, digits2.train[1])
    made = {}
    for name, framework in (("jax", "jax"), ("torch", "torch"), ("moved", "torch")):
        backend = backends[framework]
        params = next_up(digits2.params, "float64") if name == "moved" else digits2.params
        optimizer = Trainer(backend, framework, Row("LBFGS", {"lr": 0.5, "max_iter": 1}), digits2, 0).optimizer()
        network = backend.models.network((64, 10))
        made[name] = paths.flat(backend.trajectories.train(network, optimizer, params, data, order, steps))
    moved = np.abs(made["moved"] - made["torch"]).max(axis=1)
    found = paths.differences(made["jax"], made["torch"], moved, steps)
    # 2.4e-9 after 40 steps, where the sensitivity is 5.2e-9.
    assert np.all(found.distance <= 20 * np.array(found.sensitivity)), found


def test_muon_follows_the_bfloat16_iteration_at_first(backends):
    """Products summed in another order flip bits now and then; the first steps show that the rule is the same."""
    row = next(row for row in TABLE if row.name == "Muon")
    found, _ = differences(backends, row, "replay", None, (1, 2, 5))
    assert max(found.distance) < 1e-15


@pytest.mark.parametrize("row", configurations("Muon", 5), ids=lambda row: row.key)
def test_muon_follows_at_first_whatever_its_options(backends, row):
    """A flipped bit is 2^-8 of an element's step, whose size is the learning rate; a wrong rule makes whole steps."""
    found, _ = differences(backends, row, "replay", None, (1, 2))
    assert max(found.distance) <= 1e-2 * row.options["lr"], (row, found)


def test_muon_takes_matrices_alone():
    rule = dictionary.build(translate("Muon", {}).expression)
    with pytest.raises(ValueError, match=r"Muon takes matrices: \['b'\] has shape \(3,\)"):
        rule.init({"b": jnp.zeros(3)})


@pytest.mark.parametrize("row", FIRST, ids=lambda row: row.name)
def test_a_transformation_keeps_dtype_and_compiles_once(row):
    """What is traced once is compiled once; nothing need be compiled to see it."""
    load_backend("jax", "float32")
    try:
        rule = dictionary.build(translate(row.name, row.options).expression)
        params = {"w": jax.ShapeDtypeStruct((3, 2), jnp.float32)}
        traced = []
        update = jax.jit(lambda g, s, p: traced.append(True) or rule.update(g, s, p))
        state = jax.eval_shape(rule.init, params)
        if row.options.get("line_search_fn") is None:
            for _ in range(3):
                updates, state = update.eval_shape(params, state, params)
            assert updates["w"].dtype == jnp.float32
            assert traced == [True]
    finally:
        load_backend("jax", "float64")


# The command line.


def answer(capsys, *arguments):
    status = main(list(arguments))
    said = capsys.readouterr()
    return status, said.out, said.err


def test_the_command_line_prints_code_that_runs(capsys, backends):
    """What is printed is pasted: it must make the transformation that the row has."""
    for row in TABLE:
        words = [f"{option}={_word(value)}" for option, value in row.options.items()]
        status, out, _ = answer(capsys, row.name, *words)
        assert status == 0
        space = {}
        exec(out, space)
        assert isinstance(space["optimizer"], optax.GradientTransformation)
        expected = translate(row.name, row.options)
        assert expected.expression in out
        comments = [line for line in out.splitlines() if line.startswith("#")]
        assert expected.reason in " ".join(line.removeprefix("#").strip() for line in comments)
        assert max(map(len, comments)) <= 80


def _word(value):
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["RMSprp"], "unknown torch.optim class 'RMSprp': choose from ASGD, "),
        (["RMSprp"], "did you mean RMSprop?"),
        (["rmsprop"], "did you mean RMSprop?"),
        (["Adam", "amsgra=True"], "did you mean amsgrad?"),
        (["Adam", "lr=-1"], "torch.optim.Adam refuses lr=-1: it must be a number of at least 0"),
        (["Adam", "lr=fast"], "torch.optim.Adam refuses lr='fast'"),
        (["Adam", "lr=nan"], "torch.optim.Adam refuses lr=nan"),
        (["Adam", "lr=inf"], "lr=inf cannot be translated"),
        (["Adam", "betas=0.9"], "two numbers in [0, 1), as 0.9,0.999"),
        (["SGD", "nesterov=True"], "it needs a momentum above 0 and dampening 0"),
        (["torch.optim.adam"], "did you mean Adam?"),
        (["Adam", "lr=0.1", "lr=0.2"], "lr is given more than once"),
        (["Adam", "lr"], "'lr' is no option: write OPTION=VALUE, as lr=0.01"),
        (["LBFGS", "line_search_fn=wolfe"], "it must be None or strong_wolfe"),
    ],
)
def test_a_wrong_question_is_one_line(capsys, arguments, words):
    status, out, err = answer(capsys, *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert words in err


def test_the_command_line_says_what_schedule_means(capsys):
    status, out, _ = answer(capsys, "SGD", "--schedule", "momentum=0.9")
    assert status == 0
    assert "optax.sgd(schedule, momentum=0.9)" in out
    assert "# schedule: put your own function here, from the number of steps made" in out
    assert "schedule = optax.constant_schedule(0.001)" in out
    assert "# schedule" not in answer(capsys, "Adagrad")[1]  # scale_by_schedule is optax's


def test_the_command_line_lists_all_classes(capsys):
    status, out, _ = answer(capsys)
    assert status == 0
    assert all(f"\n{name} " in "\n" + out for name in CLASSES)


def test_from_python_a_named_class_is_made_as_well(backends):
    made = dictionary.translate("SGD", lr=0.1).transformation()
    scheduled = translate("SGD", {}, "schedule").transformation(lambda count: 0.1 * (count + 1.0))
    params = jnp.ones(())
    assert float(made.update(params, made.init(params))[0]) == -0.1
    assert float(scheduled.update(params, scheduled.init(params))[0]) == -0.1


RMSPROP = [sys.executable, "-m", "jaxopt_study.dictionary", "RMSprop", "lr=0.01"]


def test_a_reader_that_goes_early_is_no_error():
    """As `| head -1` does: status 1, and nothing on standard error."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as nobody:
        said = subprocess.run(RMSPROP, stdout=nobody, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT)
    assert (said.returncode, said.stderr) == (1, "")


def test_a_terminal_that_knows_ascii_alone_is_answered():
    plain = os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    for options, status in (((), 0), (("alpha=\u03b1",), 2)):
        command = [*RMSPROP, *options]
        said = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=plain)
        assert (said.returncode, "Traceback" in said.stderr) == (status, False)


# Live objects.


def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))


def follow(optimizer, network, translation, steps=20, after=lambda: None):
    """Make the same steps in both with the same gradients, and return how far the parameters differ."""
    names = [name for name, _ in network.named_parameters()]
    params = {
        layer: {
            leaf: jnp.asarray(network.get_parameter(f"{layer}.{leaf}").detach().numpy().copy())
            for leaf in ("weight", "bias")
        }
        for layer in sorted({name.split(".")[0] for name in names})
    }
    rule = translation.transformation()
    state = rule.init(params)
    update = jax.jit(rule.update)
    generator = np.random.default_rng(0)
    for _ in range(steps):
        gradient = jax.tree.map(lambda leaf: jnp.asarray(generator.standard_normal(leaf.shape)), params)
        for name in names:
            layer, leaf = name.split(".")
            network.get_parameter(name).grad = torch.tensor(np.asarray(gradient[layer][leaf]))
        optimizer.step()
        after()
        updates, state = update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return max(
        np.abs(np.asarray(params[layer][leaf]) - network.get_parameter(f"{layer}.{leaf}").detach().numpy()).max()
        for layer, leaf in (name.split(".") for name in names)
    )


def test_a_live_optimizer_is_translated(backends):
    network = model()
    optimizer = torch.optim.RMSprop(network.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1, centered=True)
    translation = dictionary.translate(optimizer)
    assert translation.status == "exact under conditions"
    assert translation.expression == translate("RMSprop", translation.groups[0].options).expression
    assert follow(optimizer, network, translation) < 1e-13


@pytest.mark.parametrize("name", [n for n in CLASSES if n not in ("LBFGS", "Muon", "SparseAdam")])
def test_every_class_is_translated_live(backends, name):
    network = model()
    optimizer = getattr(torch.optim, name)(network.parameters())
    assert follow(optimizer, network, dictionary.translate(optimizer), steps=5) < 1e-13


def test_groups_by_name_and_by_labels(backends):
    network = model()
    named = list(network.named_parameters())
    groups = [
        {"params": [pair for pair in named if pair[0].endswith("weight")], "weight_decay": 0.1},
        {"params": [pair for pair in named if pair[0].endswith("bias")], "lr": 0.1},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.01)
    translation = dictionary.translate(optimizer)
    assert "optax.partition(" in translation.expression
    assert follow(optimizer, network, translation) < 1e-13

    network = model()
    bare = [{"params": [p for n, p in network.named_parameters() if n.endswith(end)]} for end in ("weight", "bias")]
    bare[1]["lr"] = 0.1
    optimizer = torch.optim.Adam(bare, lr=0.01)
    with pytest.raises(DictionaryError, match="2 groups: say which leaf is in which by model=, by labels="):
        dictionary.translate(optimizer).transformation()

    def labels(params):
        return {layer: {name: "0" if name == "weight" else "1" for name in leaves} for layer, leaves in params.items()}

    assert follow(optimizer, network, dictionary.translate(optimizer, labels=labels)) < 1e-13


def test_a_live_translation_prints_as_code(backends):
    network = model()
    groups = [{"params": [pair], "lr": 0.1 * n} for n, pair in enumerate(network.named_parameters(), start=1)]
    optimizer = torch.optim.Adam(groups, foreach=True)
    text = str(dictionary.translate(optimizer))
    assert text.count("# torch.optim.Adam(lr=") == 4
    assert "# not carried over: foreach" in text
    assert "    \"0\": ['0.weight']," in text
    space = {}
    exec(text, space)
    assert isinstance(space["optimizer"], optax.GradientTransformation)


def test_a_schedule_takes_the_place_of_the_learning_rate(backends):
    network = model()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=5, gamma=0.1)
    falling = optax.exponential_decay(0.1, 5, 0.1, staircase=True)
    # An int32 count divided is float32, also under x64.
    translation = dictionary.translate(optimizer, schedule=lambda count: falling(count * 1.0))
    assert "scheduler" not in translation.condition
    assert "scheduler" in dictionary.translate(optimizer).condition
    assert follow(optimizer, network, translation, after=scheduler.step) < 1e-14


def test_what_is_not_carried_over_is_said():
    network = model()
    optimizer = torch.optim.Adam(network.parameters(), foreach=True)
    assert any("foreach" in note for note in dictionary.translate(optimizer).notes)
    for leaf in network.parameters():
        leaf.grad = torch.ones_like(leaf)
    optimizer.step()
    optimizer.register_step_post_hook(lambda *_: None)
    translation = dictionary.translate(optimizer)
    assert any("begins at step 0" in note for note in translation.notes)
    assert "hooks" in translation.condition


def test_what_is_no_optimizer_is_refused():
    class Mine(torch.optim.Adam):
        pass

    with pytest.raises(DictionaryError, match=r"dict is no torch\.optim optimizer"):
        dictionary.translate({})
    with pytest.raises(DictionaryError, match=r"Mine is not in the dictionary.*derives from Adam"):
        dictionary.translate(Mine(model().parameters()))


# The study.


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dictionary") / "run"
    with workers_here("jax", "torch"):
        return session.run(SMOKE, folder, False, lambda *_: None), record.read(folder)


def read(records):
    """Return what an experiment of each name says of these records: its rows, tables and sentence."""
    results = verdict.evaluate(records, SMOKE)
    return results, {section.experiment.name: section for section in verdict.sections(results, SMOKE)}


def changed(records, change, **which):
    """Return the records, with the value of those that match `which` changed."""
    mine = [r for r in records if all(getattr(r, name) == value for name, value in which.items())]
    assert mine
    return [dataclasses.replace(r, value=change(r, dict(r.value))) if r in mine else r for r in records]


def test_the_study_holds_on_these_versions(smoke):
    outcome, records = smoke
    assert outcome.status == 0, [f for f in outcome.findings if not f.agrees]
    assert f"{len(FIRST)} of {len(FIRST)} lines of the dictionary hold" in outcome.verdict
    _, said = read(records)
    assert {row["subject"] for row in said["conventions"].rows} == {c.torch for c in CONVENTIONS}
    assert all(row["holds"] for row in said["conventions"].rows)
    assert all(there for row in said["upstream"].rows for there in row["defects"].values())
    assert said["upstream"].verdict == ""
    shown = " ".join(map(str, outcome.tables))
    assert all("torch.optim" in shown and row.key in shown for row in FIRST)


def test_a_row_that_no_longer_holds_is_marked(smoke):
    """Move one parameter of one row: its line must say so, and the study must fail."""
    adam = next(row.key for row in FIRST if row.name == "Adam")

    def move(_, value):
        path = record.unpack(value["schedule"]).copy()
        path[-1, 0] += 1e-12
        return value | {"schedule": record.pack(path)}

    results, said = read(changed(smoke[1], move, subject=adam, framework="jax"))
    (wrong,) = [finding for finding in results.findings if finding.agrees is False]
    assert {case.subject for case in wrong.cases} == {adam}
    assert {case.framework for case in wrong.cases} == {"jax", "torch"}
    assert wrong.distance > wrong.bound == bounds.REPLAY.bound
    (table, *_), words = said["configurations"].tables, said["configurations"].verdict
    assert [row[0] for row in table.rows if "NO LONGER SO: 0 of 1 hold" in row] == ["Adam"]
    assert "14 of 15" in words


def test_a_convention_that_no_longer_holds_is_marked(smoke):
    step = next(c for c in CONVENTIONS if "StepLR" in c.torch)

    def move(_, value):
        rates = list(value[f"{step.torch}: aligned"])
        return value | {f"{step.torch}: aligned": [*rates[:-1], rates[-1] + 1e-12]}

    results, said = read(changed(smoke[1], move, subject="schedule", framework="jax"))
    assert [step.torch in f.what for f in results.findings if f.agrees is False] == [True]
    assert [row[0] for row in said["conventions"].tables[0].rows if "NO LONGER SO" in row] == [step.torch]


def test_a_training_that_differs_is_seen_at_the_step_nearest_to_its_bound(smoke):
    """At the second of four steps, where the bound is 20 times torch's sensitivity there."""
    sgd = next(row.key for row in FIRST if row.name == "SGD")

    def move(_, value):
        path = record.unpack(value["digits"]).copy()
        path[1, 0] += 1e-14
        return value | {"digits": record.pack(path)}

    results, _ = read(changed(smoke[1], move, subject=sgd, framework="jax"))
    (wrong,) = [finding for finding in results.findings if finding.agrees is False]
    assert 0.9e-14 < wrong.distance < 1.1e-14
    assert wrong.bound < 20 * 1e-15
    assert wrong.note.startswith("at step 2, ")


def test_a_defect_that_is_gone_is_said(smoke):
    _, said = read(
        changed(smoke[1], lambda _, value: value | {"rprop_lags": 0.0}, experiment="upstream", framework="jax")
    )
    assert said["upstream"].verdict == "known defects that are gone: rprop_lags"


def test_an_optimizer_that_is_new_or_gone_is_said(smoke):
    others = {"jax": ("optax.brand_new", "optax.lion"), "torch": ("torch.optim.BrandNew", "torch.optim.SGD")}

    def change(r, value):
        new, gone = others[r.framework]
        return value | {"optimizers": [name for name in [*value["optimizers"], new] if name != gone]}

    _, said = read(changed(smoke[1], change, experiment="upstream"))
    words = said["upstream"].verdict
    assert "NEW, and not in the dictionary: optax.brand_new, torch.optim.BrandNew" in words
    assert "in the dictionary, but gone: optax.lion, torch.optim.SGD" in words


def test_float32_growth_is_compared_and_drawn(digits2, tmp_path):
    """Over 200 steps; profile full makes 13,470. A replay that is wrong is seen."""
    plan, growth = make_plan(studies=("dictionary",), profile="full"), Growth(steps=200)
    cases = [c for group in growth.groups(plan) for c in group.cases if c.subject.startswith(("Adam(", "ASGD("))]
    records = []
    for case in cases:
        task = growth.task(load_backend(case.framework), case, digits2, plan)
        *_, output = task.run(task.start())
        kept = growth.summarize(case, task.export(output), digits2, plan)
        facts = dataclasses.asdict(case) | {"status": "ok", "group": "", "environment": ""}
        records.append(Record(**facts, value=kept))
    results = Results(tuple(records), tuple(growth.findings(records, plan)))
    rows = growth.rows(results, plan)
    assert [(row["name"], row["holds"]) for row in rows] == [("Adam", True), ("ASGD", True)]
    assert all(row["trained"].steps[-1] == 200 and 0 < row["replayed"][-1] < 1e-5 for row in rows)
    assert [table.title for table in growth.tables(rows, plan)] == ["float32: distances after 200 steps"]
    for figure in growth.figures(results, plan):
        save(figure, tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["float32_replayed.png", "float32_trained.png"]

    value = records[0].value | {"replayed": record.pack(record.unpack(records[0].value["replayed"]) + 1e-2)}
    wrong = [dataclasses.replace(records[0], value=value), *records[1:]]
    (found,) = [finding for finding in growth.findings(wrong, plan) if finding.agrees is False]
    assert {case.subject for case in found.cases} == {records[0].subject}


@given(array=st.lists(st.floats(allow_nan=True, allow_subnormal=False), min_size=1, max_size=9))
def test_arrays_come_back_from_a_record(array):
    array = np.array([array])
    assert np.array_equal(record.unpack(record.pack(array)), array, equal_nan=True)


def test_one_framework_alone_is_not_compared(smoke):
    results, said = read([r for r in smoke[1] if r.framework == "jax"])
    assert results.findings == ()
    assert {row["holds"] for row in said["configurations"].rows} == {None}
    assert not any(section.error for section in said.values())


def test_another_workload_is_skipped_with_the_reason(backends):
    case = STUDIES["dictionary"].groups(SMOKE)[0].cases[0]
    with pytest.raises(Skipped, match="the dictionary is checked on digits-linear"):
        Configurations().task(backends["jax"], case, breast_cancer_raw(0, 1), SMOKE)
    records = [record.not_measured(case, "skipped", "the dictionary is checked on digits-linear", "")]
    _, said = read(records)
    assert said["configurations"].tables[2].rows[0][2] == "skipped: the dictionary is checked on digits-linear"
    assert set(ROWS) == {row.key for row in TABLE}


def test_rprop_goes_on_after_a_nan_as_torch_does():
    """torch's sign of NaN is 0."""
    parameter, gradients = torch.nn.Parameter(torch.ones(3, dtype=torch.float32)), np.ones((4, 3), np.float32)
    gradients[1, 1] = np.nan
    theirs, ours = torch.optim.Rprop([parameter], lr=0.1), torch_rprop(0.1)
    p = jnp.ones(3, "float32")
    state = ours.init(p)
    for gradient in gradients:
        parameter.grad = torch.as_tensor(gradient)
        theirs.step()
        updates, state = ours.update(jnp.asarray(gradient), state)
        p = p + updates
        np.testing.assert_allclose(p, parameter.detach(), rtol=1e-6)

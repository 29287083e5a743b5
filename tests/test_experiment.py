"""A user's own steps: `--experiment FILE`. Most tests call the study in this process, on files written here."""

import json
import threading
import warnings
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from jaxopt_study import user_code
from jaxopt_study.bench import timing
from jaxopt_study.bench.case import PROFILES
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.results import Results
from jaxopt_study.bench.task import Refused, Skipped
from jaxopt_study.compare import compare_steps
from jaxopt_study.config import ConfigError
from jaxopt_study.parity.trees import flatten
from jaxopt_study.studies.steps import initial, source
from jaxopt_study.studies.steps import reference as reference_module
from jaxopt_study.studies.steps.check import Check
from jaxopt_study.studies.steps.reference import reference
from jaxopt_study.studies.steps.side import STEPS, side
from jaxopt_study.studies.steps.times import METHODS, UNCOMPILED_LAP, Times
from tests.conftest import load_backend, make_plan
from tests.here import WorkerHere, workers_here

HERE = Path(__file__).parent / "experiments"
TEMPLATE = source.TEMPLATE.read_text()
JAX_RETURNS = '"state": (params, rule.init(params)), "step": step, "batches": BATCHES}'
QUICK = TEMPLATE.replace(JAX_RETURNS, JAX_RETURNS.replace("step, ", "jax.jit(step), "))
TORCH_RETURNS = 'lr=1e-3)), "step": step, "batches": BATCHES}'
"""Without jit a step in JAX takes tens of milliseconds."""


@pytest.fixture(scope="module")
def both():
    """Both backends, in float32 as the command line has them."""
    loaded = {name: load_backend(name, "float32") for name in ("jax", "torch")}
    yield loaded
    for name in loaded:
        load_backend(name)


@pytest.fixture(autouse=True)
def read_here(monkeypatch):
    """Read the initial parameters of torch_step in this process."""
    monkeypatch.setattr(initial, "WorkerProcess", WorkerHere)


@pytest.fixture
def written(tmp_path):
    """Write a file: the template with some of its text replaced."""

    def write(*changes, text=QUICK):
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "mine.py"
        path.write_text(text)
        return path

    return write


def plan_for(path):
    return make_plan(
        studies=("steps",),
        frameworks=source.frameworks(path),
        dtype="float32",
        experiment=str(path),
        experiment_digest=user_code.digest(path),
    )


def record_of(experiment, backend, case, plan):
    """Return the record that a case's value makes, without its times."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # in a process of its own a worker's warnings are read by nobody
        task = experiment.task(backend, case, None, plan)
        list(task.stages())
        *_, output = task.run(task.start())
    kept = experiment.summarize(case, task.export(output), None, plan)
    return Record(**asdict(case), status="ok", group="", environment="", value=kept)


def checked(path, both):
    """Return why the run is refused, or the comparisons of the two sides."""
    plan = plan_for(path)
    (group,) = Check().groups(plan)
    try:
        records = [record_of(Check(), both[case.framework], case, plan) for case in group.cases]
    except Refused as reason:
        return str(reason)
    return Check().refuse(records, plan) or Check().findings(records, plan)


def timed(path, both, framework):
    """Return the comparisons of each way to loop, by method."""
    plan = plan_for(path)
    found = {}
    for method in METHODS[framework]:
        case = Times().case("mine", framework, method)
        try:
            found[method] = Times().findings([record_of(Times(), both[framework], case, plan)], plan)
        except (NotImplementedError, Skipped) as reason:
            found[method] = str(reason)
    return found


# Things that no one here wrote.

LINES = {"mlp": 30, "cnn": 38, "transformer": 43, "tutorial": 27, "module": 19}
"""Lines that a user writes, data and models included, without blank ones. The goal is 40. Of the transformer's, 14 are
its models in both frameworks."""


@pytest.mark.parametrize("name", ["mlp", "cnn", "transformer"])
def test_twins_train_alike(name, both):
    findings = checked(HERE / f"{name}.py", both)
    assert [f.agrees for f in findings] == [True, True], findings
    # Measured: 0.03 of the bound.
    assert findings[1].distance <= 0.3 * findings[1].bound


def test_elements_that_are_rounding_alone_are_left_out_and_named(both):
    plan = plan_for(HERE / "transformer.py")
    (group,) = Check().groups(plan)
    records = [record_of(Check(), both[case.framework], case, plan) for case in group.cases]
    first, _ = Check().rows(Results(tuple(records), ()), plan)
    assert "8 of 24 elements of qkv/bias" in first["report"]


@pytest.mark.parametrize("name", LINES)
def test_lines_that_a_user_writes_are_counted(name):
    lines = [line for line in (HERE / f"{name}.py").read_text().splitlines() if line.strip()]
    assert len(lines) == LINES[name]
    assert len(TEMPLATE.splitlines()) <= 40


def test_initial_parameters_of_torch_are_read_in_another_process(both, monkeypatch):
    path = HERE / "transformer.py"
    here = side(both["torch"], "torch", plan_for(path))
    monkeypatch.undo()
    found = flatten(initial.of_torch(plan_for(path)))
    assert len(found) == 12
    assert all(np.array_equal(leaf, found[name]) for name, leaf in here.leaves(here.state).items())


@pytest.mark.parametrize("axes", [1, 2])
def test_a_module_is_read_by_the_names_and_layouts_of_flax(axes, both):
    """As `port` has them, which knows them from flax's shapes."""
    from torch import nn

    from jaxopt_study.port import to_flax_params

    convolution, transposed, norm = {
        1: (nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d),
        2: (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d),
    }[axes]
    embedding = nn.Embedding(7, 3)
    model = nn.ModuleDict({
        "embedding": embedding, "tied": embedding, "conv": convolution(2, 3, (4, 5)[:axes]),
        "back": transposed(3, 4, (5, 2)[:axes]), "norm": norm(3), "stack": nn.ModuleDict({"out": nn.Linear(3, 2)}),
    })  # fmt: skip
    found = both["torch"].parameters.read((model, "something else"))
    tree = jax.tree.map(np.asarray, found)
    expected = to_flax_params(model, tree)
    assert set(flatten(found)) == {
        "embedding/embedding", "conv/kernel", "conv/bias", "back/kernel", "back/bias", "norm/scale", "norm/bias",
        "stack/out/kernel", "stack/out/bias",
    }  # fmt: skip
    assert jax.tree.all(jax.tree.map(np.array_equal, tree, expected))
    numbered = both["torch"].parameters.read(nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.LSTM(2, 1)))
    assert numbered["layers_0"].keys() == {"kernel", "bias"}
    assert numbered["layers_2"].keys() == {"weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"}


def test_parameters_are_found_in_a_state_of_jax(both):
    read, params = both["jax"].parameters.read, {"out": {"kernel": np.ones(2)}}
    assert read((params, "memory")) == read({"params": params, "batch_stats": {}}) == read(params) == params
    assert read(SimpleNamespace(params={"params": params})) == params
    assert read((0, params), params=lambda state: state[1]) == params


def test_the_template_trains_alike(written, both):
    findings = checked(written(text=TEMPLATE), both)
    assert [f.agrees for f in findings] == [True, True]


def test_large_leaves_are_compared_in_part(both, monkeypatch):
    monkeypatch.setattr(reference_module, "PATH_BYTES", 33 * 4 * 10_000)
    whole = [np.arange(100, dtype=np.float32), np.arange(10_000, dtype=np.float32).reshape(100, 100)]
    path = reference_module._path([{"bias": whole[0], "kernel": whole[1]}] * 33)
    assert {name: leaf.shape for name, leaf in path.items()} == {
        "bias": (33, 100),
        "kernel (one element in 2)": (33, 5000),
    }


# Ways to loop.


def eager(patch):
    """Let torch.compile trace and not generate code: inductor takes half a minute."""
    import torch

    original = torch.compile
    patch.setattr(torch, "compile", lambda f, dynamic, options: original(f, dynamic=dynamic, backend="eager"))


def test_each_way_to_loop_agrees_with_the_step_as_given(written, both, monkeypatch):
    eager(monkeypatch)
    path = written(text=TEMPLATE)
    for framework, skipped in (("jax", {"native_scan"}), ("torch", {"cuda_graph"})):
        found = timed(path, both, framework)
        assert {method for method, findings in found.items() if isinstance(findings, str)} == skipped, found
        assert all(f.agrees for method in found.keys() - skipped for f in found[method]), found


def test_the_samples_of_a_step_without_jit_are_one_run():
    """A step takes tens of milliseconds, and a sample at least ten."""
    laps = PROFILES["default"].repeats + 2  # the first call and the warm-up
    assert laps * UNCOMPILED_LAP <= STEPS


ONE_ROW = """
import jax, jax.numpy as jnp, numpy as np

def jax_step():
    def step(w, x):
        loss, gradient = jax.value_and_grad(lambda w: (w @ x - 2) ** 2)(w)
        return w - 0.01 * gradient, loss

    return {"state": jnp.ones(5), "step": step, "batches": list(np.eye(5)), "params": lambda w: {"w": w}}
"""


def test_a_small_step_is_one_native_function(written, both):
    found = timed(written(text=ONE_ROW), both, "jax")
    assert all(f.agrees for findings in found.values() for f in findings), found


def test_a_state_with_a_function_in_it_is_compiled(both):
    found = timed(HERE / "module.py", both, "jax")
    assert "XLA makes no native function of this step" in found.pop("native_scan")
    assert all(f.agrees for findings in found.values() for f in findings), found


def test_a_step_that_jax_cannot_trace_is_timed_as_given_alone(written, both):
    found = timed(written(("updates), memory), value", "updates), memory), float(value)"), text=TEMPLATE), both, "jax")
    words = {method: findings for method, findings in found.items() if isinstance(findings, str)}
    assert found.keys() - words.keys() == {"as_given"}
    assert all("the step cannot be compiled: ConcretizationTypeError" in reason for reason in words.values())


def test_a_recorded_step_is_replayed_on_tensors_that_stay(both):
    """What a CUDA graph does, without one: the step is made anew instead of replayed."""
    from torch_reference import steps

    mine = side(both["torch"], "torch", plan_for(HERE / "tutorial.py"))
    expected = reference(both["torch"], "torch", plan_for(HERE / "tutorial.py"))
    loop = steps.recorded(mine.step, mine.state, lambda advance: advance)
    data = loop.load(mine.batches)
    list(loop.stages(data))
    state, losses = loop.run(loop.start(), data)
    assert np.allclose(losses.numpy(), expected.losses[1:], rtol=1e-6)
    assert all(np.allclose(leaf, expected.last[name], atol=1e-7) for name, leaf in mine.leaves(state).items())


def test_samples_of_several_runs_begin_where_the_first_began(written, both, monkeypatch):
    """On a fast machine a run of a compiled step is shorter than a sample, and there is one state for all runs."""
    eager(monkeypatch)
    path = written()
    task = Times().task(both["torch"], Times().case("mine", "torch", "compiled"), None, plan_for(path))
    stepper = timing.Stepper(task, both["torch"].runtime)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stepper.stages()
    stepper.first()
    stepper.calibrate(3)
    stepper.sample()
    stepper.finish()


def test_a_state_that_cannot_be_set_back_is_not_compiled(written, both, monkeypatch):
    eager(monkeypatch)
    change = "        optimizer.zero_grad()\n", "        optimizer.zero_grad()\n        count.append(0)\n"
    path = written(
        change,
        ("(model, optimizer), (inputs", "(model, optimizer, count), (inputs"),
        ("cross_entropy(model(inputs), targets)", "cross_entropy(model(inputs), targets) / len(count)"),
        ("lr=1e-3)), ", "lr=1e-3), []), "),
    )
    assert "cannot be" in timed(path, both, "torch")["compiled"]


@pytest.mark.parametrize("method", ["donated", "scan"])
def test_a_way_to_loop_that_computes_something_else_disagrees(method, written, both, monkeypatch):
    """Planted: the way to loop gives a step other batches than the step as given."""
    original = getattr(both["jax"].steps, method)

    def wrong(step, state):
        loop = original(step, state)
        return loop._replace(load=lambda batches: loop.load(batches[::-1]))

    monkeypatch.setattr(both["jax"].steps, method, wrong)
    findings = timed(written(), both, "jax")[method]
    assert [f.agrees for f in findings] == [False, False]


# Planted faults: status 1, and named.

# The locator names a mistake where five elements or more tell it.
TWELVE = [("np.zeros(3)", "rng.normal(size=12)"), ("(20, 3)", "(20, 12)"), ("rs(3,", "rs(12,")]
FAULTS = {
    "decay on biases": (
        [*TWELVE, ("optax.adam(1e-3)", 'optax.adamw(1e-3, weight_decay=0.5, mask={"kernel": False, "bias": True})')],
        "bias",
        "weight decay",
    ),
    "eps": ([("lr=1e-3)", "lr=1e-3, eps=1e-2)")], "bias", "a different eps"),
    "initial parameters": (
        [("torch.tensor(KERNEL.T)", "torch.tensor(KERNEL.T + 0.1)")],
        "step 0, kernel",
        "initialization",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_located_and_named(fault, written, both):
    changes, leaf, name = FAULTS[fault]
    parameters, _ = checked(written(*changes), both)
    assert parameters.agrees is False
    assert leaf in parameters.note
    assert name in parameters.note


def test_another_order_of_the_batches_is_named(written, both):
    path = written((TORCH_RETURNS, TORCH_RETURNS.replace("BATCHES", "BATCHES[::-1]")))
    order, parameters, _ = checked(path, both)
    assert order.what == "order of the batches: batch 1 of jax_step is batch 32 of torch_step"
    assert (order.agrees, parameters.agrees) == (False, False)


def test_a_loss_that_is_reported_otherwise_is_told_from_a_training_that_differs(written, both):
    parameters, losses = checked(written(("return state, loss", "return state, 2 * loss.detach()")), both)
    assert (parameters.agrees, losses.agrees) == (True, False)
    assert "the parameters agree" in losses.note


# Bad input: one line, status 2, nothing written.


def test_initial_parameters_that_are_nowhere_are_refused(written, both):
    path = written(("def torch_step", "def other_step"), ("def jax_step()", "def jax_step(params)"))
    assert "of torch_step, which mine.py does not define" in checked(path, both)


BAD = {
    "its own error": ([("rng = ", "1 / 0\nrng = ")], "mine.py:4: ZeroDivisionError: division by zero"),
    "an error in a step": ([("loss.backward()", "loss.backwards()")], "torch_step: mine.py:33: AttributeError"),
    "a missing module": ([("import torch\n", "import torsh\n")], "torch_step: mine.py:27: ModuleNotFoundError"),
    "an entry that is missing": ([(TORCH_RETURNS, TORCH_RETURNS.replace('"step": step, ', ""))],
        "torch_step returns no step: it must return a dict"),
    "not a dict": ([('return {"state": (params', 'return 3\n    return {"state": (params')], "and not a int"),
    "a step that returns one thing": ([("return state, loss", "return loss")], "must return (state, loss), and"),
    "no scalar": ([("return state, loss", "return state, inputs")], "the loss is no scalar but has shape (32, 20)"),
    "no number": ([("return state, loss", "return state, None")], "the loss is no scalar but a NoneType"),
    "NaN": ([("return state, loss", "return state, loss * float('nan')")], "the loss of the first step is nan"),
    "no gradient": ([("loss.backward()", "loss")], "no parameter changed in 32 steps"),
    "a state outside of the state": (
        [("(model, optimizer), (inputs", "_, (inputs"),
         ('return {"state": (model, torch.optim.Adam(model.parameters(), lr=1e-3))',
          'optimizer = torch.optim.Adam(model.parameters())\n    return {"params": lambda _: model, "state": None')],
        "must be in the state",
    ),
    "another name": (
        [('adam(1e-3), {"kernel"', 'adam(1e-3), {"kernels"'), ('params["kernel"]', 'params["kernels"]')],
        "only jax_step has the parameter kernels; the nearest in torch_step is kernel",
    ),
    "another shape": (
        [(TORCH_RETURNS, TORCH_RETURNS.replace(
            "}", ', "params": lambda state: {"kernel": state[0].weight, "bias": state[0].bias}}'))],
        "kernel has the shape (20, 3) in jax_step and (3, 20) in torch_step: transpose one",
    ),
    "another type": (
        [("Linear(20, 3)", "Linear(20, 3, dtype=torch.float64)"), ("model(inputs)", "model(inputs.double())")],
        "bias has the dtype float32 in jax_step and float64 in torch_step",
    ),
    "other batches": (
        [(TORCH_RETURNS, TORCH_RETURNS.replace("BATCHES", "[BATCHES[0]] * 3"))],
        "jax_step and torch_step are given different batches, from batch 2 on",
    ),
    "no parameters": ([('"state": (model, ', '"state": (model, model, ')], "no parameters are found in the state"),
    "parameters of another kind": ([(TORCH_RETURNS, TORCH_RETURNS.replace("}", ', "params": 3}'))],
        "torch_step: params is no function but a int"),
    "no batches": ([('"batches": BATCHES', '"batches": []')], "jax_step: batches is empty"),
    "text in a batch": ([('"batches": BATCHES', '"batches": ["text"]')], "jax_step: batches"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_line(what, written, both):
    changes, words = BAD[what]
    said = checked(written(*changes), both)
    assert isinstance(said, str), said
    assert words in said
    assert "\n" not in said


def test_a_step_that_changes_shapes_is_refused(written, both):
    text = """import numpy as np
def jax_step():
    return {"state": np.ones(3), "step": lambda s, b: (np.append(s, 1.0), 0.5), "batches": [np.ones(1)],
            "params": lambda s: {"w": s}}
"""
    assert "step 1 changes w from shape (3,) to (4,)" in checked(written(text=text), both)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def jax_step(:\n", "mine.py:1: SyntaxError"),
        ("def jaxstep(): ...\n", "defines neither jax_step nor torch_step; it defines jaxstep"),
        ("", "defines neither jax_step nor torch_step"),
        ("x = '\0'", "SyntaxError"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_before_it_is_run(text, words, written):
    with pytest.raises(user_code.UserCodeError, match=words):
        source.frameworks(written(text=text))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--experiment", "none.py"], "none.py does not exist; make one by --new-experiment none.py"),
        (
            ["--experiment", "mine.py", "--epochs", "3"],
            "mine.py: that file says what is trained, and a run has 32 steps",
        ),
        (["--experiment", "mine.py", "--studies", "loops"], "--studies says nothing to"),
        (["--experiment", "one.py", "--frameworks", "torch"], "--experiment one.py has no torch_step"),
        (["--new-experiment", "mine.py"], "--new-experiment mine.py exists already"),
        (["--new-experiment", "no/such/mine.py"], "No such file"),
        (["--new-experiment", "mine.txt"], "must end in .py"),
        (["--fail-on-slower", "10"], "needs another run: --against DIR, or a second folder"),
        (["--fail-on-slower", "-1", "--against", "x"], "--fail-on-slower -1.0 is not a positive"),
        (["--studies", "steps"], "unknown study 'steps'"),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments, words, written, tmp_path, compare_here, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written()
    (tmp_path / "one.py").write_text("def jax_step(): ...\n")
    before = sorted(tmp_path.iterdir())
    answer = compare_here(*arguments)
    assert (answer.returncode, answer.stdout, answer.stderr.count("\n")) == (2, "", 1)
    assert words in answer.stderr
    assert sorted(tmp_path.iterdir()) == before


# Whole runs.


def test_a_new_file_runs_as_written_and_is_compared_with_its_next_run(tmp_path, compare_here, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "--experiment mine.py" in compare_here("--new-experiment", "mine.py").stdout
    options = ("--experiment", "mine.py", "--frameworks", "jax", "--repeats", 2, "--json")
    with workers_here("jax"):
        first = compare_here(*options, "--out", "first")
        assert first.returncode == 0, first.stdout
        rows = json.loads(first.stdout)["studies"]["steps"]["times"]
        assert {row["method"] for row in rows} == METHODS["jax"].keys()
        assert all(row["low"] <= row["step_seconds"] <= row["high"] for row in rows if row["status"] == "ok")
        against = ("--json", "--against", "first", "--fail-on-slower")
        assert compare_here(*options, *against[1:], 10**6, "--out", "second").returncode == 0
        lines = Path("first/records.jsonl").read_text().splitlines()
        faster = [json.loads(line) for line in lines]
        for row in faster:
            row["samples"] = [seconds / 1000 for seconds in row["samples"]]
        Path("first/records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in faster))
        slower = compare_here("--report", "second", *against, 10)
    assert slower.returncode == 1
    assert "SLOWER by more than 10 %: steps/times/mine/jax/" in json.loads(slower.stdout)["verdict"]


def test_a_fault_ends_with_status_1_and_nothing_is_timed(written, tmp_path, compare_here):
    path = written(("lr=1e-3)", "lr=1e-3, eps=1e-2)"))
    with workers_here("jax", "torch"):
        answer = compare_here("--experiment", path, "--out", tmp_path / "run", "--json")
    summary = json.loads(answer.stdout)
    assert answer.returncode == summary["status"] == 1
    assert "a different eps" in summary["verdict"]
    assert (tmp_path / "run" / "report.md").read_text().count("irst difference: step") == 1
    assert {row["status"] for row in summary["studies"]["steps"]["times"]} == {"skipped"}


def test_bad_input_writes_nothing(written, tmp_path, compare_here):
    with workers_here("jax", "torch"):
        answer = compare_here("--experiment", written(("return state, loss", "return loss")), "--out", tmp_path / "run")
    assert (answer.returncode, answer.stdout, answer.stderr.count("\n")) == (2, "", 1)
    assert "must return (state, loss)" in answer.stderr
    assert not (tmp_path / "run").exists()


def test_functions_of_a_notebook_are_compared(tmp_path):
    """They are sent to a worker process by their code: nothing there can import them."""
    names = {"__name__": "__main__"}
    exec(TEMPLATE, names)
    outcome = compare_steps(jax_step=names["jax_step"], repeats=1, out=tmp_path / "run")
    assert outcome.status == 0, outcome.verdict
    assert "A step in JAX takes" in outcome.verdict


def test_an_error_in_a_notebook_has_its_own_line():
    names = {"__name__": "__main__"}
    exec(compile(QUICK.replace("rule.update", "rule.updates"), "<cell 7>", "exec"), names)
    with pytest.raises(ConfigError, match=r"jax_step: .*:19: AttributeError"):
        compare_steps(jax_step=names["jax_step"])


def test_what_cannot_be_sent_to_a_worker_is_refused():
    lock = threading.Lock()
    with pytest.raises(ConfigError, match="jax_step cannot be sent to another process: TypeError"):
        compare_steps(jax_step=lambda: lock)
    with pytest.raises(ConfigError, match="needs jax_step, torch_step or both"):
        compare_steps()

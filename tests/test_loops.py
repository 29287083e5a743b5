"""Every way to loop makes the same steps, and none compiles in its measured blocks."""

from functools import partial

import numpy as np
import pytest
import torch

from jaxopt_study.bench import stats
from jaxopt_study.backends.numpy import training as formula
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.task import Skipped
from jaxopt_study.data.workload import digits_linear, draw_params, stack_params
from jaxopt_study.studies import loops as study
from jaxopt_study.studies import timer
from jaxopt_study.studies.loops import experiments
from jaxopt_study.studies.loops.arms import ARMS, CURVES, GROWTH, Size, curves
from jaxopt_study.studies.tolerances import GROWTH as GROWTH_BOUNDS
from tests.conftest import load_backend, make_plan

OPTIMIZERS = ("adam", "rmsprop", "sgd", "adagrad")
SLOW_TO_COMPILE = ("compiled_four", "compiled_thirty_two")
STEPS = 24
SINGLE = [(framework, name) for framework, arms in ARMS.items() for name, arm in arms.items() if not arm.sweep]
BATCHED = [
    (f, name)
    for f, arms in GROWTH.items()
    for name in arms
    if name != "native_scan" and not name.startswith("compiled")
]


def run(backend, arm, optimizer, workload, plan, order):
    loop = experiments._loop(backend, arm, optimizer, workload.widths, plan)
    data, rows = tuple(map(loop.load, workload.train)), loop.load(order)
    params = backend.runtime.params_from_numpy(workload.params)
    stages = list(loop.stages(loop.init(params), data, rows))
    state, losses = backend.runtime.wait(loop.run(loop.init(params), data, rows))
    compiled = backend.runtime.compilations()
    backend.runtime.wait(loop.run(loop.init(params), data, rows))
    return stages, experiments._numbers(backend, losses), state.params, backend.runtime.compilations() - compiled


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("framework", "name"), SINGLE)
def test_every_loop_trains_as_the_formula_does(framework, name, optimizer):
    if name in SLOW_TO_COMPILE or (name.startswith("compiled") and optimizer not in ("adam", "sgd")):
        pytest.skip("compiling takes many seconds; the same steps are tested uncompiled, and by the study")
    if ARMS[framework][name].takes == "folded" and optimizer != "adam":
        pytest.skip("only Adam has corrections to fold")
    backend, workload, plan = load_backend(framework), digits_linear(0, 1), make_plan()
    order = np.arange(STEPS)
    try:
        _, losses, params, compiled = run(backend, ARMS[framework][name], optimizer, workload, plan, order)
    except Skipped as reason:
        pytest.skip(str(reason))
    expected, end = formula.train(workload.params, workload.train, order, optimizer, plan.learning_rate)
    found = backend.runtime.params_to_numpy(params)
    # 5.3e-15 and 8.3e-17 were the worst seen.
    assert np.abs(losses - expected).max() < 5e-14
    assert all(np.abs(found[k][n] - leaf).max() < 1e-15 for k, layer in end.items() for n, leaf in layer.items())
    assert not compiled


@pytest.mark.parametrize("name", ["scan", "donated", "native_scan"])
def test_what_is_compiled_ahead_is_what_runs(name):
    backend, workload = load_backend("jax"), digits_linear(0, 1)
    loop = getattr(backend.loops, name)(backend.models.network((64, 10)), backend.optimizers.adam(1e-3))
    data, order = tuple(map(loop.load, workload.train)), loop.load(np.arange(STEPS))
    params = backend.runtime.params_from_numpy(workload.params)
    assert list(loop.stages(loop.init(params), data, order)) == ["trace", "lower", "compile"]
    state = backend.runtime.wait(loop.init(params))
    before = backend.runtime.compilations()
    backend.runtime.wait(loop.run(state, data, order))
    assert backend.runtime.compilations() == before


def test_the_whole_scan_is_one_function_in_what_xla_compiled():
    """Not a matter of time: XLA's own text says whether it took the loop as one call. A new version may not."""
    backend, workload = load_backend("jax"), digits_linear(0, 1)

    def compiled(name):
        loop = getattr(backend.loops, name)(backend.models.network((64, 10)), backend.optimizers.adam(1e-3))
        data, order = tuple(map(loop.load, workload.train)), loop.load(np.arange(STEPS))
        params = backend.runtime.params_from_numpy(workload.params)
        text = loop.run.lower(loop.init(params), data, order).compile().as_text()
        return text[text.index("ENTRY") :]

    assert "while(" in compiled("scan")
    assert "while(" not in compiled("native_scan")
    assert "xla_cpu_small_call" in compiled("native_scan")


@pytest.mark.parametrize("sweep", ["many", "in_turn"])
def test_many_runs_are_the_runs_one_by_one(sweep):
    backend, workload = load_backend("jax"), digits_linear(0, 1)
    loop = backend.loops.scan(backend.models.network((64, 10)), backend.optimizers.adam(1e-3))
    together = getattr(backend.sweep, sweep)(loop)
    data, order = tuple(map(loop.load, workload.train)), loop.load(np.arange(STEPS))
    drawn = [draw_params((64, 10), seed) for seed in range(3)]
    _, losses = together.run(together.init(backend.runtime.params_from_numpy(stack_params(drawn))), data, order)
    for params, mine in zip(drawn, losses, strict=True):
        _, alone = loop.run(loop.init(backend.runtime.params_from_numpy(params)), data, order)
        assert np.abs(np.asarray(mine - alone)).max() < 7e-14  # 7.1e-15 was the worst seen


def test_windows_of_four_steps_are_four_steps():
    backend, workload = load_backend("torch"), digits_linear(0, 1)
    model, pure = backend.models.network((64, 10)), backend.functional.FUNCTIONAL["adam"](1e-3)
    loops = backend.compiled_loops
    four = loops._pure_loop(model, pure, loops._steps(model, pure, 4), 4, compiles=False)
    data = tuple(map(four.load, workload.train))
    params = backend.runtime.params_from_numpy(workload.params)
    _, losses = four.run(four.init(params), data, np.arange(STEPS))
    one = loops.functional(model, pure)
    _, expected = one.run(one.init(params), data, np.arange(STEPS))
    assert np.array_equal(losses.numpy(), expected.numpy())
    with pytest.raises(ValueError, match="10 steps are no multiple of 4"):
        four.run(four.init(params), data, np.arange(10))


@pytest.mark.parametrize("compiles", [False, True])
def test_what_a_cuda_graph_records_makes_the_steps(compiles):
    """Without a GPU the step is called where the graph would be replayed: the tape is the same."""
    backend, workload = load_backend("torch"), digits_linear(0, 1)
    model, pure = backend.models.network((64, 10)), backend.functional.FUNCTIONAL["adam"](1e-3)
    loops = backend.compiled_loops
    one = loops._steps(model, pure, 1)
    advance = loops._advance(torch.compile(one, fullgraph=True, dynamic=False) if compiles else one)
    loop = loops._recorded_loop(advance, model, pure, lambda advance, tape: partial(advance, tape))
    data, params = tuple(map(loop.load, workload.train)), backend.runtime.params_from_numpy(workload.params)
    for order in (np.arange(STEPS), np.arange(STEPS)[::-1].copy(), np.arange(3)):
        assert list(loop.stages(loop.init(params), data, order)) == ["compile"]
        state, losses = loop.run(loop.init(params), data, order)
        expected, end = formula.train(workload.params, workload.train, order, "adam", 1e-3)
        found = backend.runtime.params_to_numpy(state.params)
        assert np.abs(losses.numpy() - expected).max() < 5e-14
        assert all(np.abs(found[k][n] - leaf).max() < 1e-15 for k, layer in end.items() for n, leaf in layer.items())


@pytest.mark.parametrize("widths", [(64, 32, 10), (64, 16, 16, 10)])
@pytest.mark.parametrize(("framework", "name"), BATCHED)
def test_networks_in_batches_train_as_the_formula_does(framework, name, widths):
    backend, workload, size = load_backend(framework), digits_linear(0, 1), Size(widths, 8)
    plan, params = make_plan(), draw_params(widths, 0)
    order = np.random.default_rng(0).integers(0, 898, (STEPS, size.batch))
    try:
        loop = experiments._loop(backend, GROWTH[framework][name], "adam", widths, plan)
    except Skipped as reason:
        pytest.skip(str(reason))
    inputs, targets = experiments._scaled(workload)
    data, rows = (loop.load(inputs), loop.load(targets)), loop.load(order)
    _, losses = loop.run(loop.init(backend.runtime.params_from_numpy(params)), data, rows)
    expected, _ = formula.train(params, (inputs, targets), order, "adam", 1e-3)
    assert np.abs(experiments._numbers(backend, losses) - expected).max() < 4e-15  # 4.4e-16 was the worst seen


@pytest.fixture
def torch_in_float32():
    yield load_backend("torch", "float32")
    load_backend("torch")


def onednn_arm(backend, widths):
    """Return the growth curves' arm whose products are oneDNN's, or skip the test."""
    try:
        return experiments._loop(backend, GROWTH["torch"]["compiled_onednn"], "adam", widths, make_plan())
    except Skipped as reason:
        pytest.skip(str(reason))


def test_onednns_products_train_as_the_formula_does(torch_in_float32):
    backend, widths = torch_in_float32, (64, 32, 16, 10)
    loop, params = onednn_arm(backend, widths), draw_params(widths, 0)
    inputs, targets = experiments._scaled(digits_linear(0, 1))
    order = np.random.default_rng(0).integers(0, 898, (STEPS, 64))
    data, rows = (loop.load(inputs), loop.load(targets)), loop.load(order)
    drawn = backend.runtime.params_from_numpy(params)
    assert list(loop.stages(loop.init(drawn), data, rows)) == ["compile"]
    _, losses = loop.run(loop.init(drawn), data, rows)
    expected, _ = formula.train(params, (inputs, targets), order, "adam", 1e-3)
    assert np.abs(experiments._numbers(backend, losses) - expected).max() < 8e-6  # 8.7e-7 was measured


def test_onednns_gradient_is_that_of_linear(torch_in_float32):
    """With respect to kernel, bias and rows; the order of sums alone is another."""
    backend = torch_in_float32
    onednn_arm(backend, (64, 10))
    draw = np.random.default_rng(0).standard_normal
    x, w, b, slope = (backend.runtime.from_numpy(draw(shape)) for shape in ((300, 200), (70, 200), 70, (300, 70)))
    leaves = [leaf.requires_grad_() for leaf in (x, w, b)]
    found = [
        torch.autograd.grad(f(*leaves), leaves, slope) for f in (backend.onednn.affine, torch.nn.functional.linear)
    ]
    for one, other in zip(*found, strict=True):
        assert (one - other).abs().max() / other.abs().max() < 4e-6  # 5.3e-7 was measured


def test_onednn_is_left_out_by_name_where_it_is_not():
    backend = load_backend("torch")
    with pytest.raises(NotImplementedError, match="float32 on a CPU alone"):
        backend.models.onednn_network((64, 10))


GROWN = make_plan(studies=("loops",), optimizers=("adam",), dtype="float32", profile="default")
LARGEST = Size((64, 1024, 1024, 10), 1024)


def grown(**torch_arms):
    """Return the study's rows for arms at the largest size, each by its time in seconds or the word of its status."""
    facts = {"study": "loops", "environment": "", "group": "g", "stages": {"import": 1.0}}
    name = next(n for n, size in experiments.growth_sizes(GROWN).items() if size == LARGEST)
    value = {"distance": 0.0, "beginning": 0.0, "last_loss": 1.0}
    arms = [("jax", "transposing_scan", 1.0), *(("torch", arm, took) for arm, took in torch_arms.items())]
    records = [
        Record(subject=name, framework=f, method=arm, status="ok", value=value, samples=(took,) * 10, **facts)
        if isinstance(took, float)
        else Record(subject=name, framework=f, method=arm, status=took, reason="it is not here", **facts)
        for f, arm, took in arms
    ]
    products = {("jax", "matrix_product"): 1.0, ("torch", "matrix_product"): 2.0, ("torch", "onednn_product"): 1.1}
    probes = [
        Record(
            subject="calibration",
            framework=f,
            method=probe,
            status="ok",
            value={"amount": 1.0},
            samples=(took,) * 10,
            **facts,
        )
        for (f, probe), took in products.items()
    ]
    return study.rows([*records, *probes], GROWN)


@pytest.mark.parametrize(
    ("torch_arms", "best"),
    [
        ({"fused": 3.0, "compiled": 2.5, "compiled_onednn": 1.5}, 1.5),
        ({"fused": 3.0, "compiled": 2.5, "compiled_onednn": "skipped"}, 2.5),
        ({"fused": 3.0, "compiled": 2.5, "compiled_onednn": "failed"}, None),
        ({"fused": 3.0, "compiled": 2.5}, None),
        ({"fused": 3.0, "compiled_onednn": 1.5}, None),
    ],
)
def test_best_is_compared_where_all_that_may_be_best_was_tried_or_cannot_run(torch_arms, best):
    rows = grown(**torch_arms)
    (row,) = (r for r in rows if r["kind"] == "ratio")
    assert (row["best_ratio"] and row["best_ratio"].value) == best
    said = study.verdict(rows, GROWN)
    assert ("PyTorch over JAX is" in said) == (best is not None)


def test_the_ratio_of_products_is_that_of_the_quickest_libraries():
    rows = grown(fused=3.0, compiled=2.5, compiled_onednn="skipped")
    (row,) = (r for r in rows if r["kind"] == "product")
    assert row["ratio"].value == pytest.approx(1.1)
    assert "of a large matrix product alone it is 1.10" in study.verdict(rows, GROWN)
    growth = next(t for t in study.tables(rows, GROWN) if t.title.startswith("Growth"))
    assert any("products by oneDNN: skipped, it is not here." in note for note in growth.notes)


def test_the_formulas_gradient_is_that_of_central_differences():
    generator = np.random.default_rng(0)
    leaves = {(k, n): leaf for k, layer in draw_params((5, 4, 3), 0).items() for n, leaf in layer.items()}
    x, targets = generator.standard_normal((6, 5)), generator.integers(0, 3, 6)
    _, slopes = formula.loss_and_gradient(leaves, x, targets)
    for path, leaf in leaves.items():
        direction = generator.standard_normal(leaf.shape)
        ends = [formula.loss_and_gradient(leaves | {path: leaf + h * direction}, x, targets)[0] for h in (1e-5, -1e-5)]
        assert (ends[0] - ends[1]) / 2e-5 == pytest.approx((slopes[path] * direction).sum(), abs=1e-9)


def test_flops_are_those_of_the_products():
    # Forward 2 b (64 w + 10 w); backward twice that, but for the gradient with respect to the inputs.
    assert Size((64, 256, 10), 4).flops == 2 * 4 * (3 * (64 * 256 + 256 * 10) - 64 * 256)
    assert Size((64, 256, 10), 4).parameters == 65 * 256 + 257 * 10


def test_a_laps_steps_are_many_on_a_gpu_but_no_more_than_their_formula_can_follow():
    for sizes in curves("full", "gpu").values():
        assert all(8 <= size.steps("gpu") <= 256 for size in sizes)
        assert all(size.steps("gpu") >= size.steps("cpu") >= 3 for size in sizes)
        assert all(size.steps("gpu") * size.flops <= max(2e10, 8 * size.flops) for size in sizes)
    assert (Size((64, 256, 10), 1024).steps("cpu"), Size((64, 256, 10), 1024).steps("gpu")) == (4, 241)


def test_curves_reach_from_end_to_end_in_default():
    for name, sizes in curves("default", "cpu").items():
        assert (sizes[0], sizes[-1]) == (CURVES[name][0], CURVES[name][-1])


def test_on_a_gpu_the_largest_size_is_one_that_fills_it_and_scans_are_unrolled_where_that_may_pay():
    for profile in ("default", "full"):
        plan = make_plan(studies=("loops",), device="gpu", profile=profile)
        grown = [group for group in study.groups(plan) if group.cases[0].subject in experiments.growth_sizes(plan)]
        assert grown[-1].cases[0].subject == "64-2048-2048-10 x 2048"
        unrolled = [case.subject for group in grown for case in group.cases if case.method == "unrolled_scan"]
        assert {"64-256-10 x 1", "64-1-10 x 256"} <= set(unrolled)
        assert all(experiments.growth_sizes(plan)[name].flops < 5e5 for name in unrolled)


@pytest.mark.parametrize("framework", ["jax", "torch"])
@pytest.mark.parametrize("name", timer.DECEIVERS)
def test_the_timer_is_not_deceived(framework, name):
    backend = load_backend(framework)
    try:
        said = timer.attempt(backend, name)
    except Skipped as reason:
        pytest.skip(str(reason))
    words = {"asynchronous": "dispatch", "recompiling": "compiled anew", "not_returned": "returned nothing"}
    assert words[name] in said


def test_a_planted_error_is_found_and_its_time_is_not_shown():
    plan = make_plan(studies=("loops",), optimizers=("sgd",), dtype="float32")
    facts = {"study": "loops", "subject": "sgd", "framework": "jax", "group": "g", "environment": "", "status": "ok"}
    value = {"distance": 1e-2, "beginning": 0.0, "last_loss": 1.0}
    wrong = Record(method="scan", value=value, samples=(1.0, 1.0), stages={"import": 1.0}, **facts)
    (finding,) = study.findings([wrong], plan)
    assert finding.agrees is False
    (table,) = study.tables(study.rows([wrong], plan), plan)
    assert "DISAGREES" in table.rows[0][1]
    assert not any("1.00 s" in cell for cell in table.rows[0][2:])


STEADY, UNSTEADY = (1.0, 1.01, 0.99, 1.0, 1.0) * 2, (1.0, 1.5, 0.8, 1.2, 1.0) * 2
VAGUE = (1.5, 1.0, 1.0, 1.0, 1.0) * 2  # no spread between its quartiles, but its median is not sure
OPERATORS = "operator_by_operator"
SLOWED = (1.0, 2.0, 2.0, 1.0, 1.0) * 2  # by the machine, in whole turns


SGD = make_plan(studies=("loops",), optimizers=("sgd",), dtype="float32")


def rows_of_scan(*groups, paces=None, compile_seconds=0.0):
    """Return the study's rows for arms of SGD's ladder, by their samples in each group, and the row of `scan`."""
    facts = {"study": "loops", "subject": "sgd", "environment": "", "status": "ok"}
    value = {"distance": 0.0, "beginning": 0.0, "last_loss": 1.0}
    records = [
        Record(
            framework=framework,
            method=name,
            group=group,
            value=value,
            samples=tuple(samples),
            stages={"import": 1.0, "compile": compile_seconds if name == "scan" else 0.0},
            paces=(paces or {}).get(group, ()),
            **facts,
        )
        for group, arms in zip("gh", groups, strict=False)
        for (framework, name), samples in arms.items()
    ]
    rows = study.rows(records, SGD)
    return rows, next(r for r in rows if r["arm"] == "scan")


@pytest.mark.parametrize(
    ("notebook", "scan", "limit", "marks"),
    [
        (STEADY, STEADY, STEADY, (False, False)),
        (UNSTEADY, STEADY, STEADY, (True, False)),
        (STEADY, STEADY, UNSTEADY, (False, True)),
        (STEADY, UNSTEADY, STEADY, (True, True)),
        (VAGUE, STEADY, STEADY, (True, False)),
        (SLOWED, SLOWED, STEADY, (False, True)),
    ],
)
def test_a_ratio_is_unstable_where_it_changes_from_turn_to_turn(notebook, scan, limit, marks):
    rows, row = rows_of_scan({("torch", "notebook"): notebook, ("jax", "scan"): scan, ("c", "c_fast_math"): limit})
    assert (row["notebook_unstable"], row["limit_unstable"]) == marks
    (table,) = study.tables(rows, SGD)
    cells = next(cells for cells in table.rows if "the run in lax.scan" in cells[0])
    assert tuple("unstable" in cell for cell in cells[6:8]) == marks


def test_a_ratio_is_unstable_where_its_arm_varies_by_the_process():
    rows, row = rows_of_scan({("torch", "notebook"): STEADY, ("jax", "scan"): STEADY, ("jax", OPERATORS): STEADY})
    without_jit = next(r for r in rows if r["arm"] == OPERATORS)
    assert (row["notebook_unstable"], without_jit["notebook_unstable"]) == (False, True)


def test_the_turns_of_all_ladders_lie_over_the_same_time():
    groups = study.groups(make_plan(studies=("loops",)))
    ladders = [group for group in groups if group.cases[0].subject in OPTIMIZERS]
    assert len(ladders) == 1
    assert {case.subject for case in ladders[0].cases} == set(OPTIMIZERS)


def test_a_ratio_is_unstable_where_the_machine_was_slowed():
    arms = {("torch", "notebook"): STEADY, ("jax", "scan"): STEADY}
    other = {("jax", "many"): STEADY}
    paces = {"g": (1.5,) * 10, "h": (1.0,) * 10}
    rows, row = rows_of_scan(arms, other, paces=paces)
    assert (row["notebook_unstable"], row["slow_machine"]) == (True, True)
    assert "slow" in next(cells for cells in study.tables(rows, SGD)[0].rows if "the run in lax.scan" in cells[0])[5]
    _, row = rows_of_scan(arms, other, paces=dict.fromkeys(paces, (1.0,) * 10))
    assert (row["notebook_unstable"], row["slow_machine"]) == (False, False)


def test_what_was_not_measured_in_the_same_turns_has_no_ratio():
    _, row = rows_of_scan({("jax", "scan"): STEADY}, {("torch", "notebook"): STEADY})
    assert (row["notebook_over_it"], row["notebook_unstable"]) == (None, False)


def test_an_arm_that_is_quicker_in_each_turn_pays_though_the_medians_say_otherwise():
    """The machine has two paces, and the two odd turns put the medians on either side."""
    turns = np.array([1.0] * 6 + [1.7] * 7)
    donated = 1.02 * turns
    donated[6:8] = 1.0, 1.0
    _, row = rows_of_scan({("jax", "donated"): donated, ("jax", "scan"): turns}, compile_seconds=3.4)
    assert np.median(donated) < np.median(turns)
    assert row["break_even"] == {"than": "donated", "steps": 170}


def test_an_implementation_that_a_device_has_not_is_named_before_it_is_used(monkeypatch):
    """PyTorch makes a fused Adagrad for a GPU, and refuses its first step."""

    class Adagrad(torch.optim.Adagrad):
        def step(self, closure=None):
            raise RuntimeError("`fused=True` requires all the params to be floating point Tensors of supported devices")

    monkeypatch.setattr(torch.optim, "Adagrad", Adagrad)
    optimizers = load_backend("torch").optimizers
    with pytest.raises(NotImplementedError, match="no fused implementation for cpu"):
        optimizers.implementation(optimizers.adagrad(0.01), "fused")


@pytest.mark.parametrize("name", ["adam", "rmsprop", "adagrad"])
def test_torchs_optimizers_have_their_buffers_before_the_first_step(name):
    backend, workload = load_backend("torch"), digits_linear(0, 1)
    loop = backend.loops.prepared(backend.models.network(workload.widths), backend.optimizers.OPTIMIZERS[name](1e-3))
    state = loop.init(backend.runtime.params_from_numpy(workload.params))
    before = {id(leaf) for buffers in state.optimizer.state.values() for leaf in buffers.values()}
    assert before
    assert all(not leaf.any() for buffers in state.optimizer.state.values() for leaf in buffers.values())
    state, _ = loop.run(state, tuple(map(loop.load, workload.train)), np.arange(1))
    assert {id(leaf) for buffers in state.optimizer.state.values() for leaf in buffers.values()} == before


@pytest.mark.parametrize(
    "optimizer",
    [
        partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.1),
        partial(torch.optim.Adam, lr=1e-3, weight_decay=0.1, amsgrad=True),
        partial(torch.optim.RMSprop, lr=1e-3, weight_decay=0.1, momentum=0.9, centered=True),
        partial(torch.optim.SGD, lr=1e-3, weight_decay=0.1, momentum=0.9, dampening=0.5),
        partial(torch.optim.NAdam, lr=1e-3),
    ],
)
def test_any_optimizer_trains_as_in_a_loop_of_torchs_own(optimizer):
    backend, workload = load_backend("torch"), digits_linear(0, 1)
    loop = backend.loops.notebook(backend.models.network(workload.widths), optimizer)
    params = backend.runtime.params_from_numpy(workload.params)
    state, losses = loop.run(loop.init(params), workload.train, np.arange(STEPS))
    model = backend.models.network(workload.widths)
    model.load_state_dict(params)
    own, expected = optimizer(model.parameters()), []
    for row in range(STEPS):
        inputs, targets = (backend.runtime.from_numpy(array[row]) for array in workload.train)
        own.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        own.step()
        expected.append(loss.item())
    assert np.array_equal(losses, expected)
    assert all(torch.equal(leaf, state.params[name]) for name, leaf in model.named_parameters())


def test_the_fewest_steps_tell_an_adam_without_moments(monkeypatch):
    size = min((s for sizes in CURVES.values() for s in sizes), key=lambda size: (size.steps("cpu"), size.flops))
    workload = digits_linear(0, 1)
    params, order = draw_params(size.widths, 0), experiments._growth_order(size, workload, make_plan())
    losses, _ = formula.train(params, experiments._scaled(workload), order, "adam", 1e-3)

    def forgetful(g, m, v, t):
        return formula._adam(g, 0 * m, 0 * v, t)

    monkeypatch.setitem(formula.RULES, "adam", forgetful)
    wrong, _ = formula.train(params, experiments._scaled(workload), order, "adam", 1e-3)
    assert stats.scaled_distance(wrong, losses) > 2 * GROWTH_BOUNDS["float32"].bound

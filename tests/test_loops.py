"""Every way to loop makes the same steps, and none compiles in its samples."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from jaxopt_study import verdict
from jaxopt_study.backends.numpy import training as formula
from jaxopt_study.bench import stats, timing
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.task import Skipped, single
from jaxopt_study.data.networks import Dense
from jaxopt_study.data.workload import Workload, draw_params, stack_params
from jaxopt_study.data.workloads import breast_cancer_standardized, digits_linear
from jaxopt_study.studies import experiment, registry
from jaxopt_study.studies.loops.calibration import Calibration
from jaxopt_study.studies.loops.growth import Growth, training_of
from jaxopt_study.studies.loops.ladder import Ladder
from jaxopt_study.studies.loops.methods import METHODS, make_loop, numbers
from jaxopt_study.studies.loops.sizes import CANDIDATES, CURVES, USUAL, Size, curves, sizes
from jaxopt_study.studies.tolerances import GROWTH as GROWTH_BOUNDS
from tests.conftest import load_backend, make_plan

OPTIMIZERS = ("adam", "rmsprop", "sgd", "adagrad")
SLOW_TO_COMPILE = ("compiled_four", "compiled_thirty_two")
STEPS = 24
SINGLE = [
    (f, name) for f, mine in METHODS.items() for name, method in mine.items() if method.ladder and not method.sweep
]
ON_CURVES = {
    (f, name)
    for by_framework in CANDIDATES.values()
    for f, mine in by_framework.items()
    for name in (USUAL[f], *(candidate.method for candidate in mine))
}
BATCHED = sorted((f, name) for f, name in ON_CURVES if name != "native_scan" and not name.startswith("compiled"))


def made_loop(backend, method, optimizer, network, plan):
    framework = next(f for f, mine in METHODS.items() if method in mine.values())
    loss = None if framework == "c" else backend.models.cross_entropy
    return make_loop(backend, framework, method, optimizer, network, loss, plan)


def run(backend, method, optimizer, workload, plan, order):
    loop = made_loop(backend, method, optimizer, workload.network, plan)
    data, rows = tuple(map(loop.load, workload.train)), loop.load(order)
    params = backend.runtime.params_from_numpy(workload.params)
    stages = list(loop.stages(loop.init(params), data, rows))
    state, losses = backend.runtime.wait(loop.run(loop.init(params), data, rows))
    compiled = backend.runtime.compilations()
    backend.runtime.wait(loop.run(loop.init(params), data, rows))
    return stages, numbers(backend, losses), state.params, backend.runtime.compilations() - compiled


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("framework", "name"), SINGLE)
def test_every_loop_trains_as_the_formula_does(framework, name, optimizer):
    if name in SLOW_TO_COMPILE or (name.startswith("compiled") and optimizer not in ("adam", "sgd")):
        pytest.skip("compiling takes many seconds; the same steps are tested uncompiled, and by the study")
    if METHODS[framework][name].only not in (None, optimizer):
        pytest.skip("only Adam has corrections to fold")
    backend, workload, plan = load_backend(framework), digits_linear(0, 1), make_plan()
    order = np.arange(STEPS)
    try:
        _, losses, params, compiled = run(backend, METHODS[framework][name], optimizer, workload, plan, order)
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


def test_the_native_scan_is_one_function_in_what_xla_compiled(optimized):
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


@pytest.mark.parametrize("sweep", ["vmapped", "sequential"])
def test_runs_of_a_sweep_are_the_runs_one_by_one(sweep):
    backend, workload = load_backend("jax"), digits_linear(0, 1)
    loop = backend.loops.scan(backend.models.network((64, 10)), backend.optimizers.adam(1e-3))
    together = getattr(backend.sweep, sweep)(loop)
    data, order = tuple(map(loop.load, workload.train)), loop.load(np.arange(STEPS))
    drawn = [draw_params((64, 10), seed) for seed in range(3)]
    _, losses = together.run(together.init(backend.runtime.params_from_numpy(stack_params(drawn))), data, order)
    for params, mine in zip(drawn, losses, strict=True):
        _, alone = loop.run(loop.init(backend.runtime.params_from_numpy(params)), data, order)
        assert np.abs(np.asarray(mine - alone)).max() < 7e-14  # 7.1e-15 was the worst seen


def test_windows_of_four_steps_are_four_steps(monkeypatch):
    """As called from Python, without compiling."""
    monkeypatch.setattr(torch, "compile", lambda function, **options: lambda *arguments: function(*arguments))
    backend, workload = load_backend("torch"), digits_linear(0, 1)
    model, pure = backend.models.network((64, 10)), backend.functional.FUNCTIONAL["adam"](1e-3)
    loops = backend.compiled_loops
    four = loops.compiled_four(model, pure)
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
    one = loops.pure_steps(model, pure, 1)
    if compiles:
        one = torch.compile(one, fullgraph=True, dynamic=False)
    loop = loops.recorded_loop(one, model, pure, lambda advance, tape: partial(advance, tape))
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
    backend, plan = load_backend(framework), make_plan()
    try:
        loop = made_loop(backend, METHODS[framework][name], "adam", Dense(widths), plan)
    except Skipped as reason:
        pytest.skip(str(reason))
    params, (inputs, targets), order = training_of(Size(widths, 8), digits_linear(0, 1), plan)
    data, rows = (loop.load(inputs), loop.load(targets)), loop.load(order[:STEPS])
    _, losses = loop.run(loop.init(backend.runtime.params_from_numpy(params)), data, rows)
    expected, _ = formula.train(params, (inputs, targets), order[:STEPS], "adam", 1e-3)
    assert np.abs(numbers(backend, losses) - expected).max() < 4e-15  # 4.4e-16 was the worst seen


@pytest.fixture
def torch_in_float32():
    yield load_backend("torch", "float32")
    load_backend("torch")


def onednn_loop(backend, widths):
    """Return the growth curves' loop whose products are oneDNN's, or skip the test."""
    try:
        return made_loop(backend, METHODS["torch"]["compiled_onednn"], "adam", Dense(widths), make_plan())
    except Skipped as reason:
        pytest.skip(str(reason))


def test_onednns_products_train_as_the_formula_does(torch_in_float32):
    backend, size = torch_in_float32, Size((64, 32, 16, 10), 64)
    loop = onednn_loop(backend, size.widths)
    params, (inputs, targets), order = training_of(size, digits_linear(0, 1), make_plan())
    data, rows = (loop.load(inputs), loop.load(targets)), loop.load(order[:STEPS])
    drawn = backend.runtime.params_from_numpy(params)
    assert list(loop.stages(loop.init(drawn), data, rows)) == ["compile"]
    _, losses = loop.run(loop.init(drawn), data, rows)
    expected, _ = formula.train(params, (inputs, targets), order[:STEPS], "adam", 1e-3)
    assert np.abs(numbers(backend, losses) - expected).max() < 8e-6  # 8.7e-7 was measured


def test_onednns_gradient_is_that_of_linear(torch_in_float32):
    """With respect to kernel, bias and rows; the order of sums alone is another."""
    backend = torch_in_float32
    onednn_loop(backend, (64, 10))
    draw = np.random.default_rng(0).standard_normal
    x, w, b, slope = (backend.runtime.from_numpy(draw(shape)) for shape in ((300, 200), (70, 200), 70, (300, 70)))
    leaves = [leaf.requires_grad_() for leaf in (x, w, b)]
    found = [
        torch.autograd.grad(f(*leaves), leaves, slope) for f in (backend.onednn.affine, torch.nn.functional.linear)
    ]
    for one, other in zip(*found, strict=True):
        assert (one - other).abs().max() / other.abs().max() < 4e-6  # 5.3e-7 was measured


def test_onednn_is_named_where_it_is_missing():
    backend = load_backend("torch")
    with pytest.raises(NotImplementedError, match="float32 on a CPU only"):
        backend.models.onednn_network((64, 10))


def a_record(case, samples=(1.0,) * 10, status="ok", **changes):
    """Return a record made by hand of a loop whose losses agree, or of one that was not measured."""
    facts = {"study": "loops", "environment": "", "group": "g", "status": status, "stages": {"import": 1.0}}
    facts |= dict(zip(("experiment", "subject", "framework", "method"), case, strict=True))
    if status == "ok":
        facts["value"] = {"distance": 0.0, "beginning": 0.0, "last_loss": 1.0, "trained_on": "digits"}
        facts["samples"] = tuple(samples)
    return Record(**(facts | changes))


GROWN = make_plan(studies=("loops",), optimizers=("adam",), dtype="float32", profile="default")
LARGEST = Size((64, 1024, 1024, 10), 1024)
EAGER = {"fused": 3.0, "fused_onednn": 2.7}


def grown(**torch_methods):
    """Return the results at the largest size, for methods by their time in seconds or the word of their status."""
    records = [a_record(("growth", LARGEST.name, "jax", "transposing_scan"))]
    for name, took in torch_methods.items():
        case = ("growth", LARGEST.name, "torch", name)
        timed = isinstance(took, float)
        records.append(a_record(case, (took,) * 10) if timed else a_record(case, status=took, reason="it is not here"))
    products = {("jax", "matrix_product"): 1.0, ("torch", "matrix_product"): 2.0, ("torch", "onednn_product"): 1.1}
    records += [
        a_record(("calibration", "machine", *probe), (took,) * 10, value={"amount": 1.0})
        for probe, took in products.items()
    ]
    return verdict.evaluate(records, GROWN)


@pytest.mark.parametrize(
    ("torch_methods", "ratio", "missing"),
    [
        (EAGER | {"compiled": 2.5, "compiled_onednn": 1.5}, 1.5, []),
        (EAGER | {"fused_onednn": "skipped", "compiled": 2.5, "compiled_onednn": "skipped"}, 2.5, []),
        (EAGER | {"compiled": 2.5, "compiled_onednn": "failed"}, 2.5, ["compiled_onednn (failed)"]),
        (EAGER | {"compiled": 2.5}, 2.5, ["compiled_onednn"]),
        (EAGER | {"compiled_onednn": 1.5}, 1.5, ["compiled"]),
        (EAGER | {"fused_onednn": 1.7}, 1.7, ["compiled", "compiled_onednn"]),
        ({"fused": 3.0}, 3.0, ["fused_onednn", "compiled", "compiled_onednn"]),
        ({"prepared": 3.0}, None, ["fused", "fused_onednn", "compiled", "compiled_onednn"]),
    ],
)
def test_the_fastest_methods_are_compared_and_candidates_without_a_time_are_named(torch_methods, ratio, missing):
    rows = Growth().rows(grown(**torch_methods), GROWN)
    (row,) = (r for r in rows if r["table"] == "sizes")
    assert (row["fastest_ratio"] and row["fastest_ratio"].value, row["not_measured"]) == (ratio, missing)
    (line,) = Growth().tables(rows, GROWN)[0].rows
    assert line[5] == (", ".join(missing) or "-")
    said = Growth().verdict(rows, GROWN)
    assert (f"{ratio:.2f}" in said) if ratio else not said
    assert all(name in said for name in missing) or not ratio


def test_a_withheld_candidate_is_not_the_fastest():
    results = grown(**EAGER, compiled=2.5, compiled_onednn=1.5)
    wrong = [
        replace(r, value=r.value | {"distance": 1.0}) if r.method == "compiled_onednn" else r for r in results.records
    ]
    row = Growth().rows(verdict.evaluate(wrong, GROWN), GROWN)[0]
    assert (row["fastest_ratio"].value, row["not_measured"]) == (2.5, ["compiled_onednn (withheld)"])


def test_the_ratio_of_products_is_that_of_the_fastest_libraries():
    results = grown(fused=3.0, compiled=2.5, compiled_onednn="skipped")
    rows = Calibration().rows(results, GROWN)
    (ratio,) = (row["torch_over_jax"] for row in rows if row["torch_over_jax"])
    assert ratio.value == pytest.approx(1.1)
    assert "JAX's for a large matrix product: 1.10" in Calibration().verdict(rows, GROWN)
    growth = Growth().tables(Growth().rows(results, GROWN), GROWN)[0]
    assert any(
        "it is not here (PyTorch: model and optimizer compiled, products by oneDNN)" in n for n in growth.reasons
    )


@pytest.mark.parametrize("profile", ["smoke", "default", "full"])
@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_every_size_has_a_candidate_of_each_framework_in_the_same_rounds(profile, device):
    plan = make_plan(studies=("loops",), device=device, profile=profile)
    groups = Growth().groups(plan)
    assert [group.cases[0].subject for group in groups] == list(sizes(plan))
    for group in groups:
        for framework, usual in USUAL.items():
            mine = [case.method for case in group.cases if case.framework == framework]
            assert mine[0] == usual
            assert {c.method for c in CANDIDATES[device][framework]} & set(mine)


def test_the_main_jobs_large_step_tries_the_faster_product_of_pytorch():
    """MKL's product takes twice oneDNN's time on an AMD processor with AVX-512: the ratio would be unfair without."""
    plan = make_plan(studies=("loops",), profile="default", overview=True)
    (group,) = Growth().groups(plan)
    assert {case.method for case in group.cases if case.framework == "torch"} == {"prepared", "fused", "fused_onednn"}


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
    for members in curves("full", "gpu").values():
        assert all(8 <= size.steps("gpu") <= 256 for size in members)
        assert all(size.steps("gpu") >= size.steps("cpu") >= 3 for size in members)
        assert all(size.steps("gpu") * size.flops <= max(2e10, 8 * size.flops) for size in members)
    assert (Size((64, 256, 10), 1024).steps("cpu"), Size((64, 256, 10), 1024).steps("gpu")) == (4, 241)


def test_curves_reach_from_end_to_end_in_default():
    for name, members in curves("default", "cpu").items():
        assert (members[0], members[-1]) == (CURVES[name][0], CURVES[name][-1])


def test_on_a_gpu_the_largest_size_is_one_that_fills_it_and_scans_are_unrolled_where_that_may_pay():
    for profile in ("default", "full"):
        plan = make_plan(studies=("loops",), device="gpu", profile=profile)
        groups = Growth().groups(plan)
        assert groups[-1].cases[0].subject == "64-2048-2048-10 x 2048"
        unrolled = [case.subject for group in groups for case in group.cases if case.method == "unrolled_scan"]
        assert {"64-256-10 x 1", "64-1-10 x 256"} <= set(unrolled)
        assert all(sizes(plan)[name].flops < 5e5 for name in unrolled)


TRAPS = {"asynchronous": (50_000, "dispatch"), "recompiling": (None, "compiled anew"), "not_returned": (600, "nothing")}


@pytest.mark.parametrize("framework", ["jax", "torch"])
@pytest.mark.parametrize("name", TRAPS)
def test_the_timer_refuses_a_trap(framework, name):
    backend, (amount, words) = load_backend(framework), TRAPS[name]
    try:
        kernel = getattr(backend.calibration, name)(*([] if amount is None else [amount]))
    except NotImplementedError as reason:
        pytest.skip(str(reason))
    task = single(kernel, lambda output: {} if output is None else {"size": np.ones(1)})
    stepper = timing.Stepper(task, backend.runtime)

    def measure():
        stepper.first()
        stepper.calibrate()
        stepper.sample()

    with pytest.raises(timing.InvalidTimingError, match=words):
        measure()


SGD = make_plan(studies=("loops",), optimizers=("sgd",), dtype="float32")


def test_a_planted_error_is_found_and_its_time_is_not_shown():
    value = {"distance": 1e-2, "beginning": 0.0, "last_loss": 1.0}
    wrong = a_record(("ladder", "sgd", "jax", "scan"), value=value)
    peer = a_record(("ladder", "sgd", "torch", "notebook"))
    results = verdict.evaluate([wrong, peer], SGD)
    assert results.withheld == {wrong.case}
    rows = Ladder().rows(results, SGD)
    (table,) = Ladder().tables(rows, SGD)
    line = next(line for line in table.rows if line[1] == "scan")
    assert "DISAGREES" in line[2]
    assert not any("1.00 s" in cell for cell in line)
    assert any("1.00 s" in cell for line in table.rows if line[1] == "notebook" for cell in line)


@pytest.mark.parametrize("changes", [{"learning_rate": 0.1}, {"workload": "breast-cancer-raw"}])
def test_away_from_the_pinned_plan_only_the_first_steps_are_compared(changes):
    value = {"distance": 1e-2, "beginning": 0.0, "last_loss": 1.0}
    record = a_record(("ladder", "sgd", "jax", "scan"), value=value)
    (finding,) = Ladder().findings([record], replace(SGD, **changes))
    assert finding.agrees
    wrong = replace(record, value=value | {"beginning": 1e-2})
    (finding,) = Ladder().findings([wrong], replace(SGD, **changes))
    assert finding.agrees is False


IRIS = Workload(
    "iris",
    Dense((4, 3)),
    *[(np.random.default_rng(0).random((150, 4)), np.arange(150) % 3)] * 2,
    draw_params((4, 3), 0),
    np.tile(np.arange(150), (1, 1)),
)
BARE = "an optimizer of training bounds alone"


@pytest.fixture
def bare(monkeypatch):
    """Register an optimizer that has nothing but the bounds of its training."""
    training = registry.OPTIMIZERS["sgd"].training
    monkeypatch.setitem(registry.OPTIMIZERS, BARE, registry.Optimizer(training=training))
    for framework in ("jax", "torch"):
        optimizers = load_backend(framework).optimizers
        monkeypatch.setitem(optimizers.OPTIMIZERS, BARE, optimizers.momentum)
    return BARE


def outcomes(plan, workload):
    """Return for each of the plan's cases the reason why it is skipped, or None; nothing is compiled."""
    found = {}
    for group in [*Ladder().groups(plan), *Growth().groups(plan)]:
        for case in group.cases:
            try:
                experiment(case).task(load_backend(case.framework, plan.dtype), case, workload, plan)
                found[case] = None
            except Skipped as reason:
                found[case] = str(reason)
    return found


def test_what_an_optimizer_lacks_is_skipped_with_the_reason(bare):
    found = outcomes(make_plan(studies=("loops",), optimizers=(bare, "sgd")), digits_linear(0, 1))
    growth = {reason for case, reason in found.items() if case.experiment == "growth"}
    assert growth == {"this optimizer has no training by formula to compare with"}
    mine = {
        case.method: reason for case, reason in found.items() if (case.experiment, case.subject) == ("ladder", bare)
    }
    assert mine["functional"] == mine["compiled"] == "this optimizer has no functional form"
    assert "table's optimizers" in mine["c_strict"]
    assert {mine[name] for name in ("jitted", "scan", "native_scan", "vmapped", "notebook", "prepared")} == {None}
    assert not any(reason for case, reason in found.items() if (case.subject, case.framework) == ("sgd", "jax"))


def test_a_workload_of_fewer_rows_and_classes_is_trained_on_and_growth_has_random_rows():
    plan = make_plan(studies=("loops",), workload="iris", optimizers=("sgd",))
    found = outcomes(plan, IRIS)
    gpu = {"cuda_graph", "compiled_graph"}
    assert {case.method for case, reason in found.items() if reason} <= gpu
    case = next(case for case in found if (case.experiment, case.method) == ("growth", "donated"))
    task = experiment(case).task(load_backend("jax"), case, IRIS, plan)
    *_, output = task.run(task.start())
    kept = experiment(case).summarize(case, task.export(output), IRIS, plan)
    assert kept["trained_on"] == "random rows"
    assert kept["distance"] < GROWTH_BOUNDS["float64"].bound


def test_a_binary_workload_is_compared_with_the_usual_loop(backends):
    """There is no formula for its loss. Two loops give the same losses, and the record keeps what tells so."""
    plan = make_plan(studies=("loops",), workload="breast-cancer-standardized", optimizers=("sgd",))
    workload = replace(breast_cancer_standardized(0, 1), order=np.arange(40)[None])
    found = outcomes(plan, workload)
    assert {case.framework for case, reason in found.items() if reason and "loops in C" in reason} == {"c"}
    kept = {}
    for framework, method in (("jax", "jitted"), ("jax", "scan"), ("torch", "prepared")):
        case = next(c for c in found if (c.experiment, c.framework, c.method) == ("ladder", framework, method))
        task = experiment(case).task(backends[framework], case, workload, plan)
        *_, output = task.run(task.start())
        kept[method] = experiment(case).summarize(case, task.export(output), workload, plan)
    assert all(len(value["losses"]) == 40 for value in kept.values())
    assert 0 < np.abs(np.subtract(kept["jitted"]["losses"], kept["jitted"]["moved_losses"])).max() < 1e-14
    for method in ("scan", "prepared"):
        assert np.abs(np.subtract(kept[method]["losses"], kept["jitted"]["losses"])).max() < 4e-15


@pytest.mark.parametrize("epochs", [1, 6])
def test_a_lap_is_a_whole_number_of_calls(epochs):
    workload = replace(IRIS, order=np.tile(np.arange(150), (epochs, 1)))
    for name, method in METHODS["torch"].items():
        assert len(method.order(workload)) % method.window == 0, name
    with pytest.raises(Skipped, match="two calls of it are 64 steps, and a run of iris has 50"):
        METHODS["torch"]["compiled_thirty_two"].order(replace(IRIS, order=np.arange(50)[None]))


STEADY, UNSTEADY = (1.0, 1.01, 0.99, 1.0, 1.0) * 2, (1.0, 1.5, 0.8, 1.2, 1.0) * 2
VAGUE = (1.5, 1.0, 1.0, 1.0, 1.0) * 2  # no spread between its quartiles, but its median is not sure
SLOWED = (1.0, 2.0, 2.0, 1.0, 1.0) * 2  # by the machine, in whole rounds


def rows_of_scan(*groups, speeds=None, compile_seconds=0.0, **changes):
    """Return the rows and tables for methods of SGD's ladder, by their samples in each group, and the row of `scan`."""
    records = [
        a_record(
            ("ladder", "sgd", *method),
            samples,
            group=group,
            stages={"import": 1.0, "compile": compile_seconds if method[1] == "scan" else 0.0},
            machine_seconds=(speeds or {}).get(group, ()),
            varies_by_process=METHODS[method[0]][method[1]].varies_by_process,
        )
        for group, mine in zip("gh", groups, strict=False)
        for method, samples in mine.items()
    ]
    rows = Ladder().rows(verdict.evaluate(records, SGD), SGD)
    return rows, next(row for row in rows if row["method"] == "scan")


def unstable(ratio):
    return ratio is not None and ratio.unstable


def cells_of_scan(rows):
    (table,) = Ladder().tables(rows, SGD)
    return next(cells for cells in table.rows if cells[1] == "scan")


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
def test_a_ratio_is_unstable_where_it_changes_from_round_to_round(notebook, scan, limit, marks):
    rows, row = rows_of_scan({("torch", "notebook"): notebook, ("jax", "scan"): scan, ("c", "c_fast_math"): limit})
    assert (unstable(row["notebook_over_it"]), unstable(row["it_over_limit"])) == marks
    assert tuple("unstable" in cell for cell in cells_of_scan(rows)[7:9]) == marks


def test_a_ratio_is_unstable_where_its_method_varies_by_process():
    operators = ("jax", "operator_by_operator")
    rows, row = rows_of_scan({("torch", "notebook"): STEADY, ("jax", "scan"): STEADY, operators: STEADY})
    without_jit = next(r for r in rows if r["method"] == operators[1])
    assert (unstable(row["notebook_over_it"]), unstable(without_jit["notebook_over_it"])) == (False, True)


def test_a_method_that_varies_by_process_says_so_in_its_task():
    (group,) = Ladder().groups(SGD)
    backend, workload = load_backend("jax"), digits_linear(0, 1)
    case = next(case for case in group.cases if case.method == "operator_by_operator")
    other = next(case for case in group.cases if case.method == "scan")
    assert Ladder().task(backend, case, workload, SGD).varies_by_process
    assert not Ladder().task(backend, other, workload, SGD).varies_by_process


def test_the_rounds_of_all_ladders_lie_over_the_same_time():
    (group,) = Ladder().groups(make_plan(studies=("loops",)))
    assert {case.subject for case in group.cases} == set(OPTIMIZERS)


def test_a_ratio_is_unstable_where_the_machine_was_slowed():
    mine = {("torch", "notebook"): STEADY, ("jax", "scan"): STEADY}
    other = {("jax", "vmapped"): STEADY}
    speeds = {"g": (1.5,) * 10, "h": (1.0,) * 10}
    rows, row = rows_of_scan(mine, other, speeds=speeds)
    assert (unstable(row["notebook_over_it"]), row["slow_machine"]) == (True, True)
    assert "slow" in cells_of_scan(rows)[6]
    _, row = rows_of_scan(mine, other, speeds=dict.fromkeys(speeds, (1.0,) * 10))
    assert (unstable(row["notebook_over_it"]), row["slow_machine"]) == (False, False)


def test_what_was_not_measured_in_the_same_rounds_has_no_ratio():
    _, row = rows_of_scan({("jax", "scan"): STEADY}, {("torch", "notebook"): STEADY})
    assert row["notebook_over_it"] is None


def test_a_method_that_is_faster_in_each_round_pays_though_the_medians_say_otherwise():
    """The machine has two speeds, and the two odd rounds put the medians on either side."""
    rounds = np.array([1.0] * 6 + [1.7] * 7)
    donated = 1.02 * rounds
    donated[6:8] = 1.0, 1.0
    rows, row = rows_of_scan({("jax", "donated"): donated, ("jax", "scan"): rounds}, compile_seconds=3.4)
    assert np.median(donated) < np.median(rounds)
    assert row["break_even"] == {"than": "donated", "steps": 170}
    assert cells_of_scan(rows)[9] == "170 (donated)"


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
    size = min((s for members in CURVES.values() for s in members), key=lambda s: (s.steps("cpu"), s.flops))
    begin, adam = training_of(size, digits_linear(0, 1), make_plan()), formula.RULES["adam"]
    losses, _ = formula.train(*begin, "adam", 1e-3)
    monkeypatch.setitem(formula.RULES, "adam", lambda g, m, v, t: adam(g, 0 * m, 0 * v, t))
    wrong, _ = formula.train(*begin, "adam", 1e-3)
    assert stats.scaled_distance(wrong, losses) > 2 * GROWTH_BOUNDS["float32"].bound

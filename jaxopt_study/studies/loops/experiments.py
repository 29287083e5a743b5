"""Which loops are run, on what, and how each is held to training by formula."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxopt_study.data import problem as problems
from jaxopt_study.bench import stats
from jaxopt_study.backends.numpy import training as formula
from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.task import Skipped, Task, Value, single
from jaxopt_study.data.workload import Array, Workload, draw_params, ravel, stack_params
from jaxopt_study.studies.loops.arms import ARMS, BEST, GROWTH, OTHERS, SHORT, USUAL, Arm, Size, curves

FIRST_STEPS = 10
CALIBRATION = "calibration"
COMPILED = ("compiled", "compiled_onednn")
ONEDNN_PAYS = 2e7
"""FLOPs of a step. At 21 MFLOP (64-256-10 x 256) it is equal to `nn.Linear` on a Zen 5, at 83 a quarter quicker."""
UNROLLING_PAYS = 5e5
"""FLOPs of a step. On an H200 four steps a turn take 0.82 and 0.96 of the scan's time at 0.08 MFLOP, 1.01 at 0.65, 1.02
at 1.3 and up to 1.31 beyond, and XLA tunes every product anew for them: 1 to 11 s a size."""

PROBES = {
    "jax": ("empty_call", "empty_scan", "matrix_product", "transposed_product", "copy"),
    "torch": ("operator_call", "matrix_product", "onednn_product", "transposed_product", "copy"),
}


def groups(plan: Plan) -> list[Group]:
    """Return the ladders, all arms in turn; the machine's calibration; and the growth curves.

    The ladders are one group, so that the turns of each lie over the twelve seconds of all: a moment's neighbour on the
    same core else meets all of Adagrad's, which take two, and its ratios hold for that moment.
    """
    frameworks = (*plan.frameworks, "c")
    if plan.overview:
        return [Group(_ladder(plan.optimizers[0], SHORT, frameworks), (plan.repeats + 1) // 2)]
    full = {
        f: tuple(n for n, arm in arms.items() if plan.profile == "full" or not arm.full) for f, arms in ARMS.items()
    }
    ladders = [
        case
        for number, name in enumerate(plan.optimizers)
        for case in _ladder(name, OTHERS[plan.device] if number else full, frameworks)
    ]
    probes = tuple(Case("loops", CALIBRATION, f, probe) for f in plan.frameworks for probe in PROBES[f])
    growth = [Group(_growth(name, plan), _repeats(size, plan)) for name, size in growth_sizes(plan).items()]
    return [Group(tuple(ladders), plan.repeats, processes=_processes(plan)), Group(probes, plan.repeats), *growth]


def _processes(plan: Plan) -> int:
    """Return how many processes share the ladders' turns; a GPU's compile for a minute, and smoke is for seconds."""
    return 2 if plan.device == "cpu" and plan.profile != "smoke" else 1


def _repeats(size: Size, plan: Plan) -> int:
    """Return how many blocks of a size are measured: fewer where one takes a second."""
    return max(1, plan.repeats * 3 // 4 if size.flops < 1e9 else plan.repeats // 2)


def growth_sizes(plan: Plan) -> dict[str, Size]:
    """Return the sizes on the growth curves by their names."""
    sizes = (size for members in curves(plan.profile, plan.device).values() for size in members)
    return {problems.name_of(size.widths, size.batch): size for size in sizes}


def task(backend: Any, case: Case, workload: Workload, plan: Plan) -> Task:
    """Return a lap of a loop, from the initial parameters on, or a probe of the machine."""
    if case.subject == CALIBRATION:
        probe = _made(getattr(backend.calibration, case.method))
        return single(probe.run, lambda _: {"amount": np.array(probe.amount)})
    size = growth_sizes(plan).get(case.subject)
    if size is not None:
        return _growth_task(backend, case, size, workload, plan)
    arm = ARMS[case.framework][case.method]
    order, seeds = _order(arm, workload), range(plan.seed, plan.seed + arm.runs)
    loop = _loop(backend, arm, case.subject, workload.widths, plan)
    params = workload.params
    if arm.sweep:
        loop = getattr(backend.sweep, arm.sweep)(loop)
        params = stack_params([draw_params(workload.widths, seed) for seed in seeds])
    return _run(backend, loop, params, workload.train, order, steps=len(order) * arm.runs)


def summarize(case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
    """Keep how far the losses are from training by formula in float64, over all steps and over the first ones."""
    if case.subject == CALIBRATION:
        return {"amount": float(value["amount"])}
    size = growth_sizes(plan).get(case.subject)
    if size is not None:
        expected = _expected_growth(case.subject, workload, plan)
        losses = value["losses"]
    else:
        arm = ARMS[case.framework][case.method]
        losses = value["losses"][0] if arm.sweep else value["losses"]
        expected = _expected(case.subject, workload, plan)
    expected = expected[: len(losses)]
    return {
        "distance": stats.scaled_distance(losses, expected),
        "beginning": stats.scaled_distance(losses[:FIRST_STEPS], expected[:FIRST_STEPS]),
        "last_loss": float(losses[-1]),
    }


def _ladder(optimizer: str, arms: Mapping[str, Any], frameworks: tuple[str, ...]) -> tuple[Case, ...]:
    return tuple(
        Case("loops", optimizer, f, name)
        for f in frameworks
        for name in arms[f]
        if ARMS[f][name].takes != "folded" or optimizer == "adam"
    )


def _growth(name: str, plan: Plan) -> tuple[Case, ...]:
    size = growth_sizes(plan)[name]
    return tuple(
        Case("loops", name, f, arm)
        for f in plan.frameworks
        for arm in (USUAL[f], *(_scans(size, plan) if f == "jax" else torch_arms(size, plan)))
        if arm not in COMPILED or name in _compiled_sizes(plan)
    )


def torch_arms(size: Size, plan: Plan) -> Sequence[str]:
    """Return those of PyTorch's arms that may be the best at a size: oneDNN's products are slower at small ones."""
    return [arm for arm in BEST[plan.device]["torch"] if arm != "compiled_onednn" or size.flops > ONEDNN_PAYS]


def _scans(size: Size, plan: Plan) -> Sequence[str]:
    """Return those of JAX's scans that may be the best at a size.

    In one function, picking each row's logit has a scatter for a gradient, unless there is one row. A transpose written
    out was worth its time on a CPU at every size with more; profile full shows the scan without it as well. On a GPU a
    scan is unrolled where that may pay.
    """
    if plan.device == "gpu":
        return [arm for arm in BEST["gpu"]["jax"] if arm != "unrolled_scan" or size.flops < UNROLLING_PAYS]
    if size.batch == 1:
        return ["scan", "native_scan"]
    return ["scan", "transposing_scan"] if plan.profile == "full" else ["transposing_scan"]


def _compiled_sizes(plan: Plan) -> set[str]:
    """Return the sizes that torch.compile is tried at: each takes it seconds, so in profile default some alone."""
    if plan.profile == "full":
        return set(growth_sizes(plan))
    members = curves(plan.profile, plan.device)
    if plan.profile == "smoke":
        return set()
    chosen = (members["batch"][0], members["width"][-1], members["work"][-1])
    return {problems.name_of(size.widths, size.batch) for size in chosen}


def _loop(backend: Any, arm: Arm, optimizer: str, widths: tuple[int, ...], plan: Plan) -> Any:
    """Return the backend's loop.

    Raises:
        Skipped: What it needs is not here.
    """
    if arm.cpu_only and plan.device != "cpu":
        raise Skipped("XLA makes a native function of a loop on a CPU alone")
    make = getattr(getattr(backend, arm.module), arm.function)
    if arm.takes == "name":
        return _made(lambda: make(optimizer, plan.learning_rate))
    rule, network = _rule(backend, arm, optimizer), getattr(backend.models, arm.network)
    return _made(lambda: make(network(widths), rule(plan.learning_rate)))


def _made(make: Callable[[], Any]) -> Any:
    """Return make(); where a backend says that something is not here, the case is skipped."""
    try:
        return make()
    except NotImplementedError as reason:
        raise Skipped(str(reason)) from None


def _rule(backend: Any, arm: Arm, optimizer: str) -> Any:
    if arm.takes == "folded":
        return backend.optimizers.folded_adam
    return (backend.functional.FUNCTIONAL if arm.takes == "pure" else backend.optimizers.OPTIMIZERS)[optimizer]


def _run(backend: Any, loop: Any, params: Any, train: tuple[Array, Array], order: Array, steps: int) -> Task:
    data, rows = tuple(loop.load(array) for array in train), loop.load(order)
    drawn = backend.runtime.params_from_numpy(params)

    def start() -> Any:
        return backend.runtime.wait(loop.init(drawn))

    def stages() -> Iterator[str]:
        return iter(loop.stages(start(), data, rows))

    def run(state: Any) -> Iterator[Any]:
        yield backend.runtime.wait(loop.run(state, data, rows))

    def export(output: Any) -> Value:
        state, losses = output
        return {
            "losses": _numbers(backend, losses),
            "params": ravel(backend.runtime.params_to_numpy(state.params)),
        }

    return Task(run, export, steps=steps, stages=stages, start=start)


def _numbers(backend: Any, losses: Any) -> Array:
    """Return losses, which a loop gives as one array of its framework or of NumPy, or as a list of scalars."""
    if isinstance(losses, list):
        return np.array([float(loss) for loss in losses])
    return np.asarray(losses if isinstance(losses, np.ndarray) else backend.runtime.to_numpy(losses), dtype=float)


def _growth_task(backend: Any, case: Case, size: Size, workload: Workload, plan: Plan) -> Task:
    arm = GROWTH[case.framework][case.method]
    loop = _loop(backend, arm, plan.optimizers[0], size.widths, plan)
    params, order = draw_params(size.widths, plan.seed), _growth_order(size, workload, plan)[: arm.steps]
    return _run(backend, loop, params, _scaled(workload), order, steps=len(order))


def _order(arm: Arm, workload: Workload) -> Array:
    return workload.order.ravel()[: arm.steps]


def _scaled(workload: Workload) -> tuple[Array, Array]:
    """Return the training rows with inputs from 0 to 1: raw pixels saturate tanh, and training is then chaotic."""
    inputs, targets = workload.train
    return inputs / np.abs(inputs).max(), targets


def _growth_order(size: Size, workload: Workload, plan: Plan) -> Array:
    """Return the rows of each step, (steps, batch), drawn evenly."""
    generator = np.random.default_rng(plan.seed)
    return generator.integers(0, len(workload.train[0]), (size.steps(plan.device), size.batch))


_CACHE: dict[Any, Array] = {}


def _expected(optimizer: str, workload: Workload, plan: Plan) -> Array:
    """Return the loss of each step of the whole run, by formula; it is computed once for all arms."""
    key = optimizer, plan.seed, plan.learning_rate, plan.epochs
    if key not in _CACHE:
        _CACHE[key], _ = formula.train(
            workload.params, workload.train, workload.order.ravel(), optimizer, plan.learning_rate
        )
    return _CACHE[key]


def _expected_growth(name: str, workload: Workload, plan: Plan) -> Array:
    key = name, plan.optimizers[0], plan.seed, plan.learning_rate
    if key not in _CACHE:
        size = growth_sizes(plan)[name]
        params, order = draw_params(size.widths, plan.seed), _growth_order(size, workload, plan)
        _CACHE[key], _ = formula.train(params, _scaled(workload), order, plan.optimizers[0], plan.learning_rate)
    return _CACHE[key]

"""The ways to loop, by the names of the backends' functions, and what the experiments on them share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxopt_study.backends import Backend
from jaxopt_study.bench import stats
from jaxopt_study.bench.case import Case, Plan
from jaxopt_study.bench.finding import Finding, compare
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.results import Results
from jaxopt_study.bench.task import Skipped, Task, Value
from jaxopt_study.data.networks import Dense, Network
from jaxopt_study.data.workload import Array, ParameterTree, Workload, ravel
from jaxopt_study.report.looks import LABELS
from jaxopt_study.studies import trained
from jaxopt_study.studies.experiment import Row, facts
from jaxopt_study.studies.optimizers import FIRST_STEPS
from jaxopt_study.studies.registry import OPTIMIZERS, row_of
from jaxopt_study.studies.tolerances import Bound, pinned
from jaxopt_study.studies.trained import Conversion

RUNS = 64
"""Networks that a sweep trains."""

WHOLE_RUN = 10**9
"""As many steps as the plan's epochs have."""
LONGEST = 100_000
"""Steps at most in a lap, however long an epoch or a run is: the same training by formula takes ten seconds."""
EPOCH = 0
"""As many steps as one epoch has."""
COMPILED = "compiled_loops"
"""The module of PyTorch's loops over pure steps, and of those that are compiled."""


@dataclass(frozen=True)
class Method:
    """A way to loop.

    Attributes:
        function: The backend's function that makes the loop.
        words: What a reader is told.
        steps: Steps in a lap, or `EPOCH`, or `WHOLE_RUN`: enough that what a run costs beside them is little.
        module: The backend's module that has the function.
        takes: What it takes: the backend's `optimizer`, a `pure` one of `functional`, a `folded` one, or the `name`.
        window: Steps of one call; a lap is a whole number of calls.
        network: The function of the backend's `models` that makes the network.
        sweep: The function of `sweep` that trains `RUNS` networks with the loop, if any.
        only: The one optimizer that it is for, if not for all.
        cpu_only: Whether it is a native function, as XLA makes of a loop on a CPU alone.
        full: Whether only the profile `full` has it, since it takes most of a minute to compile.
        ladder: Whether the ladder has it, and not the growth curves alone.
        simpler: The method of the same framework that is one simpler: this one must make up for compiling longer.
        varies_by_process: Whether its time is known to be another in another process: see `bench.task.Task`.
    """

    function: str
    words: str
    steps: int
    module: str = "loops"
    takes: str = "optimizer"
    window: int = 1
    network: str = "network"
    sweep: str | None = None
    only: str | None = None
    cpu_only: bool = False
    full: bool = False
    ladder: bool = True
    simpler: str | None = None
    varies_by_process: bool = False

    @property
    def runs(self) -> int:
        """How many networks are trained in a lap."""
        return RUNS if self.sweep else 1

    def order(self, workload: Workload) -> Array:
        """Return the row of each step in a lap.

        Raises:
            Skipped: The workload has fewer steps than two calls, of which the first compiles.
        """
        rows = workload.steps[: min(self.steps or workload.order.shape[1], LONGEST)]
        if len(rows) < 2 * self.window:
            raise Skipped(f"two calls of it are {2 * self.window} steps, and a run of {workload.name} has {len(rows)}")
        return rows[: len(rows) // self.window * self.window]


METHODS: dict[str, dict[str, Method]] = {
    "jax": {
        # 8.4 to 10.3 ms per step in 33 processes on one machine at its usual speed, where the IQR over the rounds of
        # each was 5 %.
        "operator_by_operator": Method("operator_by_operator", "no jit", 10, varies_by_process=True),
        "nnx_jitted": Method("nnx_jitted", "nnx.jit of the step", 56, simpler="operator_by_operator"),
        "jitted": Method("jitted", "jit of the step", 448, simpler="operator_by_operator"),
        "donated": Method("donated", "jit of the step, state donated", 448, simpler="jitted"),
        "epoch_scan": Method("scan", "an epoch in lax.scan", EPOCH, simpler="donated"),
        "scan": Method("scan", "the run in lax.scan", WHOLE_RUN, simpler="donated"),
        "unrolled_scan": Method("unrolled_scan", "the run in lax.scan, unroll=4", WHOLE_RUN, simpler="scan"),
        "flat_scan": Method("flat_scan", "the run in lax.scan, one vector", WHOLE_RUN, simpler="scan"),
        "native_scan": Method("native_scan", "one native function", WHOLE_RUN, cpu_only=True, simpler="scan"),
        "folded_scan": Method(
            "native_scan", "one native function, Adam's corrections folded", WHOLE_RUN,
            takes="folded", only="adam", cpu_only=True, simpler="native_scan",
        ),
        "vmapped": Method("scan", f"{RUNS} runs at once by vmap, per run", EPOCH, sweep="vmapped", simpler="scan"),
        "sequential": Method(
            "native_scan", f"{RUNS} runs one after the other in one program, per run", EPOCH,
            sweep="sequential", cpu_only=True, simpler="native_scan",
        ),
        "folded_sequential": Method(
            "native_scan", f"{RUNS} runs one after the other, corrections folded, per run", EPOCH,
            takes="folded", sweep="sequential", only="adam", cpu_only=True, simpler="folded_scan",
        ),
        "transposing_scan": Method(
            "scan", "the run in lax.scan, transposes written out", WHOLE_RUN,
            network="transposing_network", ladder=False,
        ),
    },
    "torch": {
        "functional": Method("functional", "torch.func step", 56, COMPILED, "pure"),
        "notebook": Method("notebook", "the notebook as written", 56),
        "prepared": Method("prepared", "rows prepared, no .item()", 56, simpler="notebook"),
        "foreach": Method("foreach", "rows prepared, foreach", 56, simpler="prepared"),
        "fused": Method("fused", "rows prepared, fused", 56, simpler="prepared"),
        "compiled_parts": Method("compiled_parts", "model and optimizer compiled", 56, COMPILED, simpler="prepared"),
        "compiled": Method("compiled", "torch.compile of the step", 112, COMPILED, "pure", simpler="functional"),
        "compiled_four": Method(
            "compiled_four", "torch.compile of 4 steps", 448, COMPILED, "pure", window=4, simpler="compiled"
        ),
        "compiled_thirty_two": Method(
            "compiled_thirty_two", "torch.compile of 32 steps", 448, COMPILED, "pure",
            window=32, full=True, simpler="compiled_four",
        ),
        "cuda_graph": Method("cuda_graph", "CUDA graph of the step", 448, COMPILED, "pure", simpler="functional"),
        "compiled_graph": Method(
            "compiled_graph", "CUDA graph of the compiled step", 448, COMPILED, "pure", simpler="compiled"
        ),
        "fused_onednn": Method(
            "fused", "rows prepared, fused, products by oneDNN", 56, network="onednn_network", ladder=False
        ),
        "compiled_onednn": Method(
            "compiled_parts", "model and optimizer compiled, products by oneDNN", 56, COMPILED,
            network="onednn_network", ladder=False,
        ),
    },
    "c": {
        "c_strict": Method("c_strict", "IEEE arithmetic", WHOLE_RUN, takes="name"),
        "c_fast_math": Method("c_fast_math", "-ffast-math -mno-recip", WHOLE_RUN, takes="name"),
        "c_apart": Method("c_apart", "-ffast-math -mno-recip, one loop per array", WHOLE_RUN, takes="name"),
    },
}  # fmt: skip

OutputLoss = Callable[[Any, Any], Any]
"""Of outputs and targets: one of a backend's `models`, or a user's."""


def make_loop(
    backend: Backend,
    framework: str,
    method: Method,
    optimizer: str,
    network: Network,
    output_loss: OutputLoss | None,
    plan: Plan,
) -> Any:
    """Return the backend's loop, a `training.Loop`; the loops in C have their own loss.

    Raises:
        Skipped: What it needs is not there.
    """
    row = row_of(optimizer)
    row.require(row.functional or method.takes != "pure", "functional form")
    row.require(row.c or method.takes != "name", "loop in C")
    row.require(optimizer in OPTIMIZERS or method.function != "compiled_parts", "buffers that are known to begin at 0")
    if method.cpu_only and plan.device != "cpu":
        raise Skipped("XLA makes a native function of a loop on a CPU alone")
    if method.cpu_only and plan.batch_size > 1:
        raise Skipped("XLA makes a native function of a loop only where a step has one row")
    if method.cpu_only and not network.native:
        raise Skipped("XLA may not make a native function of a step of this network")
    if method.function == "nnx_jitted" and not isinstance(network, Dense):
        raise Skipped("the network is not written in flax.nnx")
    make = getattr(getattr(backend, method.module), method.function)
    if method.takes == "name":
        return made(lambda: make(optimizer, plan.learning_rate))
    return made(
        lambda: make(_model(backend, method, network), _rule(backend, framework, method, optimizer, plan), output_loss)
    )


def _rule(backend: Backend, framework: str, method: Method, optimizer: str, plan: Plan) -> Any:
    """Return the optimizer as the method takes it."""
    if method.takes == "pure":
        return getattr(backend, "functional").FUNCTIONAL[optimizer](plan.learning_rate)  # noqa: B009 - PyTorch's alone
    if method.takes == "folded":
        return getattr(backend.optimizers, "folded_adam")(plan.learning_rate)  # noqa: B009 - JAX's alone
    return trained.optimizer(backend, framework, optimizer, plan)


def _model(backend: Backend, method: Method, network: Network) -> Any:
    if method.network == "network":
        return trained.model(backend, network)
    return getattr(backend.models, method.network)(network.widths)  # type: ignore[attr-defined] # of dense layers


def made(make: Callable[[], Any]) -> Any:
    """Return make(); where a backend says that something is not there, the case is skipped."""
    try:
        return make()
    except NotImplementedError as reason:
        raise Skipped(str(reason)) from None


def training(
    backend: Backend,
    method: Method,
    loop: Any,
    params: ParameterTree,
    data: tuple[Array, Array],
    order: Array,
    conversion: Conversion,
    moved: ParameterTree | None = None,
) -> Task:
    """Return a lap of a loop: one step for each entry of `order`, from these parameters on.

    With `moved`, its value has the losses of a second lap, from those parameters on.
    """
    arrays, rows = tuple(loop.load(array) for array in data), loop.load(order)
    drawn = conversion.from_tree(params)

    def start() -> Any:
        return backend.runtime.wait(loop.init(drawn))

    def stages() -> Iterator[str]:
        return iter(loop.stages(start(), arrays, rows))

    def run(state: Any) -> Iterator[Any]:
        yield backend.runtime.wait(loop.run(state, arrays, rows))

    def export(output: Any) -> Value:
        state, losses = output
        value = {"losses": numbers(backend, losses), "params": ravel(conversion.to_tree(state.params))}
        if moved is None:
            return value
        _, others = backend.runtime.wait(loop.run(loop.init(conversion.from_tree(moved)), arrays, rows))
        return value | {"moved_losses": numbers(backend, others)}

    steps = len(order) * method.runs
    return Task(run, export, steps=steps, stages=stages, start=start, varies_by_process=method.varies_by_process)


def numbers(backend: Backend, losses: Any) -> Array:
    """Return losses, which a loop gives as one array of its framework or of NumPy, or as a list of scalars."""
    if isinstance(losses, list):
        return np.array([float(loss) for loss in losses])
    return np.asarray(losses if isinstance(losses, np.ndarray) else backend.runtime.to_numpy(losses), dtype=float)


_EXPECTED: dict[tuple[str, str, Plan], Array] = {}


def distances(losses: Array, case: Case, plan: Plan, train: Callable[[], tuple[Array, Any]]) -> dict[str, float]:
    """Return how far losses are from those by formula in float64, over all steps and over the first ones.

    Args:
        losses: Those of the case; there may be fewer than `train` makes.
        case: The case; `train` is called once for all cases of its experiment and subject.
        plan: The plan.
        train: Trains by formula, and returns the losses first.
    """
    key = case.experiment, case.subject, plan
    if key not in _EXPECTED:
        _EXPECTED[key], _ = train()
    expected = _EXPECTED[key][: len(losses)]
    return {
        "distance": stats.scaled_distance(losses, expected),
        "beginning": stats.scaled_distance(losses[:FIRST_STEPS], expected[:FIRST_STEPS]),
        "last_loss": float(losses[-1]),
    }


def compare_losses(record: Record, first: Bound, every: Bound, plan: Plan) -> list[Finding]:
    """Compare the losses of a loop with those by formula: of the first steps, and where bounds were pinned of all."""
    words = "losses of {}, with those by formula in float64"
    cases, value = (record.case,), record.value
    found = [compare(words.format(f"the first {FIRST_STEPS} steps"), cases, value["beginning"], first.bound)]
    if pinned(plan):
        found.append(compare(words.format("all steps"), cases, value["distance"], every.bound))
    return found


def timed_facts(record: Record, results: Results) -> dict[str, Any]:
    """Return what the rows of all experiments say of a record."""
    shown = results.shows(record)
    return {
        **facts(record, results),
        "step_seconds": record.seconds if shown else None,
        "spread": stats.spread(record.step_seconds) if shown else None,
    }


def caption(row: Row) -> str:
    """Return what a reader is told of a row's method."""
    return f"{LABELS[row['framework']]}: {METHODS[row['framework']][row['method']].words}"


def not_measured(rows: Sequence[Row]) -> list[str]:
    """Return one note for each reason why a method has no time."""
    reasons: dict[str, dict[str, None]] = {}
    for row in rows:
        if row["status"] != "ok":
            reasons.setdefault(f"{row['status']}: {row['reason']}", {})[caption(row)] = None
    every = {caption(row) for row in rows}
    return [
        f"{reason[0].upper()}{reason[1:]} ({'all methods' if set(names) == every else '; '.join(names)})."
        for reason, names in reasons.items()
    ]

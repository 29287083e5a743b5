"""What is run for each row of the dictionary, in each framework, from the same NumPy arrays.

An experiment is one lap: `replay` (given gradients, constant learning rate), `schedule` (the same, with a learning rate
that changes), `digits` and `mlp` (closed loop, each framework with its own gradients; the second with a learning rate
that changes), `growth` and `growth replay` (digits, and given gradients, in float32). PyTorch makes the closed loops
again from parameters moved by one unit in the last place: the floor. JAX adds the optax function of the same name. No
time of this study is shown, so that each experiment is made only once, however often the timer asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.bench.record import pack
from jaxopt_study.bench.task import Task, Value
from jaxopt_study.data.workload import Array, ParameterTree, Workload, draw_params, ravel
from jaxopt_study.dictionary.conventions import CONVENTIONS, QUANTILES, SCHEDULE_STEPS, SHAPE, Convention
from jaxopt_study.dictionary.rules import translate
from jaxopt_study.dictionary.table import TABLE, Row
from jaxopt_study.studies.dictionary.bounds import fed_back

STUDY = "dictionary"
QUIRKS = "quirks"
OPTIMIZERS = "optimizers"
CONVENTIONS_AND_QUIRKS = "conventions and known defects"
GROWTH = "growth"
GROWTH_REPLAY = "growth replay"
METHODS = {"jax": "optax", "torch": "torch.optim"}
MLP = (64, 16, 10)
KINDS = {f"conventions {kind}": kind for kind in ("schedule", "clipping", "initializer")}
ROWS = {row.key: row for row in TABLE}
FIRST = tuple(next(row for row in TABLE if row.name == name) for name in dict.fromkeys(row.name for row in TABLE))

# After how many steps parameters are compared, by profile.
STEPS: dict[str, tuple[int, ...]] = {
    "smoke": (1, 2, 10, 100),
    "default": (1, 2, 10, 100, 1000),
    "full": (1, 2, 10, 100, 1000),
}
MLP_STEPS = STEPS | {"default": (1, 2, 10, 100)}
LBFGS_STEPS = (1, 2, 10, 50)
GROWTH_STEPS = 13_470

Experiment = Callable[[], Value]


def groups(plan: Plan) -> list[Group]:
    """Return one group for each row, and one for conventions and known defects."""
    subjects = [row.key for row in (FIRST if plan.profile == "smoke" else TABLE)]
    return [
        Group(
            tuple(Case(STUDY, subject, framework, METHODS[framework]) for framework in plan.frameworks),
            repeats=1,
            together=True,
        )
        for subject in [*subjects, CONVENTIONS_AND_QUIRKS]
    ]


def task(backend: Any, case: Case, workload: Workload, plan: Plan) -> Task:
    """Return the experiments of one row, one a lap; they set the type that they need, and set it back."""
    if case.subject == CONVENTIONS_AND_QUIRKS:
        experiments = _conventions(backend, case.framework, plan.seed)
    else:
        experiments = _experiments(backend, ROWS[case.subject], case.framework, workload, plan)

    made: dict[str, Value] = {}

    def make(name: str, experiment: Experiment) -> Value:
        if name not in made:
            dtype = "float32" if name.startswith(GROWTH) else "float64"
            backend.runtime.configure(dtype, plan.device, plan.threads)
            try:
                made[name] = experiment()
            finally:
                backend.runtime.configure(plan.dtype, plan.device, plan.threads)
        return made[name]

    def run(_: None) -> Iterator[dict[str, Value]]:
        values: dict[str, Value] = {}
        for name, experiment in experiments.items():
            values[name] = make(name, experiment)
            yield values

    def export(values: Mapping[str, Value]) -> Value:
        return {f"{name}:{leaf}": array for name, value in values.items() for leaf, array in value.items()}

    return Task(run, export, laps=len(experiments), steps=1)


def summarize(case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
    """Keep every parameter at the steps compared, and of a moved run its distance from the run itself."""
    del workload, plan
    kept: dict[str, Any] = {}
    for name in dict.fromkeys(key.split(":")[0] for key in value):
        leaves = {key.split(":")[1]: array for key, array in value.items() if key.split(":")[0] == name}
        if name in (QUIRKS, OPTIMIZERS, "search", *KINDS):
            kept[name] = {leaf: np.asarray(array).tolist() for leaf, array in leaves.items()}
            continue
        path = _flat(leaves)
        if name.endswith(" moved"):
            own = _flat(
                {k.split(":")[1]: v for k, v in value.items() if k.split(":")[0] == name.removesuffix(" moved")}
            )
            kept[name] = np.abs(path - own).max(axis=1).tolist()
        else:
            kept[name] = pack(path)
    del case
    return kept


def growth_steps() -> tuple[int, ...]:
    """Return the steps at which the float32 distance is taken, evenly on a logarithmic axis."""
    return tuple(int(step) for step in np.unique(np.geomspace(1, GROWTH_STEPS, 17).round().astype(int)))


def steps_of(row: Row, experiment: str, plan: Plan) -> tuple[int, ...]:
    """Return after how many steps an experiment's parameters are compared."""
    if row.name == "LBFGS":
        return LBFGS_STEPS
    return (MLP_STEPS if experiment == "mlp" else STEPS)[plan.profile]


def _experiments(backend: Any, row: Row, framework: str, workload: Workload, plan: Plan) -> dict[str, Experiment]:
    if row.options.get("line_search_fn"):
        return {"search": partial(_search, backend, row, workload)}
    made: dict[str, Experiment] = {}
    for name in _names(row, plan):
        made[name] = partial(_run, backend, row, name, workload, plan, moved=False)
        if framework == "torch" and name in moved_too(row):
            made[f"{name} moved"] = partial(_run, backend, row, name, workload, plan, moved=True)
    if framework == "jax" and row.namesake and plan.profile != "smoke":
        made["namesake"] = partial(_namesake, backend, row, workload, plan)
    if row in FIRST and row.name != "LBFGS" and plan.profile == "full":
        made |= _growth(backend, row, framework, workload, plan)
    return made


def _names(row: Row, plan: Plan) -> list[str]:
    """Return which experiments a row gets: all of them but in profile smoke, which shortens."""
    if row.name == "LBFGS":
        return ["digits"] if plan.profile == "smoke" else ["digits", "mlp"]
    return ["schedule", "digits"] if plan.profile == "smoke" else ["replay", "schedule", "digits", "mlp"]


def moved_too(row: Row) -> tuple[str, ...]:
    """Return of which experiments there is a floor: of the closed loops, and of replay where parameters feed back."""
    return ("digits", "mlp", *(("replay", "schedule") if fed_back(translate(row.name, row.options)) else ()))


def _run(backend: Any, row: Row, name: str, workload: Workload, plan: Plan, moved: bool) -> Value:
    steps = steps_of(row, name, plan)
    if name in ("replay", "schedule"):
        params, gradients = draw_replay(row, max(steps), plan.seed)
        factors = falling(max(steps)) if name == "schedule" else None
        optimizer = backend.trajectories.make(row.name, row.options, factors)
        return backend.trajectories.replay(optimizer, move(params) if moved else params, gradients, steps)
    factors = falling(max(steps)) if name == "mlp" and row.name != "LBFGS" else None
    optimizer = backend.trajectories.make(row.name, row.options, factors)
    return _train(backend, row, name, optimizer, workload, steps, plan.seed, "float64" if moved else "")


def _train(
    backend: Any, row: Row, name: str, optimizer: Any, workload: Workload, steps: tuple[int, ...], seed: int, moved: str
) -> Value:
    """Train on digits, or the same rows between 0 and 1 by a small network with tanh."""
    widths = workload.widths if name == "digits" else MLP
    params = workload.params if name == "digits" else draw_params(MLP, seed + 1)
    inputs, targets = workload.train
    rows = np.arange(len(targets))
    # L-BFGS compares gradients of one function: every step has all rows.
    order = np.tile(rows, (max(steps), 1)) if row.name == "LBFGS" else np.resize(rows, max(steps))
    return backend.trajectories.train(
        backend.models.network(widths),
        optimizer,
        move(params, moved) if moved else params,
        (inputs if name == "digits" else inputs / 16, targets),
        order,
        steps,
    )


def _namesake(backend: Any, row: Row, workload: Workload, plan: Plan) -> Value:
    optimizer = backend.trajectories.namesake(row.namesake)
    return _train(backend, row, "digits", optimizer, workload, steps_of(row, "digits", plan), plan.seed, "")


def _search(backend: Any, row: Row, workload: Workload) -> Value:
    model = backend.models.network(workload.widths)
    inputs, targets = workload.train
    return backend.trajectories.search(model, row.options, workload.params, (inputs / 16, targets))


def _growth(backend: Any, row: Row, framework: str, workload: Workload, plan: Plan) -> dict[str, Experiment]:
    def grow(moved: str) -> Value:
        optimizer = backend.trajectories.make(row.name, row.options)
        return _train(backend, row, "digits", optimizer, workload, growth_steps(), plan.seed, moved)

    def replay() -> Value:
        params, gradients = draw_replay(row, GROWTH_STEPS, plan.seed)
        return backend.trajectories.replay(
            backend.trajectories.make(row.name, row.options), params, gradients, growth_steps()
        )

    made: dict[str, Experiment] = {GROWTH: partial(grow, ""), GROWTH_REPLAY: replay}
    if framework == "torch":
        made[f"{GROWTH} moved"] = partial(grow, "float32")
    return made


def _quirks(backend: Any) -> Value:
    return {name: np.array(probe()) for name, probe in backend.defects.DEFECTS.items()}


def _optimizers(backend: Any) -> Value:
    return {name: np.array(1.0) for name in backend.defects.optimizers()}


def _conventions(backend: Any, framework: str, seed: int) -> dict[str, Experiment]:
    """Return one experiment for each kind of convention, one for the known defects, one for what is installed."""
    made: dict[str, Experiment] = {name: partial(_kind, backend, framework, kind, seed) for name, kind in KINDS.items()}
    return made | {QUIRKS: partial(_quirks, backend), OPTIMIZERS: partial(_optimizers, backend)}


def _kind(backend: Any, framework: str, kind: str, seed: int) -> Value:
    """Return what each convention gives, by its number: in JAX `aligned` and `namesake`, in PyTorch `torch`."""
    return {
        f"{number} {which}": _convention(backend, convention, getattr(convention, which) or convention.aligned, seed)
        for number, convention in enumerate(CONVENTIONS)
        for which in (("aligned", "namesake") if framework == "jax" else ("torch",))
        if convention.kind == kind
    }


def _convention(backend: Any, convention: Convention, code: str, seed: int) -> Array:
    if convention.kind == "schedule":
        return np.asarray(backend.conventions.schedule(code, SCHEDULE_STEPS))
    if convention.kind == "initializer":
        drawn = backend.conventions.drawn(code, SHAPE, seed)
        return np.quantile(drawn, np.arange(1, QUANTILES + 1) / (QUANTILES + 1))
    generator = np.random.default_rng(seed)
    parts = []
    for size in (1e-3, 0.3, 10.0):  # far below the bound, near it, far above
        gradients = {name: size * generator.standard_normal(shape) for name, shape in (("a", (4, 3)), ("b", (5,)))}
        clipped = backend.conventions.clipped(code, gradients)
        parts += [np.ravel(clipped[name]) for name in sorted(clipped)]
    return np.concatenate(parts)


def draw_replay(row: Row, steps: int, seed: int) -> tuple[ParameterTree, ParameterTree]:
    """Draw parameters, and gradients for every step: of several sizes, many of them zero, whole rows among them."""
    generator = np.random.default_rng(seed)
    params = draw_params((7, 5), seed)
    if row.name == "Muon":
        params = {"layer1": {"kernel": params["layer1"]["kernel"]}}

    def draw(shape: tuple[int, ...]) -> Array:
        sizes = 10.0 ** -generator.integers(0, 4, shape)  # an element's own size, the same at every step
        gradients = generator.standard_normal((steps, *shape)) * sizes
        gradients *= generator.random((steps, *shape)) < np.linspace(0.1, 1, shape[-1])
        if len(shape) == 2:
            gradients[generator.random(steps) < 0.3, :, 0] = 0  # an output without a gradient: a row in torch's layout
        return gradients

    return params, {
        layer: {name: draw(leaf.shape) for name, leaf in leaves.items()} for layer, leaves in params.items()
    }


def falling(steps: int) -> Array:
    """Return the factors of a learning rate that rises for 10 steps and then falls by half a cosine."""
    warm = np.minimum(1, np.arange(1, steps + 1) / 10)
    return warm * (0.55 + 0.45 * np.cos(np.pi * np.arange(steps) / steps))


def move(tree: ParameterTree, dtype: str = "float64") -> ParameterTree:
    """Return the parameters, each moved up by one unit in the last place of `dtype`."""
    up = np.array(np.inf, dtype)
    return {
        layer: {name: np.nextafter(leaf.astype(dtype), up) for name, leaf in leaves.items()}
        for layer, leaves in tree.items()
    }


def _flat(leaves: Mapping[str, Array]) -> Array:
    """Return the parameters of each step as one row."""
    return np.stack([ravel({name: leaf[step] for name, leaf in leaves.items()}) for step in range(_length(leaves))])


def _length(leaves: Mapping[str, Array]) -> int:
    return len(next(iter(leaves.values())))

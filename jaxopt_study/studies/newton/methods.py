"""The methods of the race, and the task of each: what it runs, where its points are kept, what they cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from jaxopt_study.backends import Backend
from jaxopt_study.backends.numpy import newton as references
from jaxopt_study.bench.case import Case, Plan
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.task import Skipped, Task, Value, single
from jaxopt_study.data.workload import Array, Workload, ravel
from jaxopt_study.studies.hessian.methods import places
from jaxopt_study.studies.newton import problems
from jaxopt_study.studies.newton.problems import PENALTY

__all__ = ["FIRST_ORDER", "LBFGS", "METHODS", "NEWTON", "REFERENCE", "Method", "method_of", "runs", "task"]


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        kind: The function of this file that makes its task: see `TASKS`.
        name: What that function needs to know, if anything.
        repeats: Samples, where one is enough (1), or a run takes seconds and compiles nothing (0, see `Group`); by
            default as the plan says.
        full: Whether it takes so long that it runs only in profile `full`.
        smoke: Whether it runs in profile `smoke` too, where methods like it stand for the others.
    """

    kind: str
    name: str
    repeats: int | None = None
    full: bool = False
    smoke: bool = True


FIRST_ORDER = ("adam", "rmsprop", "sgd", "adagrad", "momentum")
LBFGS = "lbfgs"
"""The name of the limited-memory method, ours and others': it uses first derivatives alone, too."""
TORCHMIN = "torchmin"
"""The peer that has several methods, and that may be missing."""
FEW = ("adam", "sgd")
"""Of the first-order methods, profile `smoke` has these alone; they run row by row in profile `default` too."""

METHODS: dict[str, dict[str, Method]] = {
    "jax": {
        "Newton": Method("newton", "exact"),
        "Newton, float32 factor": Method("newton", "exact-float32"),
        "Newton, Hessian by AD": Method("newton", "exact-ad", repeats=1),
        "Newton-CG": Method("newton", "newton_cg"),
        "trust region, Krylov": Method("newton", "trust_krylov", full=True),
        "L-BFGS": Method("newton", LBFGS),
        **{f"{name}, default": Method("default", name, repeats=1, smoke=name in FEW) for name in FIRST_ORDER},
        **{f"{name}, tuned": Method("tuned", name, repeats=1, smoke=name in FEW) for name in FIRST_ORDER},
        **{f"{name}, row by row": Method("rows", name, repeats=1, full=name not in FEW) for name in FIRST_ORDER},
    },
    "torch": {
        "Newton": Method("newton", "exact"),
        "Newton, float32 factor": Method("newton", "exact-float32", repeats=0),
        "Newton, Hessian by AD": Method("newton", "exact-ad", repeats=0, full=True),
        "Newton-CG": Method("newton", "newton_cg", repeats=0),
        "trust region, Krylov": Method("newton", "trust_krylov", repeats=0, full=True),
        "L-BFGS": Method("newton", LBFGS, repeats=0, full=True),
        **{f"{name}, default": Method("default", name, repeats=0, smoke=name in FEW) for name in FIRST_ORDER},
        **{f"{name}, tuned": Method("tuned", name, repeats=0, full=True) for name in FIRST_ORDER},
        **{f"{name}, row by row": Method("rows", name, repeats=0, full=True) for name in FIRST_ORDER},
        "torch.optim.LBFGS": Method("torch_lbfgs", LBFGS, repeats=0),
        "torchmin newton-exact": Method(TORCHMIN, "newton-exact", repeats=0),
        "torchmin newton-cg": Method(TORCHMIN, "newton-cg", repeats=0),
    },
    "numpy": {
        "scikit-learn newton-cholesky": Method("scikit_learn", "newton-cholesky"),
        "scikit-learn lbfgs": Method("scikit_learn", LBFGS, repeats=0),
        "SciPy trust-exact": Method("scipy", "trust-exact"),
    },
}

NEWTON = "Newton"
REFERENCE = ("numpy", "scikit-learn newton-cholesky")
"""The method whose optimum is the reference."""

TOLERANCE = {"float64": 1e-10, "float32": 1e-5}
LEARNING_RATES = np.geomspace(1e-4, 10, 11)
MARKS, STRIDE = 50, 20
MOST = 1000
"""Iterations that a relative of Newton's method may take: no more than the steps of a first-order method."""


def method_of(case: Case | Record) -> Method:
    """Return the row of a case."""
    return METHODS[case.framework][case.method]


def runs(plan: Plan, framework: str, method: str) -> bool:
    """Say whether a method runs in this profile, with these frameworks."""
    row = METHODS[framework][method]
    in_profile = {"smoke": row.smoke and not row.full, "default": not row.full, "full": True}[plan.profile]
    return in_profile and framework in (*plan.frameworks, "numpy")


def task(backend: Backend, case: Case, workload: Workload, plan: Plan) -> Task:
    """Return a method's run from parameters that are all 0."""
    return TASKS[method_of(case).kind](backend, case, workload, plan)


def _newton(backend: Backend, case: Case, workload: Workload, plan: Plan) -> Task:
    """One of the backend's own minimizers; the run that is timed keeps its path."""
    name, _, variant = method_of(case).name.partition("-")
    closed = name == "exact" and variant != "ad"
    # Under a gradient in float64, a factor in float32 gives steps that converge as fast, in half the time.
    hessian = problems.form(workload).hessian(backend, variant or None) if closed else None
    loss, *arguments = problems.start(backend, workload)
    options = {"method": name, "hessian": hessian, "tolerance": TOLERANCE[plan.dtype], "max_iterations": MOST}

    def run() -> Any:
        return backend.runtime.wait(backend.newton.minimize(loss, *arguments, keep_path=True, **options))

    def export(result: Any) -> Value:
        path = backend.runtime.to_numpy(result.path)[:, places(backend, workload.params)].astype(float)
        return {
            "path": path,
            "steps": np.arange(len(path)),
            "work": _work(np.asarray(result.path_counts), workload, closed),
            "status": np.array(int(result.status)),
        }

    return single(run, export)


def _first_order(backend: Backend, case: Case, workload: Workload, plan: Plan) -> Task:
    """A first-order method in one run, whose parameters are kept at marks; JAX compiles it whole."""
    kind, rows = method_of(case).kind, len(workload.train[0])
    stride, unit = (rows, 1 / rows) if kind == "rows" else (STRIDE, 1.0)
    loss, params, batch, penalty = problems.start(backend, workload)

    def go(descend: Callable[..., Any], rate: float, start: Any = params) -> Any:
        return backend.runtime.wait(descend(start, batch, penalty, backend.runtime.from_numpy(np.array(rate))))

    rate = plan.learning_rate
    if kind == "tuned":
        trying = _descent(backend, case, loss, plan)
        ends = [problems.objective(_points(backend, go(trying, r))[-1], workload) for r in LEARNING_RATES]
        rate = float(LEARNING_RATES[int(np.argmin(np.nan_to_num(ends, nan=np.inf)))])
    # Not the function that tried the learning rates, so that its first call compiles.
    descend = _descent(backend, case, loss, plan)

    def export(marks: Any) -> Value:
        points = _points(backend, marks)
        steps = stride * np.arange(len(points))
        value = {"path": points, "steps": steps, "work": unit * steps, "learning_rate": np.array(rate)}
        if case.framework == "jax" and runs(plan, "torch", case.method):
            moved = backend.runtime.params_from_numpy(problems.moved_params(workload.widths, plan.dtype))
            value["moved"] = _points(backend, go(descend, rate, moved))
        return value

    return single(lambda: go(descend, rate), export)


def _points(backend: Backend, marks: Any) -> Array:
    """Return the parameters at each mark, (marks, P), in the project's order."""
    trees = backend.runtime.params_to_numpy(marks)
    length = len(next(iter(next(iter(trees.values())).values())))
    return np.array([
        ravel({layer: {name: leaf[i] for name, leaf in leaves.items()} for layer, leaves in trees.items()})
        for i in range(length)
    ]).astype(float)  # fmt: skip


def _descent(backend: Backend, case: Case, loss: Any, plan: Plan) -> Callable[..., Any]:
    """Return the backend's descent, not compiled yet: row by row over epochs, or on all rows."""
    optimizer = getattr(backend.optimizers, method_of(case).name)
    if method_of(case).kind == "rows":
        return backend.training.row_by_row(loss, optimizer, plan.epochs)
    return backend.training.full_batch(loss, optimizer, MARKS, STRIDE)


PEERS = "peers"
"""The module of the PyTorch backend's `newton` with other people's minimizers."""


def _peer(backend: Backend, case: Case, workload: Workload, plan: Plan) -> Task:
    """Another minimizer in PyTorch, of which only the end is known."""
    method = method_of(case)
    if method.kind == TORCHMIN and find_spec(TORCHMIN) is None:
        raise Skipped("pytorch-minimize is not installed: python -m pip install 'jaxopt_study[peers]'")
    minimize = getattr(getattr(backend.newton, PEERS), method.kind)
    options: dict[str, Any] = {"tolerance": TOLERANCE[plan.dtype], "max_iterations": MOST}
    options |= {"method": method.name} if method.kind == TORCHMIN else {}
    arguments = problems.start(backend, workload)

    def export(answer: Any) -> Value:
        x = backend.runtime.to_numpy(backend.runtime.ravel(answer.x))[places(backend, workload.params)]
        return _end(x, answer.iterations)

    return single(lambda: minimize(*arguments, **options), export)


def _scikit_learn(backend: Backend, case: Case, workload: Workload, plan: Plan) -> Task:
    """In float64 whatever the plan: in float32 newton-cholesky gives up here, and its L-BFGS stops early."""
    del backend, plan
    solver, tolerance = method_of(case).name, TOLERANCE["float64"]
    return single(
        lambda: references.scikit_learn(workload.train, PENALTY, solver, tolerance, 5 * MOST),
        lambda answer: _end(answer.x, answer.iterations),
    )


def _scipy(backend: Backend, case: Case, workload: Workload, plan: Plan) -> Task:
    """In float64 too, on derivatives by formula in NumPy."""
    del backend, case, plan
    return single(
        lambda: references.trust_exact(workload.train, PENALTY, TOLERANCE["float64"], MOST),
        lambda answer: _end(answer.x, answer.iterations),
    )


TASKS: dict[str, Callable[[Backend, Case, Workload, Plan], Task]] = {
    "newton": _newton,
    **dict.fromkeys(("default", "tuned", "rows"), _first_order),
    **dict.fromkeys(("torch_lbfgs", TORCHMIN), _peer),
    "scikit_learn": _scikit_learn,
    "scipy": _scipy,
}


def _end(x: Array, iterations: int) -> Value:
    """Return the value of a method of which only the end is known."""
    return {"path": x[None].astype(float), "steps": np.array([iterations]), "work": np.array([np.nan])}


def _work(counts: Array, workload: Workload, closed: bool) -> Array:
    """Return the work in gradients of all rows: a Hessian-vector product is two, a Hessian by its flops.

    A gradient takes 4 n d K flops. A Hessian by automatic differentiation takes a product for each of the P parameters.
    In closed form, it is a product of tables of d (d + 1) / 2 pairs by n rows by k (k + 1) / 2, where k = K - 1 of K
    classes are free, and the one output of two. A factorization takes m^3 / 3.
    """
    rows, features = workload.train[0].shape
    features, outputs = features + 1, workload.widths[-1]
    free = max(outputs - 1, 1)
    gradient = 4 * rows * features * outputs
    size = features * (free if closed else outputs)
    table = 2 * rows * (features * (features + 1) // 2) * (free * (free + 1) // 2)
    hessian = table / gradient if closed else 2 * size
    _, gradients, products, hessians = counts.T
    return gradients + 2 * products + hessians * (hessian + size**3 / 3 / gradient)

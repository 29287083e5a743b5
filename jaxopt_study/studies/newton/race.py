"""The tasks of the race: what each arm runs, where its points are marked, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxopt_study.bench.case import Case, Plan
from jaxopt_study.bench.task import Skipped, Task, Value, single
from jaxopt_study.data.workload import Array, Workload, ravel
from jaxopt_study.studies.newton import problems, regressions
from jaxopt_study.studies.newton.arms import ARMS, Arm, runs
from jaxopt_study.studies.newton.problems import PENALTY, PROBLEMS
from jaxopt_study.studies.hessian.routes import places

__all__ = ["summarize", "task"]

TOLERANCE = {"float64": 1e-10, "float32": 1e-5}
LEARNING_RATES = np.geomspace(1e-4, 10, 11)
MARKS, STRIDE = 50, 20
MOST = 1000
"""Iterations that a relative of Newton's method may take: no more than the steps of a first-order method."""


def task(backend: Any, case: Case, workload: Workload, plan: Plan) -> Task:
    """Return an arm's run from parameters that are all 0."""
    if regressions.is_one(case):
        return regressions.task(backend, case, plan)
    makers = {
        "newton": _newton,
        "torchmin": _torchmin,
        "torch_lbfgs": _torch_lbfgs,
        "scikit_learn": _scikit_learn,
        "scipy": _scipy,
    }
    maker = makers.get(_arm(case).kind, _first_order)
    return maker(backend, case, problems.data(case.subject, workload), plan)


def summarize(case: Case, value: Value, workload: Workload, plan: Plan) -> Mapping[str, Any]:
    """Keep value and accuracy at each mark, and what they had cost; of exact Newton, the whole path."""
    del plan
    if regressions.is_one(case):
        return regressions.summarized(value)
    rows = problems.data(case.subject, workload)
    path, outputs = value["path"], rows.widths[-1]
    kept: dict[str, Any] = {
        "values": [problems.objective(case.subject, x, rows) for x in path],
        "test_accuracies": [problems.accuracy(x, rows.test, outputs) for x in path],
        "steps": value["steps"].tolist(),
        "work": value["work"].tolist(),
    }
    if "moved" in value:
        kept["moved_values"] = [problems.objective(case.subject, x, rows) for x in value["moved"]]
    if case.method == "Newton":
        kept["path"] = path.tolist()
    for name in ("status", "learning_rate"):
        if name in value:
            kept[name] = value[name].item()
    return kept


def _arm(case: Case) -> Arm:
    return ARMS[case.framework][case.method]


def _newton(backend: Any, case: Case, workload: Workload, plan: Plan) -> Task:
    """One of the backend's own minimizers; its path is kept by the run that is timed."""
    newton, (method, _, variant) = backend.newton, _arm(case).name.partition("-")
    closed = method == "exact" and variant != "ad"
    # Under a gradient in float64, a factor in float32 gives steps that converge as fast, in half the time.
    hessian = PROBLEMS[case.subject].closed_form(backend, variant or None) if closed else None
    loss, params, batch, penalty = _problem(backend, case, workload)

    def run() -> Any:
        return backend.runtime.wait(
            newton.minimize(
                loss, params, batch, penalty, method=method, hessian=hessian, tolerance=TOLERANCE[plan.dtype],
                max_iterations=MOST, keep_path=True,
            )
        )  # fmt: skip

    def export(result: Any) -> Value:
        counts = np.asarray(result.path_counts)
        path = backend.runtime.to_numpy(result.path)[:, places(backend, workload.params)].astype(float)
        return {
            "path": path,
            "steps": np.arange(len(path)),
            "work": _work(counts, workload, closed),
            "status": np.array(int(result.status)),
        }

    return single(run, export)


def _first_order(backend: Any, case: Case, workload: Workload, plan: Plan) -> Task:
    """A first-order method in one run, marked every so many steps; JAX compiles it whole."""
    arm, rows = _arm(case), len(workload.train[0])
    stride, unit = (rows, 1 / rows) if arm.kind == "rows" else (STRIDE, 1.0)
    loss, params, batch, penalty = _problem(backend, case, workload)

    def go(descend: Callable[..., Any], rate: float, start: Any = params) -> Any:
        return backend.runtime.wait(descend(start, batch, penalty, backend.runtime.from_numpy(np.array(rate))))

    rate = plan.learning_rate
    if arm.kind == "tuned":
        trying = _descent(backend, case, loss, plan)
        ends = [problems.objective(case.subject, _points(backend, go(trying, r))[-1], workload) for r in LEARNING_RATES]
        rate = float(LEARNING_RATES[int(np.argmin(np.nan_to_num(ends, nan=np.inf)))])
    # Another one than that with which rates are tried, so that its first call compiles.
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


def _points(backend: Any, marks: Any) -> Array:
    """Return the parameters at each mark, (marks, P), in the project's order."""
    trees = backend.runtime.params_to_numpy(marks)
    length = len(next(iter(next(iter(trees.values())).values())))
    return np.array([
        ravel({layer: {name: leaf[i] for name, leaf in leaves.items()} for layer, leaves in trees.items()})
        for i in range(length)
    ]).astype(float)  # fmt: skip


def _descent(backend: Any, case: Case, loss: Any, plan: Plan) -> Callable[[Any, Any, Any, Any], Any]:
    """Return the backend's descent, not compiled yet: row by row over epochs, or on all rows."""
    optimizer = getattr(backend.optimizers, _arm(case).name)
    if _arm(case).kind == "rows":
        return backend.training.row_by_row(loss, optimizer, plan.epochs)
    return backend.training.full_batch(loss, optimizer, MARKS, STRIDE)


def _torchmin(backend: Any, case: Case, workload: Workload, plan: Plan) -> Task:
    try:
        import torchmin
    except ModuleNotFoundError:
        words = "pytorch-minimize is not installed: python -m pip install 'jaxopt_study[peers]'"
        raise Skipped(words) from None
    del torchmin
    loss, params, batch, penalty = _problem(backend, case, workload)
    tolerance = TOLERANCE[plan.dtype]
    peers = backend.newton.peers
    return single(
        lambda: peers.torchmin(
            loss, params, batch, penalty, method=_arm(case).name, tolerance=tolerance, max_iterations=MOST
        ),
        lambda answer: _end(backend, workload, backend.runtime.ravel(answer.x), answer.iterations),
    )


def _torch_lbfgs(backend: Any, case: Case, workload: Workload, plan: Plan) -> Task:
    loss, params, batch, penalty = _problem(backend, case, workload)
    tolerance = TOLERANCE[plan.dtype]
    return single(
        lambda: backend.newton.peers.torch_lbfgs(
            loss, params, batch, penalty, tolerance=tolerance, max_iterations=MOST
        ),
        lambda answer: _end(backend, workload, backend.runtime.ravel(answer.x), answer.iterations),
    )


def _scikit_learn(backend: Any, case: Case, workload: Workload, plan: Plan) -> Task:
    """In float64 whatever the plan: in float32 newton-cholesky gives up here, and its L-BFGS stops short."""
    del plan
    return single(
        lambda: backend.newton.scikit_learn(workload.train, PENALTY, _arm(case).name, TOLERANCE["float64"], 5 * MOST),
        lambda answer: _answer(answer.x.astype(float), answer.iterations),
    )


def _scipy(backend: Any, case: Case, workload: Workload, plan: Plan) -> Task:
    """In float64 as well, on derivatives by formula in NumPy."""
    del case, plan
    return single(
        lambda: backend.newton.trust_exact(workload.train, PENALTY, TOLERANCE["float64"], MOST),
        lambda answer: _answer(answer.x, answer.iterations),
    )


def _problem(backend: Any, case: Case, workload: Workload) -> tuple[Any, Any, Any, Any]:
    return problems.loss(backend, PROBLEMS[case.subject].loss, workload.widths), *problems.start(backend, workload)


def _end(backend: Any, workload: Workload, vector: Any, iterations: int) -> Value:
    return _answer(backend.runtime.to_numpy(vector)[places(backend, workload.params)].astype(float), iterations)


def _answer(x: Array, iterations: int) -> Value:
    """The value of an arm that shows its end alone."""
    return {"path": x[None], "steps": np.array([iterations]), "work": np.array([np.nan])}


def _work(counts: Array, workload: Workload, closed: bool) -> Array:
    """Return the work in gradients of all rows: a Hessian-vector product is two, a Hessian by its flops.

    A gradient takes 4 n d K flops; a Hessian by automatic differentiation a product for each of the P parameters; in
    closed form, a product of tables of d (d + 1) / 2 pairs by n rows by k (k + 1) / 2, where k = K - 1 of K classes are
    free, and the one output of two; a factorization m^3 / 3.
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

"""The arms of the race of minimizers: what each runs, where its points are marked, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxopt_study.bench.baseline import newton as baseline
from jaxopt_study.bench.case import Case, Plan
from jaxopt_study.bench.task import Skipped, Task, Value, single
from jaxopt_study.bench.workload import Array, Workload, ravel, zero_params
from jaxopt_study.studies.routes import places

__all__ = ["ARMS", "PENALTY", "Arm", "objective", "start"]

PENALTY = 1e-3
TOLERANCE = {"float64": 1e-10, "float32": 1e-5}
LEARNING_RATES = np.geomspace(1e-4, 10, 11)
MARKS, STRIDE = 50, 20
MOST = 1000
"""Iterations that a relative of Newton's method may take: no more than the steps of a first-order method."""


@dataclass(frozen=True)
class Arm:
    """A runner in the race.

    Attributes:
        kind: Which function of this module starts it.
        name: What that function needs to know.
        repeats: Measured blocks, where a run takes seconds (1) or more (0, see `Group`); by default as the plan says.
    """

    kind: str
    name: str
    repeats: int | None = None


FIRST_ORDER = ("adam", "rmsprop", "sgd", "adagrad", "momentum")

ARMS: dict[str, dict[str, Arm]] = {
    "jax": {
        "Newton": Arm("newton", "exact"),
        "Newton, float32 factor": Arm("newton", "exact-float32"),
        "Newton, Hessian by AD": Arm("newton", "exact-ad"),
        "Newton-CG": Arm("newton", "newton_cg"),
        "trust region, Krylov": Arm("newton", "trust_krylov"),
        "L-BFGS": Arm("newton", "lbfgs"),
        **{f"{name}, default": Arm("default", name) for name in FIRST_ORDER},
        **{f"{name}, tuned": Arm("tuned", name) for name in FIRST_ORDER},
        **{f"{name}, row by row": Arm("rows", name) for name in FIRST_ORDER},
    },
    "torch": {
        "Newton": Arm("newton", "exact"),
        "Newton-CG": Arm("newton", "newton_cg", repeats=1),
        "torch.optim.LBFGS": Arm("torch_lbfgs", "", repeats=1),
        "torchmin newton-exact": Arm("torchmin", "newton-exact", repeats=0),
        "torchmin newton-cg": Arm("torchmin", "newton-cg", repeats=1),
    },
    "numpy": {
        "scikit-learn newton-cholesky": Arm("scikit_learn", "newton-cholesky"),
        "scikit-learn lbfgs": Arm("scikit_learn", "lbfgs", repeats=1),
    },
}

OVERVIEW = {"jax": ("Newton", "adam, row by row"), "torch": ("Newton",), "numpy": ()}


def objective(x: Array, workload: Workload) -> float:
    """Return the penalized training loss, in float64 and by formula, whoever found x."""
    return baseline.softmax_objective(x, workload.train, PENALTY)


def start(wing: Any, case: Case, workload: Workload, plan: Plan) -> Task:
    """Return the task of a case."""
    arm = ARMS[case.framework][case.method]
    makers = {"newton": _newton, "torchmin": _torchmin, "torch_lbfgs": _torch_lbfgs, "scikit_learn": _scikit_learn}
    return makers.get(arm.kind, _first_order)(wing, arm, workload, plan)


def _newton(wing: Any, arm: Arm, workload: Workload, plan: Plan) -> Task:
    """One of the wing's own minimizers; its path is kept by the run that is timed."""
    newton, (method, _, variant) = wing.newton, arm.name.partition("-")
    closed = method == "exact" and variant != "ad"
    # Under a gradient in float64, a factor in float32 gives steps that converge as fast, in half the time.
    hessian = newton.softmax_system(variant or None) if closed else None
    loss, params, batch, penalty = _problem(wing, workload)

    def run() -> Any:
        return wing.runtime.block(
            newton.minimize(
                loss, params, batch, penalty, method=method, hessian=hessian, tolerance=TOLERANCE[plan.dtype],
                max_iterations=MOST, keep_path=True,
            )
        )  # fmt: skip

    def export(result: Any) -> Value:
        counts = np.asarray(result.path_counts)
        path = wing.runtime.to_numpy(result.path)[:, places(wing, workload.params)].astype(float)
        return {
            "path": path,
            "steps": np.arange(len(path)),
            "work": _work(counts, workload, closed),
            "status": np.array(int(result.status)),
        }

    return single(run, export)


def _first_order(wing: Any, arm: Arm, workload: Workload, plan: Plan) -> Task:
    """A first-order method, in one compiled run, marked every so many steps."""
    loss, params, batch, penalty = _problem(wing, workload)
    optimizer = getattr(wing.optimizers, arm.name)
    rows = len(workload.train[0])
    if arm.kind == "rows":
        descend, stride, unit = wing.training.row_by_row(loss, optimizer, plan.epochs), rows, 1 / rows
    else:
        descend, stride, unit = wing.training.full_batch(loss, optimizer, MARKS, STRIDE), STRIDE, 1.0

    def run(rate: float) -> Any:
        return wing.runtime.block(descend(params, batch, penalty, wing.runtime.from_numpy(np.array(rate))))

    rate = plan.learning_rate

    def path(marks: Any) -> Array:
        trees = wing.runtime.params_to_numpy(marks)
        length = len(next(iter(next(iter(trees.values())).values())))
        return np.array([
            ravel({layer: {k: leaf[i] for k, leaf in leaves.items()} for layer, leaves in trees.items()})
            for i in range(length)
        ]).astype(float)  # fmt: skip

    if arm.kind == "tuned":
        finals = [objective(path(run(float(rate)))[-1], workload) for rate in LEARNING_RATES]
        rate = float(LEARNING_RATES[int(np.argmin(np.nan_to_num(finals, nan=np.inf)))])

    def export(marks: Any) -> Value:
        points = path(marks)
        steps = stride * np.arange(len(points))
        return {"path": points, "steps": steps, "work": unit * steps, "learning_rate": np.array(rate)}

    return single(lambda: run(rate), export)


def _torchmin(wing: Any, arm: Arm, workload: Workload, plan: Plan) -> Task:
    try:
        import torchmin
    except ModuleNotFoundError:
        words = "pytorch-minimize is not installed: python -m pip install 'jaxopt_study[peers]'"
        raise Skipped(words) from None
    del torchmin
    loss, params, batch, penalty = _problem(wing, workload)
    tolerance = TOLERANCE[plan.dtype]
    peers = wing.newton.peers
    return single(
        lambda: peers.torchmin(loss, params, batch, penalty, method=arm.name, tolerance=tolerance, max_iterations=MOST),
        lambda answer: _end(wing, workload, wing.runtime.ravel(answer.x), answer.iterations),
    )


def _torch_lbfgs(wing: Any, arm: Arm, workload: Workload, plan: Plan) -> Task:
    del arm
    loss, params, batch, penalty = _problem(wing, workload)
    tolerance = TOLERANCE[plan.dtype]
    return single(
        lambda: wing.newton.peers.torch_lbfgs(loss, params, batch, penalty, tolerance=tolerance, max_iterations=MOST),
        lambda answer: _end(wing, workload, wing.runtime.ravel(answer.x), answer.iterations),
    )


def _scikit_learn(wing: Any, arm: Arm, workload: Workload, plan: Plan) -> Task:
    """In float64 whatever the plan: in float32 newton-cholesky gives up here, and its L-BFGS stops short."""
    del plan
    return single(
        lambda: wing.newton.scikit_learn(workload.train, PENALTY, arm.name, TOLERANCE["float64"], 5 * MOST),
        lambda answer: _answer(answer.x.astype(float), answer.iterations),
    )


def _problem(wing: Any, workload: Workload) -> tuple[Any, Any, Any, Any]:
    loss = wing.models.penalized(wing.models.loss(wing.models.network(workload.widths)))
    params = wing.runtime.params_from_numpy(zero_params(workload.widths))
    batch = tuple(wing.runtime.from_numpy(array) for array in workload.train)
    return loss, params, batch, wing.runtime.from_numpy(np.array(PENALTY))


def _end(wing: Any, workload: Workload, vector: Any, iterations: int) -> Value:
    return _answer(wing.runtime.to_numpy(vector)[places(wing, workload.params)].astype(float), iterations)


def _answer(x: Array, iterations: int) -> Value:
    """The value of an arm that shows its end alone."""
    return {"path": x[None], "steps": np.array([iterations]), "work": np.array([np.nan])}


def _work(counts: Array, workload: Workload, closed: bool) -> Array:
    """Return the work in gradients of all rows: a Hessian-vector product is two, a Hessian by its flops.

    A gradient takes 4 n d K flops; a Hessian by automatic differentiation a product for each of the P parameters; in
    closed form, a product of tables of d (d + 1) / 2 pairs by n rows by K (K - 1) / 2; a factorization m^3 / 3.
    """
    rows, features = workload.train[0].shape
    features, classes = features + 1, workload.widths[-1]
    gradient = 4 * rows * features * classes
    size = features * (classes - 1) if closed else features * classes
    table = 2 * rows * (features * (features + 1) // 2) * (classes * (classes - 1) // 2)
    hessian = table / gradient if closed else 2 * size
    _, gradients, products, hessians = counts.T
    return gradients + 2 * products + hessians * (hessian + size**3 / 3 / gradient)


def accuracy(x: Array, rows: tuple[Array, Array], classes: int) -> float:
    """Return how much of the rows a linear layer gets right; the bias stands first in x."""
    inputs, targets = rows
    logits = inputs @ x[classes:].reshape(-1, classes) + x[:classes]
    return float(np.mean(logits.argmax(axis=1) == targets))


def condensed(value: Value, workload: Workload, keep_path: bool) -> Mapping[str, Any]:
    """Return a race's course in plain numbers: value and test accuracy at each mark, and what they had cost."""
    path, classes = value["path"], workload.widths[-1]
    kept: dict[str, Any] = {
        "values": [objective(x, workload) for x in path],
        "test_accuracies": [accuracy(x, workload.test, classes) for x in path],
        "steps": value["steps"].tolist(),
        "work": value["work"].tolist(),
    }
    if keep_path:
        kept["path"] = path.tolist()
    for name in ("status", "learning_rate"):
        if name in value:
            kept[name] = value[name].item()
    return kept

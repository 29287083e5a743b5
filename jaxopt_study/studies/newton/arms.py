"""The arms of the race of minimizers, and which of them run together."""

from __future__ import annotations

from dataclasses import dataclass

from jaxopt_study.bench.case import Case, Group, Plan
from jaxopt_study.studies.newton import regressions
from jaxopt_study.studies.newton.problems import PROBLEMS

__all__ = ["ARMS", "FIRST_ORDER", "Arm", "groups", "runs"]


@dataclass(frozen=True)
class Arm:
    """A runner in the race.

    Attributes:
        kind: Which function of `race` starts it.
        name: What that function needs to know.
        repeats: Measured blocks, where one says enough (1), or a run takes seconds and compiles nothing (0, see
            `Group`); by default as the plan says.
        full: Whether it takes so long that it runs in profile `full` alone.
    """

    kind: str
    name: str
    repeats: int | None = None
    full: bool = False


FIRST_ORDER = ("adam", "rmsprop", "sgd", "adagrad", "momentum")
ROW_BY_ROW = ("adam", "sgd")
"""Whose way row by row is in profile `default` too."""

ARMS: dict[str, dict[str, Arm]] = {
    "jax": {
        "Newton": Arm("newton", "exact"),
        "Newton, float32 factor": Arm("newton", "exact-float32"),
        "Newton, Hessian by AD": Arm("newton", "exact-ad", repeats=1),
        "Newton-CG": Arm("newton", "newton_cg"),
        "trust region, Krylov": Arm("newton", "trust_krylov", full=True),
        "L-BFGS": Arm("newton", "lbfgs"),
        **{f"{name}, default": Arm("default", name, repeats=1) for name in FIRST_ORDER},
        **{f"{name}, tuned": Arm("tuned", name, repeats=1) for name in FIRST_ORDER},
        **{f"{name}, row by row": Arm("rows", name, repeats=1, full=name not in ROW_BY_ROW) for name in FIRST_ORDER},
    },
    "torch": {
        "Newton": Arm("newton", "exact"),
        "Newton, float32 factor": Arm("newton", "exact-float32", repeats=0),
        "Newton, Hessian by AD": Arm("newton", "exact-ad", repeats=0, full=True),
        "Newton-CG": Arm("newton", "newton_cg", repeats=0),
        "trust region, Krylov": Arm("newton", "trust_krylov", repeats=0, full=True),
        "L-BFGS": Arm("newton", "lbfgs", repeats=0, full=True),
        **{f"{name}, default": Arm("default", name, repeats=0) for name in FIRST_ORDER},
        **{f"{name}, tuned": Arm("tuned", name, repeats=0, full=True) for name in FIRST_ORDER},
        **{f"{name}, row by row": Arm("rows", name, repeats=0, full=True) for name in FIRST_ORDER},
        "torch.optim.LBFGS": Arm("torch_lbfgs", "", repeats=0),
        "torchmin newton-exact": Arm("torchmin", "newton-exact", repeats=0),
        "torchmin newton-cg": Arm("torchmin", "newton-cg", repeats=0),
    },
    "numpy": {
        "scikit-learn newton-cholesky": Arm("scikit_learn", "newton-cholesky"),
        "scikit-learn lbfgs": Arm("scikit_learn", "lbfgs", repeats=0),
        "SciPy trust-exact": Arm("scipy", "trust-exact"),
    },
}

CLOSE = (
    ("jax", "Newton"),
    ("jax", "Newton, float32 factor"),
    ("torch", "Newton"),
    ("numpy", "scikit-learn newton-cholesky"),
)
"""The arms whose ratios are given with intervals."""

OVERVIEW = {"jax": ("Newton", "adam, row by row"), "torch": ("Newton",), "numpy": ()}

LARGE = {
    framework: tuple(method for method, arm in arms.items() if arm.kind != "scipy") for framework, arms in ARMS.items()
}
SMALL = {
    "jax": ("Newton", "adam, tuned"),
    "torch": ("Newton",),
    "numpy": ("scikit-learn newton-cholesky", "SciPy trust-exact"),
}
"""Who races on the problem of 650 parameters, and on those of 31, where SciPy's dense trust region can keep up."""


def groups(plan: Plan) -> list[Group]:
    """Return exact Newton and its peers in many blocks, the other quick arms in few, and the rest by themselves.

    The main job has three quick ones in few.
    """
    few = plan.repeats // 6 + 1
    if plan.overview:
        return [Group(_cases(plan, plan.workload, OVERVIEW), few)]
    cases = _cases(plan, plan.workload, LARGE)
    own = {case: ARMS[case.framework][case.method].repeats for case in cases}
    quick = [case for case in cases if own[case] is None]
    close = tuple(case for case in quick if (case.framework, case.method) in CLOSE)
    rest = tuple(case for case in quick if case not in close)
    single = [Group((case,), repeats) for case, repeats in own.items() if repeats is not None]
    small = [Group(_cases(plan, name, SMALL), plan.repeats) for name in PROBLEMS if name != plan.workload]
    found = [Group(close, plan.repeats * 2 // 3 + 1), Group(rest, few), *single, *small, *regressions.groups(plan)]
    return [group for group in found if group.cases]


def runs(plan: Plan, framework: str, method: str) -> bool:
    """Say whether an arm of the whole race runs in this profile."""
    return framework in (*plan.frameworks, "numpy") and (plan.profile == "full" or not ARMS[framework][method].full)


def _cases(plan: Plan, subject: str, arms: dict[str, tuple[str, ...]]) -> tuple[Case, ...]:
    return tuple(
        Case("newton", subject, framework, method)
        for framework, methods in arms.items()
        for method in methods
        if runs(plan, framework, method)
    )

"""The initial parameters of torch_step, for a jax_step that takes them as its argument."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxopt_study.bench.case import Case, Plan
from jaxopt_study.bench.process import CaseFailed, WorkerProcess
from jaxopt_study.bench.task import Refused
from jaxopt_study.studies.steps import source

METHOD = "initial"
"""The method of the case whose value they are; no run has it among its cases."""


def wanted(function: Callable[..., Any]) -> bool:
    """Say whether a function must be given an argument."""
    given = inspect.signature(function).parameters.values()
    return any(p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in given)


def of_torch(plan: Plan) -> dict[str, Any]:
    """Return them as a tree of NumPy arrays. A process of their own makes them, so that this one loads no PyTorch.

    Raises:
        Refused: There are none.
    """
    path, name = Path(plan.experiment), source.FUNCTIONS["torch"]
    if "torch" not in source.frameworks(path):
        raise Refused(f"jax_step takes the initial parameters of {name}, which {path.name} does not define")
    case = Case("steps", "check", path.stem, "torch", METHOD)
    worker = WorkerProcess("torch", plan)
    try:
        worker.loaded()
        worker.configure()
        worker.ask("prepare", case, None)
        worker.ask("first", case)
        value, _ = worker.ask("finish", case)
    except CaseFailed as failure:
        raise Refused(str(failure)) from None
    finally:
        worker.close()
    return _nested(value)


def _nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *above, word = path.split("/")
        node = tree
        for name in above:
            node = node.setdefault(name, {})
        node[word] = leaf
    return tree

"""A user's model in both frameworks: which parameter of one is which of the other, and where they begin."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from jaxopt_study import plugin
from jaxopt_study.bench.case import Plan
from jaxopt_study.bench.task import Refused
from jaxopt_study.data.workload import Array, Workload
from jaxopt_study.dictionary import DictionaryError
from jaxopt_study.port.layouts import SAME, Layout
from jaxopt_study.port.matching import Leaf, Matching, check_modules, left_over, matched, short
from jaxopt_study.studies.own import network as own
from jaxopt_study.studies.own.described import DESCRIBE, OUTPUTS, Described
from jaxopt_study.studies.own.network import Registered

__all__ = ["attach", "is_own"]

FLOATS = ("float32", "float64")
DIFFERENT = {"float32": 1e-4, "float64": 1e-9}
"""Outputs that differ by more than this part of the largest are those of two models: GELU by tanh is 4e-4 off."""


def is_own(plan: Plan) -> bool:
    """Return whether a plan has something of a user's that must be tried first."""
    return bool(plan.plugin) or any("(" in name for name in plan.optimizers)


def attach(workload: Workload, plan: Plan, frameworks: Iterable[str], call: Callable[..., Any]) -> Workload:
    """Return the workload with a registered model's parameters, and with a batch axis for its rows.

    Args:
        workload: The workload, whose network may be `Registered`.
        plan: The plan.
        frameworks: Those that have a worker.
        call: call(framework, place, ...) is what a function returns in a framework's worker.

    Raises:
        Refused: It cannot be trained, or the model is not the same in both frameworks.
    """
    network = workload.network
    if (isinstance(network, Registered) or plan.loss) and workload.order.ndim == 2:
        workload = replace(workload, order=workload.order[..., None])
    found: dict[str, Described] = {f: call(f, DESCRIBE, f, workload) for f in frameworks}
    able = {framework: described for framework, described in found.items() if not described.lacking}
    if not able:
        reasons = "; ".join(f"{framework}: {described.lacking}" for framework, described in found.items())
        raise Refused(f"nothing to run: {reasons}")
    if not isinstance(network, Registered):
        return workload
    for framework, described in able.items():
        for name, leaf in described.leaves.items():
            if leaf.dtype.name not in FLOATS:
                raise Refused(f"{framework}: the model {network.name!r}: {name} has type {leaf.dtype.name}")
    layout = _layout(network, able)
    by_name = {leaf.name: leaf for leaf in layout}
    jax = able.get("jax")
    leaves = (
        jax.leaves
        if jax
        else {by_name[name].path: by_name[name].layout.to_flax(leaf) for name, leaf in able["torch"].leaves.items()}
    )
    attached = replace(workload, network=replace(network, layout=layout), params=own.tree(leaves))
    if len(able) == 2:
        _check_outputs(network, DIFFERENT[plan.dtype], *(call(f, OUTPUTS, f, attached) for f in able))
    return attached


def _check_outputs(network: Registered, allowed: float, jax: Array, torch: Array) -> None:
    """Refuse two models that compute different things."""
    distance, scale = np.abs(jax - torch).max(), np.abs(jax).max()
    if not distance <= allowed * scale:
        raise Refused(
            f"the model {network.name!r}: for the same parameters the outputs of the two frameworks differ by "
            f"{distance:.2g} (the largest is {scale:.2g}): look for another activation or epsilon, and after a "
            "flattened image for flattened="
        )


def _layout(network: Registered, found: Mapping[str, Described]) -> tuple[Leaf, ...]:
    """Return the leaves with their names in both frameworks; of one framework alone, its own names.

    Raises:
        Refused: The two models differ.
    """
    if "torch" not in found:
        return tuple(Leaf(path, "", Layout(SAME, leaf.shape, leaf.shape)) for path, leaf in found["jax"].leaves.items())
    torch = found["torch"]
    shapes = {name: leaf.shape for name, leaf in torch.leaves.items()}
    if "jax" not in found:
        return tuple(Leaf(name.replace(".", "/"), name, Layout(SAME, shape, shape)) for name, shape in shapes.items())
    names = plugin.load(*network.plugin).entries["model"][network.name].names
    matching = Matching(modules=names.get("modules", {}), flattened=names.get("flattened", {}))
    flax: dict[str, Array] = found["jax"].leaves
    try:
        leaves = matched(
            ((path, path.split("/"), leaf.shape) for path, leaf in flax.items()), shapes, matching, torch.kinds
        )
        check_modules(leaves, matching)
    except DictionaryError as error:
        raise Refused(f"the model {network.name!r}: {error}") from None
    left = left_over(shapes, leaves, statistics=True)
    if left:
        raise Refused(f"the model {network.name!r}: PyTorch has {short(left)}, and flax nothing for it")
    return tuple(leaves.values())

"""What is trained in a run: a built-in workload, the user's own data, or either with a model or loss of the user's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxopt_study import plugin
from jaxopt_study.bench.case import Plan
from jaxopt_study.data import given as own_data
from jaxopt_study.data.given import DataError, Given
from jaxopt_study.data.networks import Dense, Network
from jaxopt_study.data.workload import LOSSES, Workload
from jaxopt_study.data.workloads import WORKLOADS
from jaxopt_study.studies.own.network import Registered

__all__ = ["choices", "network", "traits", "workload"]

Source = tuple[str, str]
"""A plugin and the digest of its file."""


def network(model: str, source: Source, inputs: int, outputs: int) -> Network:
    """Return the network of that name: one that the plugin registers, or see `data.given.network`.

    Raises:
        DataError: There is none, or it does not fit the rows.
    """
    names = plugin.load(*source).entries["model"]
    if model in names:
        return Registered(model, source, inputs, outputs)
    try:
        return own_data.network(model, inputs, outputs)
    except DataError as error:
        more = f", or {', '.join(names)} of the plugin" if names else ", or register one in a --plugin"
        raise DataError(f"{error}{more}" if " is no model" in str(error) else str(error)) from None


def workload(plan: Plan, given: Given | None) -> Workload:
    """Return what a plan trains; a registered model has no parameters yet, see `twins.attach`."""
    source = plan.plugin, plan.plugin_digest
    if given is not None:
        chosen = network(plan.model, source, given.inputs.shape[1], given.outputs)
        return given.workload(chosen, plan.standardized, plan.seed, plan.epochs, plan.batch_size, plan.loss)
    base = WORKLOADS[plan.built_in or plan.workload](plan.seed, plan.epochs, plan.batch_size)
    if not plan.built_in:
        return base
    base = replace(base, name=plan.workload, loss=plan.loss or base.loss)
    if not plan.model:
        return base
    chosen = network(plan.model, source, base.train[0].shape[1], base.network.outputs)
    return replace(base, network=chosen, params=chosen.draw(plan.seed))


def choices(rows: Given | Workload, model: str | None, loss: str, standardized: bool, source: Source) -> dict[str, Any]:
    """Return what a plan says of a model and a loss that a user chose for some rows.

    Args:
        rows: The user's own data, or a built-in workload.
        model: The name of the model; None for a linear one on own data, or for that of the built-in workload.
        loss: The name of a registered loss, or nothing.
        standardized: Whether own data are standardized.
        source: The plugin.

    Raises:
        DataError: There is no such model, or it does not fit the rows.
    """
    if isinstance(rows, Given):
        made = network(model or "linear", source, rows.inputs.shape[1], rows.outputs)
        known = {"model": model or "linear", "data": rows.facts(made, standardized, loss)}
    else:
        inputs = rows.train[0]
        made = network(model, source, inputs.shape[1], rows.network.outputs) if model else rows.network
        if model and inputs.dtype.kind != "f" and not isinstance(made, Registered):
            raise DataError(f"the rows of {rows.name} are tokens, and not numbers: register a model for them")
        what = " and ".join(filter(None, (model, loss)))
        known = {"model": model or "", "built_in": rows.name, "workload": f"{rows.name} with {what}"}
        known["data"] = _facts(rows, made, loss, source)
    return known | traits(made, loss or rows.loss)


def traits(network: Network, loss: str) -> dict[str, bool]:
    """Return what a plan says of a training; a loss of the user's may hold anything."""
    linear = isinstance(network, Dense) and len(network.widths) == 2 and loss == "cross_entropy"
    return {"native": network.native and loss in LOSSES, "linear": linear}


def _facts(base: Workload, made: Network, loss: str, source: Source) -> tuple[str, ...]:
    """Return what a reader is told of a built-in workload with a model or loss of the user's."""
    rows, features = base.train[0].shape
    return (
        f"data: the rows of {base.name}, {rows:,} of {features} numbers for training",
        f"network: {made.words}",
        f"loss: {loss or LOSSES[base.loss]}",
        *((f"plugin: {Path(source[0]).name}",) if source[0] else ()),
    )

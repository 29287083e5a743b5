"""A user's model, loss and optimizers, tried in a worker: what its parameters are, and whether a step can be made."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxopt_study import plugin, user_code
from jaxopt_study.backends import Backend
from jaxopt_study.bench.case import Plan
from jaxopt_study.bench.task import Refused
from jaxopt_study.data.workload import Array, Workload
from jaxopt_study.studies import trained
from jaxopt_study.studies.own.network import Registered
from jaxopt_study.studies.registry import OPTIMIZERS

__all__ = ["DESCRIBE", "OUTPUTS", "Described", "describe", "outputs"]

DESCRIBE, OUTPUTS = (f"{__name__}:{name}" for name in ("describe", "outputs"))
"""The functions that a worker is asked for."""
BROADCAST = 1e-3
"""So far a batch's loss may be from the mean of its rows' losses, relative, where a model has one output."""
USUAL = {"jax": "jitted", "torch": "prepared"}
"""The loop in which a step is tried."""


class Described(NamedTuple):
    """What a worker says of a user's model in its framework.

    Attributes:
        leaves: The initial parameters by the framework's own names.
        kinds: In PyTorch, the kinds of the modules by their names.
        lacking: What is registered for the other framework alone, so that this one's cases are skipped; or nothing.
    """

    leaves: dict[str, Array]
    kinds: dict[str, str]
    lacking: str = ""


def describe(backend: Backend, plan: Plan, framework: str, workload: Workload) -> Described:
    """Make the model, draw its parameters, differentiate its loss, and make a step with each registered optimizer.

    Raises:
        Refused: The user's code raises, or what it makes cannot be trained; the words say which.
    """
    try:
        return _described(backend, plan, framework, workload)
    except NotImplementedError as reason:
        return Described({}, {}, str(reason))


def outputs(backend: Backend, plan: Plan, framework: str, workload: Workload) -> Array:
    """Return the model's outputs for the rows of the first step, at the workload's initial parameters."""
    del plan
    network = workload.network
    params = trained.conversion(backend, framework, network).from_tree(workload.params)
    rows = workload.train[0][workload.steps[0]]
    return backend.registered.outputs(trained.model(backend, network), params, rows)


def _described(backend: Backend, plan: Plan, framework: str, workload: Workload) -> Described:
    network, rows = workload.network, workload.steps[0]
    batch = tuple(array[rows] for array in workload.train)
    what = f"{framework}: the model {plan.model!r}"
    if isinstance(network, Registered):
        make = backend.registered.maker(network.makers)
        leaves = _tried(what, plan, lambda: backend.registered.draw(make, plan.seed, batch[0]))
        params: Any = backend.registered.params_from_numpy(leaves)
    else:
        leaves, params = {}, backend.runtime.params_from_numpy(workload.params)
    model = _tried(what, plan, lambda: trained.model(backend, network))
    found = _tried(what, plan, lambda: backend.registered.outputs(model, params, batch[0]))
    wanted = (*np.shape(rows), network.outputs)
    if found.shape != wanted:
        raise Refused(f"{what} returns shape {found.shape} for a batch, and it must be {wanted}")
    _check_loss(backend, plan, framework, workload, model, params, found)
    for name in plan.optimizers:
        registered = plugin.find(plan.plugin, plan.plugin_digest, "optimizer", name)
        if registered or (framework == "torch" and name not in OPTIMIZERS):  # of a call, optax's cannot fail alone
            _check_optimizer(backend, plan, framework, name, workload, model, params)
    return Described(leaves, _kinds(framework, model))


def _check_loss(
    backend: Backend, plan: Plan, framework: str, workload: Workload, model: Any, params: Any, outputs: Array
) -> None:
    what, output_loss = f"{framework}: the loss {workload.loss!r}", trained.output_loss(backend, workload, plan)
    inputs, targets = (backend.runtime.from_numpy(array[workload.steps[0]]) for array in workload.train)
    value = _tried(what, plan, lambda: output_loss(backend.runtime.from_numpy(outputs), targets))
    if getattr(value, "shape", None) != ():
        shape = f"shape {tuple(value.shape)}" if hasattr(value, "shape") else f"a {type(value).__name__}"
        raise Refused(f"{what} returns {shape}, and it must return a scalar, of shape ()")
    if outputs.shape[1:] == (1,):
        each = backend.runtime.from_numpy
        alone = [output_loss(each(outputs[[n]]), targets[n : n + 1]) for n in range(len(outputs))]
        if abs(float(value) - np.mean([float(loss) for loss in alone])) > BROADCAST * abs(float(value)):
            raise Refused(
                f"{what} is not the mean of its rows' losses: outputs {outputs.shape} and "
                f"targets {tuple(targets.shape)} may be broadcast to a square; take outputs[:, 0]"
            )
    loss = backend.models.batch_loss(model, output_loss)
    gradient = _tried(what, plan, lambda: backend.derivatives.gradient(loss)(params, (inputs, targets)))
    numbers = backend.runtime.to_numpy(backend.runtime.ravel(gradient))
    if not np.isfinite(numbers).all():
        raise Refused(f"{what} has a gradient with NaN or infinity at the initial parameters")
    if not numbers.any():
        raise Refused(f"{what} has no gradient: it does not depend on the parameters")


def _check_optimizer(
    backend: Backend, plan: Plan, framework: str, name: str, workload: Workload, model: Any, params: Any
) -> None:
    try:
        made = trained.optimizer(backend, framework, name, plan)
    except NotImplementedError:
        return  # its cases are skipped, with this reason
    except Exception as error:  # of whatever the user's code does
        raise Refused(f"{framework}: the optimizer {name!r}: {_line(error, plan)}") from None

    def step() -> Any:
        loop = getattr(backend.loops, USUAL[framework])(model, made, trained.output_loss(backend, workload, plan))
        data = tuple(loop.load(array) for array in workload.train)
        return backend.runtime.wait(loop.run(loop.init(params), data, loop.load(workload.steps[:1])))

    _tried(f"{framework}: the optimizer {name!r}", plan, step)


def _tried(what: str, plan: Plan, function: Callable[[], Any]) -> Any:
    try:
        return function()
    except (NotImplementedError, Refused):
        raise
    except Exception as error:  # of whatever the user's code does
        raise Refused(f"{what}: {_line(error, plan)}") from None


def _line(error: Exception, plan: Plan) -> str:
    """Return an error in one line: with the place if it is in the user's file."""
    if plan.plugin:
        words = user_code.in_one_line(error, plugin.place(plan.plugin))
        if words.startswith(f"{plugin.place(plan.plugin).name}:"):
            return words
    place, words = traceback.extract_tb(error.__traceback__)[-1].filename, str(error)
    if Path(place).stem == "registered":  # a backend's own words
        return words
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0]}"


def _kinds(framework: str, model: Any) -> dict[str, str]:
    if framework != "torch":
        return {}
    from jaxopt_study.port.kinds import kinds_of  # it loads PyTorch

    return dict(kinds_of(model))

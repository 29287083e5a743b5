"""An optimizer's state, from optax to torch.optim: the other way of `optax_state`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import jax
import torch

from jaxopt_study.dictionary import DictionaryError
from jaxopt_study.dictionary.schedules import place
from jaxopt_study.port import lbfgs
from jaxopt_study.port.arrays import to_numpy, to_tensor
from jaxopt_study.port.counts import COUNTLESS, gone_of
from jaxopt_study.port.fields import FIELDS, PART, SCALARS, Fields, check_layouts, key_of, read
from jaxopt_study.port.matching import ONE_TO_ONE, Matching
from jaxopt_study.port.members import Member, members_of
from jaxopt_study.terminal import counted

__all__ = ["advance", "to_torch_state_dict"]


def to_torch_state_dict(
    state: Any,
    optimizer: torch.optim.Optimizer,
    params: Any,
    matching: Matching = ONE_TO_ONE,
    *,
    model: torch.nn.Module | None = None,
    scheduler: Any = None,
    every: int = 1,
) -> dict[str, Any]:
    """Return the state of a translation as the `state_dict` of its torch optimizer, for `optimizer.load_state_dict`.

    Options and learning rates are those that the optimizer has now: first `advance` its scheduler. Frozen parameters
    keep what the optimizer has of them.

    Args:
        state: The optax state, of `dictionary.translate(optimizer, ...).transformation()`.
        optimizer: The torch optimizer; it is not changed.
        params: The parameters that belong to the state.
        matching: See `to_flax_params`.
        model: See `to_optax_state`.
        scheduler: See `to_optax_state`.
        every: See `to_optax_state`.

    Raises:
        DictionaryError: As `to_optax_state`; or some gradients are added up for the next step.

    Example:
        >>> import jax.numpy as jnp, optax, torch
        >>> model = torch.nn.ModuleDict({"out": torch.nn.Linear(3, 2)})
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        >>> params = {"out": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}}
        >>> _, state = optax.sgd(0.1, momentum=0.9).update(params, optax.sgd(0.1, momentum=0.9).init(params))
        >>> optimizer.load_state_dict(to_torch_state_dict(state, optimizer, params, model=model))
        >>> optimizer.state[model["out"].bias]["momentum_buffer"]
        tensor([1., 1.])
    """
    kind = type(optimizer).__name__
    members = members_of(optimizer, params, matching, model)
    check_layouts(kind, members)
    found = read(state, kind, optimizer.param_groups, params)
    _check_steps(found, optimizer, scheduler, every)
    kept = optimizer.state_dict()
    if kind == "LBFGS":
        made = {0: lbfgs.written(found["0"], optimizer, members, params)} if found["0"]["count"] else {}
        return {**kept, "state": made}
    leaves = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    written = {}
    for key, member in members.items():
        values = found[member.label]
        if not member.tensor.requires_grad:  # it is no part of the optax state: torch's own stays
            written[member.index] = kept["state"].get(member.index, {})
        elif values.get("count", 1) or kind == "Adagrad":  # which keeps a state before its first step
            written[member.index] = _state_of(kind, member, key, values, leaves[key], optimizer)
    return {**kept, "state": {index: one for index, one in sorted(written.items()) if one}}


def advance(scheduler: Any, steps: int) -> None:
    """Make `scheduler.step()` until the scheduler has made this many steps in all.

    Args:
        scheduler: A scheduler of `torch.optim.lr_scheduler`.
        steps: The steps that it has made then, those of now included.

    Raises:
        DictionaryError: It made more already, or reads the loss at each step.
    """
    if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        raise DictionaryError("ReduceLROnPlateau reads the loss at each step: load its state_dict instead")
    now = place(scheduler)
    if steps < now:
        raise DictionaryError(f"the scheduler made {counted(now, 'step')} already: it cannot go back to {steps}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step\\(\\)` before")
        for _ in range(steps - now):
            scheduler.step()


def _check_steps(found: Fields, optimizer: torch.optim.Optimizer, scheduler: Any, every: int) -> None:
    gone = gone_of(optimizer, scheduler, None)
    for label, fields in found.items():
        if fields.get(PART):
            words = "gradients are added up for the next step: carry the state after a step"
            raise DictionaryError(f"{int(fields[PART])} {words}")
        if gone is not None and "count" in fields and int(fields["count"]) // every != gone:
            raise DictionaryError(
                f"the state of group {label} made {counted(int(fields['count']), 'step')}, and the scheduler {gone}: "
                "advance it"
            )


def _state_of(
    kind: str, member: Member, key: str, values: Mapping[str, Any], param: Any, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Return what torch keeps of one parameter."""
    kept: dict[str, Any] = {}
    # A class whose rule does not read the count leaves none in optax: then it is what torch's own state has.
    steps = int(values.get("count", member.state.get("step", 1)))
    for field in FIELDS[kind].keys() & values.keys():
        value = values[field]
        if field in SCALARS:
            kept[key_of(kind, field, member)] = torch.tensor(float(value))
        elif key not in value:
            raise DictionaryError(f"{field} has no leaf {key}, which torch's optimizer moves")
        else:
            array = member.layout.to_torch(value[key]) * (steps + 1 if kind == "Adagrad" else 1)
            kept[key_of(kind, field, member)] = to_tensor(array, member.tensor.dtype)
    if kind == "ASGD":
        kept |= _averaging(steps, optimizer.param_groups[int(member.label)])
        kept["ax"] = to_tensor(member.layout.to_torch(to_numpy(param)), member.tensor.dtype)
    if kind not in COUNTLESS:
        kept["step"] = steps if kind == "SparseAdam" else torch.tensor(float(steps))
    return kept


def _averaging(steps: int, group: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return ASGD's own numbers, which follow from the steps made while its rate is constant."""
    if "initial_lr" in group:
        raise DictionaryError(
            "ASGD under a scheduler: its state has a rate of the step before, which is not known here"
        )
    if steps - group["t0"] > 1:
        raise DictionaryError(f"ASGD averages since step t0={group['t0']}, and the transformation keeps no average")
    eta = group["lr"] / (1 + group["lambd"] * group["lr"] * steps) ** group["alpha"]
    return {"eta": torch.tensor(eta), "mu": torch.tensor(1.0)}

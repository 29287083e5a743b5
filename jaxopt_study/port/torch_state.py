"""An optimizer's state, from optax to torch.optim: the other way of `optax_state`."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import jax
import torch

from jaxopt_study.dictionary import DictionaryError
from jaxopt_study.port import lbfgs
from jaxopt_study.port.arrays import to_numpy, to_tensor
from jaxopt_study.port.counts import COUNTLESS
from jaxopt_study.port.fields import PART, SCALARS, check_layouts, key_of, map_state
from jaxopt_study.port.leaves import ONE_TO_ONE, Matching
from jaxopt_study.port.members import Member, members_of

__all__ = ["advance", "to_torch_state_dict"]

Fields = dict[str, dict[str, Any]]
"""For each group's label and each field of the optax state its values."""


def to_torch_state_dict(
    state: Any,
    optimizer: torch.optim.Optimizer,
    params: Any,
    matching: Matching = ONE_TO_ONE,
    *,
    model: torch.nn.Module | None = None,
) -> dict[str, Any]:
    """Return the state of a translation as the `state_dict` of its torch optimizer, for `optimizer.load_state_dict`.

    Options and learning rates are those that the optimizer has now: `advance` its scheduler first.

    Args:
        state: The optax state, of `dictionary.translate(optimizer, ...).transformation()`.
        optimizer: The torch optimizer; it is not changed.
        params: The parameters that belong to the state.
        matching: See `to_flax_params`.
        model: See `to_optax_state`.

    Raises:
        DictionaryError: As `to_optax_state`; or the state holds what torch's class does not have.

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
    found = _fields(state)
    kept = optimizer.state_dict()
    if kind == "LBFGS":
        mine = found["0"]
        made = {0: lbfgs.written(mine, optimizer, members, params)} if mine.get("count") else {}
        return {**kept, "state": made}
    leaves = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    written = {}
    for key, member in members.items():
        values = found.get(member.label, {})
        if member.tensor.requires_grad and values.get("count", 1):
            written[member.index] = _state_of(kind, member, key, values, leaves[key], optimizer)
    return {**kept, "state": {index: one for index, one in sorted(written.items()) if one}}


def advance(scheduler: Any, steps: int) -> None:
    """Make `scheduler.step()` this many times, as a training in the other framework would have.

    Args:
        scheduler: A scheduler of `torch.optim.lr_scheduler`.
        steps: How many.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step\\(\\)` before")
        for _ in range(steps):
            scheduler.step()


def _fields(state: Any) -> Fields:
    found: Fields = defaultdict(dict)

    def visit(label: str, field: str, value: Any) -> Any:
        if field == PART:
            if value:
                raise DictionaryError(f"{value} gradients are added up for the next step: carry the state after a step")
            return value
        leaves = jax.tree_util.tree_leaves_with_path(value)
        new = to_numpy(value) if hasattr(value, "dtype") else {jax.tree_util.keystr(p): to_numpy(v) for p, v in leaves}
        old = found[label].setdefault(field, new)
        if old is not new and (field != "count" or old != new):
            raise DictionaryError(
                f"the optax state has {field} twice for group {label}: give the translation's own part"
            )
        return value

    map_state(visit, state)
    return found


def _state_of(
    kind: str, member: Member, key: str, values: Mapping[str, Any], param: Any, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Return what torch keeps of one parameter."""
    kept: dict[str, Any] = {}
    steps = int(values.get("count", 1))
    for field, value in values.items():
        if field in SCALARS.get(kind, {}):
            kept[SCALARS[kind][field]] = torch.tensor(float(value))
        elif field != "count":
            array = member.layout.to_torch(value[key]) * (steps + 1 if kind == "Adagrad" else 1)
            kept[key_of(kind, field, member)] = to_tensor(array, member.tensor.dtype)
    if kind == "ASGD":
        kept |= _averaging(steps, optimizer.param_groups[int(member.label)])
        kept["ax"] = to_tensor(member.layout.to_torch(to_numpy(param)), member.tensor.dtype)
    if kind not in COUNTLESS:
        # A class whose rule does not read the count leaves none in optax: then it is 1 here.
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

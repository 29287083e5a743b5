"""An optimizer's state, from torch.optim to optax: moments, sums, products and the steps made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import torch

from jaxopt_study.dictionary import DictionaryError
from jaxopt_study.port import lbfgs
from jaxopt_study.port.arrays import to_jax, to_numpy
from jaxopt_study.port.counts import steps_made
from jaxopt_study.port.fields import COUNTS, FIELDS, PART, SCALARS, Fields, check_layouts, key_of, map_state, read
from jaxopt_study.port.matching import ONE_TO_ONE, Matching
from jaxopt_study.port.members import Member, members_of

__all__ = ["to_optax_state"]


def to_optax_state(
    optimizer: torch.optim.Optimizer,
    state: Any,
    params: Any,
    matching: Matching = ONE_TO_ONE,
    *,
    model: torch.nn.Module | None = None,
    scheduler: Any = None,
    every: int = 1,
    steps: int | None = None,
) -> Any:
    """Return the state of a torch optimizer as the optax state of its translation.

    Args:
        optimizer: The torch optimizer.
        state: A new state of the translation: `dictionary.translate(optimizer, ...).transformation().init(params)`. A
            chain of your own may have parts without state around it, such as clipping.
        params: The tree that the state was made for.
        matching: See `to_flax_params`.
        model: The module whose parameters the optimizer has; without it, the optimizer must be made of
            `named_parameters()`.
        scheduler: The optimizer's scheduler, if it has one. It must have made as many steps as the optimizer.
        every: After how many optimizer steps the scheduler makes one; the translation must have been told too.
        steps: The optimizer steps made. Needed where neither torch's state nor the scheduler counts them.

    Returns:
        A state of the same structure and types.

    Raises:
        DictionaryError: Names, shapes or types do not fit; parameters of one group made different numbers of steps,
            which optax counts once; or `state` is not of this optimizer's translation.

    Example:
        >>> import jax.numpy as jnp, optax, torch
        >>> model = torch.nn.ModuleDict({"out": torch.nn.Linear(3, 2)})
        >>> optimizer = torch.optim.Adam(model.parameters())
        >>> for leaf in model.parameters():
        ...     leaf.grad = torch.ones_like(leaf)
        >>> optimizer.step()
        >>> params = {"out": {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)}}
        >>> state = to_optax_state(optimizer, optax.adam(1e-3).init(params), params, model=model)
        >>> int(state[0].count)
        1
    """
    kind = type(optimizer).__name__
    members = members_of(optimizer, params, matching, model)
    check_layouts(kind, members)
    found = read(state, kind, optimizer.param_groups, params)
    made = steps_made(optimizer, members, scheduler, every, steps)
    of_all = lbfgs.reader(optimizer, members, params) if kind == "LBFGS" else None
    if of_all is None:
        _check_complete(kind, members, found)

    def visit(label: str, field: str, value: Any) -> Any:
        if field in COUNTS:
            return _count(made.get(label), label, value)
        if of_all is not None:
            return of_all(label, field, value)
        if field in SCALARS:
            return _scalar(FIELDS[kind][field], members, label, value)

        def leaf(path: Any, old: jax.Array) -> jax.Array:
            member = members.get(jax.tree_util.keystr(path))
            return old if member is None else _read(kind, field, member, made.get(label) or 0, old)

        return value if field == PART else jax.tree_util.tree_map_with_path(leaf, value)

    return map_state(visit, state)


def _check_complete(kind: str, members: Mapping[str, Member], found: Fields) -> None:
    """Refuse leaves that torch does not move, and state in torch that has not all that optax needs.

    A parameter without any state is a new one.
    """
    trees = [(label, field, value) for label, fields in found.items() for field, value in fields.items()]
    for key in {key for _, _, value in trees if isinstance(value, dict) for key in value}:
        if key not in members or not members[key].tensor.requires_grad:
            raise DictionaryError(f"the state moves {key}, and torch's optimizer does not: give translate model=")
    for member in members.values():
        keys = [key_of(kind, field, member) for field in found[member.label] if field in FIELDS[kind]]
        missing = [key for key in keys if member.state and key not in member.state]
        if missing:
            raise DictionaryError(f"torch's state of {member.name} lacks {missing[0]}: it is not of {kind}")


def _read(kind: str, field: str, member: Member, steps: int, old: jax.Array) -> jax.Array:
    key = key_of(kind, field, member)
    value = member.state.get(key)
    if value is None:  # torch makes it at the first step
        return old
    array = member.layout.to_flax(to_numpy(value))
    if array.shape != old.shape:
        raise DictionaryError(f"{key} of {member.name} has shape {array.shape}, and {field} {old.shape}")
    # torch's sum is a mean here: see `rules.adagrad`.
    return to_jax(array, old.dtype) / (steps + 1) if kind == "Adagrad" else to_jax(array, old.dtype)


def _count(steps: int | None, label: str, old: jax.Array) -> jax.Array:
    if steps is None:
        raise DictionaryError(f"nothing says how many steps group {label} made: give scheduler= or steps=")
    return jnp.asarray(steps, old.dtype)


def _scalar(key: str, members: Mapping[str, Member], label: str, old: jax.Array) -> jax.Array:
    """Return a number that torch keeps for each parameter of a group, and optax once: all made the same steps."""
    values = [member.state[key] for member in members.values() if member.label == label and key in member.state]
    return to_jax(to_numpy(values[0]).reshape(old.shape), old.dtype) if values else old

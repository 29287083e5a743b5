"""The parameters of a torch optimizer, each with its group, its state, and the leaf of the JAX tree that it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from jaxopt_study.dictionary import DictionaryError
from jaxopt_study.dictionary.leaves import names_by_id
from jaxopt_study.port.kinds import kinds_of
from jaxopt_study.port.layouts import Layout
from jaxopt_study.port.leaves import match
from jaxopt_study.port.matching import Matching


@dataclass(frozen=True)
class Member:
    """A parameter of a torch optimizer.

    Attributes:
        index: Its number in the optimizer's `state_dict`.
        label: The number of its group, as text.
        name: Its name.
        tensor: It itself.
        state: What the optimizer keeps of it.
        layout: How it lies in both frameworks.
    """

    index: int
    label: str
    name: str
    tensor: torch.Tensor
    state: Mapping[str, Any]
    layout: Layout


def members_of(optimizer: torch.optim.Optimizer, params: Any, matching: Matching, model: Any) -> dict[str, Member]:
    """Return each parameter that the optimizer has and the tree too, by `jax.tree_util.keystr` of its path.

    Raises:
        DictionaryError: The optimizer's parameters have no names, a leaf has no counterpart, or a parameter has none.
    """
    groups = optimizer.param_groups
    names = names_by_id(groups, model)
    numbered = [(str(number), p) for number, group in enumerate(groups) for p in group["params"]]
    if any(id(p) not in names for _, p in numbered):
        words = "have no names: give model=, or make it of named_parameters()"
        raise DictionaryError(f"the optimizer's parameters {words if model is None else 'are not all of model='}")
    if model is None:
        named = {name: p for _, p in numbered for name in names[id(p)]}
    else:
        named = dict(model.named_parameters(remove_duplicate=False))
    shapes = {name: tuple(p.shape) for name, p in named.items()}
    leaves = match(params, shapes, matching, kinds_of(model))
    if any(p.is_complex() for _, p in numbered):
        raise DictionaryError("complex parameters: torch takes them as pairs of real numbers, optax does not")
    place = {id(p): (index, label) for index, (label, p) in enumerate(numbered)}
    found = {}
    for key, leaf in leaves.items():
        tensor = named[leaf.name]
        if id(tensor) in place:
            index, label = place[id(tensor)]
            found[key] = Member(index, label, leaf.name, tensor, optimizer.state.get(tensor, {}), leaf.layout)
    missing = {index for index, _ in place.values()} - {member.index for member in found.values()}
    if missing:
        first = names[id(numbered[min(missing)][1])][0]
        raise DictionaryError(f"no leaf of params is PyTorch's {first}: say which module is which by modules=")
    return found

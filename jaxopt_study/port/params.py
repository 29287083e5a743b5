"""A model's parameters and statistics, from PyTorch's `state_dict` to a tree of flax, linen or nnx, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import torch

from jaxopt_study.dictionary import DictionaryError
from jaxopt_study.port.arrays import to_jax, to_numpy, to_tensor
from jaxopt_study.port.kinds import kinds_of
from jaxopt_study.port.layouts import Shape
from jaxopt_study.port.leaves import match
from jaxopt_study.port.matching import (
    HINT,
    ONE_TO_ONE,
    Leaf,
    Matching,
    check_modules,
    is_statistic,
    left_over,
    short,
)

__all__ = ["place_of", "to_flax_params", "to_torch_params"]

StateDict = Mapping[str, torch.Tensor]


def to_flax_params(
    model: torch.nn.Module | StateDict,
    template: Any,
    matching: Matching = ONE_TO_ONE,
) -> Any:
    """Return the parameters and statistics of a PyTorch model as a flax tree.

    Names are matched: `kernel`, `embedding` and `scale` are PyTorch's `weight`, `mean` and `var` its `running_mean` and
    `running_var`. Kernels are transposed: (outputs, inputs) to (inputs, outputs), and of convolutions (outputs,
    inputs, *size) to (*size, inputs, outputs). Of transposed convolutions each axis of size is reversed too.

    Args:
        model: The module, or its `state_dict()`.
        template: A tree with the shapes and types of the result: the variables of a linen module
            (`jax.eval_shape(module.init, ...)` will do), its `params`, or an nnx state (`nnx.state(model)`).
        matching: What names and shapes do not say: modules of other names, linear layers after a flattened image, and
            of a `state_dict` transposed convolutions.

    Returns:
        A tree of the template's structure. Random state of nnx is the template's.

    Raises:
        DictionaryError: A leaf has no counterpart, PyTorch has parameters that no leaf stands for, a shape does not
            fit, or numbers would be rounded.

    Example:
        >>> import jax, jax.numpy as jnp, torch
        >>> model = torch.nn.ModuleDict({"out": torch.nn.Linear(3, 2)})
        >>> template = {"params": {"out": {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)}}}
        >>> params = to_flax_params(model, template)
        >>> bool((params["params"]["out"]["kernel"] == jnp.asarray(model["out"].weight.detach().numpy()).T).all())
        True
    """
    state = state_dict_of(model)
    leaves = match(template, shapes_of(state), matching, kinds_of(model))
    check_modules(leaves, matching)
    _check_left(state, leaves, template)

    def convert(path: Any, old: Any) -> Any:
        leaf = leaves.get(jax.tree_util.keystr(path))
        if leaf is None:
            return old
        try:
            return to_jax(leaf.layout.to_flax(to_numpy(state[leaf.name])), old.dtype)
        except DictionaryError as error:
            raise DictionaryError(f"{leaf.name}: {error}") from None

    return jax.tree_util.tree_map_with_path(convert, template)


def to_torch_params(
    tree: Any,
    model: torch.nn.Module | StateDict,
    matching: Matching = ONE_TO_ONE,
) -> dict[str, torch.Tensor]:
    """Return a flax tree as the `state_dict` of a PyTorch model, for `model.load_state_dict`.

    Args:
        tree: What `to_flax_params` returns: flax's variables, its `params`, or an nnx state.
        model: The module, or a `state_dict` of it: names, shapes and types are its own. What the tree does not have
            (statistics, if it holds parameters alone, and `num_batches_tracked`) is taken from it.
        matching: See `to_flax_params`.

    Raises:
        DictionaryError: As `to_flax_params`.

    Example:
        >>> import jax.numpy as jnp, torch
        >>> model = torch.nn.ModuleDict({"out": torch.nn.Linear(3, 2)})
        >>> state = to_torch_params({"out": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}}, model)
        >>> model.load_state_dict(state)
        <All keys matched successfully>
    """
    state = state_dict_of(model)
    leaves = match(tree, shapes_of(state), matching, kinds_of(model))
    check_modules(leaves, matching)
    _check_left(state, leaves, tree)
    values = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    found = {}
    for key, leaf in leaves.items():
        try:
            found[leaf.name] = to_tensor(leaf.layout.to_torch(to_numpy(values[key])), state[leaf.name].dtype)
        except DictionaryError as error:
            raise DictionaryError(f"{leaf.path}: {error}") from None
    tied = {place_of(state[name]): tensor for name, tensor in found.items()}
    return {name: found.get(name, tied.get(place_of(old), old.clone())) for name, old in state.items()}


def state_dict_of(model: Any) -> StateDict:
    """Return the tensors of a module, or of a `state_dict`, by name.

    Raises:
        DictionaryError: It is neither, or a tensor has no numbers.
    """
    state = model.state_dict() if isinstance(model, torch.nn.Module) else model
    if not isinstance(state, Mapping):
        raise DictionaryError(f"model is a {type(model).__name__}: give a torch.nn.Module or its state_dict()")
    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            raise DictionaryError(f"{name} is a {type(value).__name__}, no tensor: leave it out of the state_dict")
        if value.is_meta or isinstance(value, torch.nn.parameter.UninitializedTensorMixin):
            raise DictionaryError(f"{name} is a tensor without numbers: initialize the model first")
    return state


def shapes_of(state: StateDict) -> dict[str, Shape]:
    """Return the shape of each tensor."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _check_left(state: StateDict, leaves: Mapping[str, Leaf], tree: Any) -> None:
    """Refuse to leave a parameter behind, and to make two of one that is tied."""
    taken: dict[tuple[int, ...], str] = {}
    for leaf in leaves.values():
        other = taken.setdefault(place_of(state[leaf.name]), leaf.name)
        if other != leaf.name and state[leaf.name].numel():
            raise DictionaryError(
                f"{other} and {leaf.name} are one tensor in PyTorch, and two leaves of the tree, which would go apart: "
                "share them in flax, or give a state_dict in which they are two"
            )
    left = [f"{name} {tuple(state[name].shape)}" for name in left_over(state, leaves, _has_statistics(tree, leaves))]
    left = [words for words in left if place_of(state[words.rpartition(" (")[0]]) not in taken]
    if left:
        raise DictionaryError(f"no leaf is PyTorch's {short(left)}: {HINT}, or leave them out of the state_dict")


def _has_statistics(tree: Any, leaves: Mapping[str, Leaf]) -> bool:
    """Say whether a tree should hold statistics: it holds some, or is all of a linen module's variables."""
    return any(is_statistic(leaf.name) for leaf in leaves.values()) or (isinstance(tree, Mapping) and "params" in tree)


def place_of(tensor: torch.Tensor) -> tuple[int, ...]:
    """Return what two names of one tensor share."""
    if tensor.layout is not torch.strided:
        return (id(tensor),)
    return tensor.data_ptr(), tensor.numel(), *tensor.stride()

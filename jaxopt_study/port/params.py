"""A model's parameters and statistics, from PyTorch's `state_dict` to a tree of flax, linen or nnx, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import torch

from jaxopt_study.dictionary import DictionaryError
from jaxopt_study.dictionary.leaves import NONE, Modules
from jaxopt_study.port.arrays import to_jax, to_numpy, to_tensor
from jaxopt_study.port.layouts import Shape
from jaxopt_study.port.leaves import HINT, Leaf, Naming, left_over, match, short, transposed_in

__all__ = ["naming_of", "shapes_of", "state_dict_of", "to_flax_params", "to_torch_params"]

StateDict = Mapping[str, torch.Tensor]


def to_flax_params(
    model: torch.nn.Module | StateDict,
    template: Any,
    *,
    modules: Modules = NONE,
    flattened: Mapping[str, Shape] = NONE,  # type: ignore[assignment]
) -> Any:
    """Return the parameters and statistics of a PyTorch model as a flax tree.

    Names are matched: `kernel`, `embedding` and `scale` are PyTorch's `weight`, `mean` and `var` its `running_mean` and
    `running_var`. Kernels are transposed: (outputs, inputs) to (inputs, outputs), and of convolutions (outputs,
    inputs, *size) to (*size, inputs, outputs). Of transposed convolutions each axis of size is reversed too.

    Args:
        model: The module, or its `state_dict()`. Only a module says which convolutions are transposed ones.
        template: A tree with the shapes and types of the result: the variables of a linen module
            (`jax.eval_shape(module.init, ...)` will do), its `params`, or an nnx state (`nnx.state(model)`).
        modules: flax's path of a module, and PyTorch's, where they differ: {"Dense_0": "0"}.
        flattened: Of each linear layer after a flattened image, by PyTorch's name, the image's (channels, height,
            width): PyTorch flattens channels first and flax channels last, so the layer's inputs are reordered.

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
    naming = naming_of(model, modules, flattened)
    leaves = match(template, shapes_of(state), naming)
    _check_left(state, leaves)

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
    *,
    modules: Modules = NONE,
    flattened: Mapping[str, Shape] = NONE,  # type: ignore[assignment]
) -> dict[str, torch.Tensor]:
    """Return a flax tree as the `state_dict` of a PyTorch model, for `model.load_state_dict`.

    Args:
        tree: What `to_flax_params` returns: flax's variables, its `params`, or an nnx state.
        model: The module, or a `state_dict` of it: names, shapes and types are its own. What the tree does not have
            (statistics, if it holds parameters alone, and `num_batches_tracked`) is taken from it.
        modules: See `to_flax_params`.
        flattened: See `to_flax_params`.

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
    leaves = match(tree, shapes_of(state), naming_of(model, modules, flattened))
    _check_left(state, leaves)
    values = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    found = {}
    for key, leaf in leaves.items():
        try:
            found[leaf.name] = to_tensor(leaf.layout.to_torch(to_numpy(values[key])), state[leaf.name].dtype)
        except DictionaryError as error:
            raise DictionaryError(f"{leaf.path}: {error}") from None
    tied = {_place(state[name]): tensor for name, tensor in found.items()}
    return {name: found.get(name, tied.get(_place(old), old.clone())) for name, old in state.items()}


def naming_of(model: Any, modules: Modules, flattened: Mapping[str, Shape]) -> Naming:
    """Return what names and shapes do not say."""
    transposed = frozenset(transposed_in(model)) if isinstance(model, torch.nn.Module) else frozenset()
    return Naming(modules, flattened, transposed)


def state_dict_of(model: Any) -> StateDict:
    """Return the tensors of a module, or of a `state_dict`, by name."""
    state = model.state_dict() if isinstance(model, torch.nn.Module) else model
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise DictionaryError(f"model is a {type(model).__name__}: give a torch.nn.Module or its state_dict()")
    return state


def shapes_of(state: StateDict) -> dict[str, Shape]:
    """Return the shape of each tensor."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _check_left(state: StateDict, leaves: Mapping[str, Leaf]) -> None:
    """Refuse to leave a parameter behind; the second name of a tied one is none."""
    taken = {_place(state[leaf.name]) for leaf in leaves.values()}
    left = [
        f"{name} {tuple(state[name].shape)}" for name in left_over(state, leaves) if _place(state[name]) not in taken
    ]
    if left:
        raise DictionaryError(f"no leaf is PyTorch's {short(left)}: {HINT}, or leave them out of the state_dict")


def _place(tensor: torch.Tensor) -> tuple[int, ...]:
    """Return what two names of one tensor share."""
    return tensor.data_ptr(), tensor.numel(), *tensor.stride()

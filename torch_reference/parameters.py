"""The parameters in a user's state, as a tree of tensors by flax's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

__all__ = ["read"]

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, _BatchNorm)


def read(state: Any, params: Callable[[Any], Any] | None = None) -> Any:
    """Return what params(state) returns; without `params`, the module that the state is, or holds.

    Each module in it becomes its parameters by flax's names and in flax's layout. None is returned where the state
    holds no module, or several.
    """
    if params is not None:
        return _named(params(state))
    nodes = state.values() if isinstance(state, Mapping) else state if isinstance(state, list | tuple) else [state]
    modules = [node for node in nodes if isinstance(node, nn.Module)]
    return _named(modules[0]) if len(modules) == 1 else None


def _named(tree: Any) -> Any:
    if isinstance(tree, nn.Module):
        return _parameters(tree)
    if isinstance(tree, Mapping):
        return {name: _named(node) for name, node in tree.items()}
    return [_named(node) for node in tree] if isinstance(tree, list | tuple) else tree


def _parameters(model: nn.Module) -> dict[str, Any]:
    """Return a module's parameters by flax's names; those that are tied once."""
    tree: dict[str, Any] = {}
    seen: set[int] = set()
    for path, module in model.named_modules():
        for word, parameter in module.named_parameters(recurse=False):
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            node = tree
            for name in filter(None, path.split(".")):
                # flax numbers the modules of its Sequential so.
                node = node.setdefault(f"layers_{name}" if name.isdigit() else name, {})
            flax_word, leaf = _in_flax(module, word, parameter.detach())
            node[flax_word] = leaf
    return tree


def _in_flax(module: nn.Module, word: str, leaf: Tensor) -> tuple[str, Tensor]:
    """Return flax's word for a parameter of a module, and the parameter as flax holds it."""
    if word != "weight":
        return word, leaf
    if isinstance(module, nn.Linear):
        return "kernel", leaf.T
    if isinstance(module, _ConvTransposeNd):
        return "kernel", leaf.movedim((0, 1), (-2, -1)).flip(tuple(range(leaf.ndim - 2)))
    if isinstance(module, _ConvNd):
        return "kernel", leaf.movedim((0, 1), (-1, -2))
    if isinstance(module, NORMS):
        return "scale", leaf
    return ("embedding" if isinstance(module, nn.Embedding) else word), leaf

"""Which leaf of a tree is which torch parameter: by the names that torch has, and by those that flax has."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from jaxopt_study.dictionary.allowed import DictionaryError
from jaxopt_study.dictionary.build import map_with_path

Groups = Sequence[Mapping[str, Any]]
"""`param_groups` of a torch optimizer."""

LEAF_NAMES = {
    "kernel": "weight",
    "embedding": "weight",
    "scale": "weight",
    "mean": "running_mean",
    "var": "running_var",
}
"""flax's names of leaves, and PyTorch's."""
COLLECTIONS = ("params", "batch_stats")
"""flax linen's collections, with which the path of a leaf may begin."""
Modules = Mapping[str, str]
"""flax's path of a module, and PyTorch's, where they differ: {"Dense_0": "0"}; "" is the whole model."""
NONE: Modules = MappingProxyType({})
FROZEN = "frozen"
"""The label of leaves that torch leaves as they are."""


def is_frozen(leaf: Any) -> bool:
    """Say whether a parameter needs no gradient: torch leaves it as it is, unless one was left in it."""
    return not getattr(leaf, "requires_grad", True)


def names_of(groups: Groups, model: Any) -> dict[str, tuple[str, ...]]:
    """Return the names of the parameters of each group, and of those that torch leaves as they are."""
    known = names_by_id(groups, model)
    every = [p for group in groups for p in group["params"]] if model is None else list(model.parameters())
    label = {id(p): str(number) for number, group in enumerate(groups) for p in group["params"]}
    if model is not None and not label.keys() <= known.keys():
        raise DictionaryError("model has not all the parameters of the optimizer: give the module that it was made for")
    found: dict[str, tuple[str, ...]] = dict.fromkeys([*map(str, range(len(groups))), FROZEN], ())
    for leaf in every:
        key = FROZEN if is_frozen(leaf) else label.get(id(leaf), FROZEN)
        found[key] += known.get(id(leaf), ())
    return {key: names for key, names in found.items() if names or key != FROZEN}


def names_by_id(groups: Groups, model: Any) -> dict[int, tuple[str, ...]]:
    """Return the names of each parameter, as far as the groups or the model know them."""
    if model is None:
        named = [pair for g in groups if "param_names" in g for pair in zip(g["params"], g["param_names"], strict=True)]
        return {id(p): (name,) for p, name in named}
    if isinstance(model, type) or not callable(getattr(model, "named_parameters", None)):
        raise DictionaryError(f"model is a {type(model).__name__}: give the torch.nn.Module")
    known: dict[int, tuple[str, ...]] = {}
    # Of tied weights each name: the tree of the other framework has one of them.
    for name, leaf in model.named_parameters(remove_duplicate=False):
        known[id(leaf)] = (*known.get(id(leaf), ()), name)
    return known


def labels_by_name(names: Mapping[str, Sequence[str]], modules: Modules = NONE) -> Callable[[Any], Any]:
    """Return a function that labels the leaves of a tree by PyTorch's names of them, as `optax.partition` takes it.

    A leaf's path may be flax's (`kernel`, `embedding` and `scale` are `weight`), begin with `params`, be an nnx
    variable's, or be PyTorch's dotted name.

    Args:
        names: For each label the names of its parameters.
        modules: flax's path of a module, and PyTorch's, where they differ: {"Dense_0": "0"}.

    Raises:
        DictionaryError: When it is called: a leaf has none of the names.

    Example:
        >>> labels = labels_by_name({"0": ["out.weight"], "1": ["out.bias"]})
        >>> labels({"params": {"out": {"kernel": 0.0, "bias": 0.0}}})
        {'params': {'out': {'bias': '1', 'kernel': '0'}}}
    """
    groups = {name: label for label, members in names.items() for name in members}

    def label(path: Any, _leaf: Any) -> str:
        tried = torch_names(path, modules)
        for candidate in tried:
            if candidate in groups:
                return groups[candidate]
        which = " or ".join(tried) or "without a name"
        raise DictionaryError(f"torch has no parameter {which}: give labels=; it has {', '.join(groups)}")

    def labels(params: Any) -> Any:
        return map_with_path(label, params)

    return labels


def trainable(labels: Any) -> Callable[[Any], Any]:
    """Return a function that says which leaves of a tree are not frozen, as `optax.masked` takes it.

    Args:
        labels: See `LiveTranslation`.

    Example:
        >>> trainable({"a": "0", "b": "frozen"})({"a": 1.0, "b": 2.0})
        {'a': True, 'b': False}
    """

    def mask(tree: Any) -> Any:
        return map_with_path(lambda _, label: label != FROZEN, labels(tree) if callable(labels) else labels)

    return mask


def torch_names(path: Sequence[Any], modules: Modules = NONE) -> list[str]:
    """Return the names that PyTorch may have for a leaf, the likeliest first.

    Args:
        path: The keys of the leaf, as `jax.tree_util.tree_map_with_path` gives them.
        modules: flax's path of a module, and PyTorch's, where they differ.
    """
    words = path_words(path)
    paths = [words, words[1:]] if words[:1] and words[0] in COLLECTIONS else [words]
    paths += [path[:-1] for path in paths if path[-1:] == ["value"]]
    renamed = [_renamed(path, modules) for path in paths]
    if any(renamed):  # what the user says goes before what flax says
        paths = [path for path in renamed if path]
    return list(dict.fromkeys(name for path in paths if path for name in _spellings(path)))


def path_words(path: Sequence[Any]) -> list[str]:
    """Return the keys of a leaf as words."""
    return [str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in path]


def _renamed(path: Sequence[str], modules: Modules) -> list[str]:
    """Return the path with PyTorch's name of its module; nothing, if no module is said to have another one."""
    for length in range(len(path) - 1, -1, -1):
        for mine, other in modules.items():
            if path[:length] == (re.split("[./]", mine) if mine else []):
                return [*filter(None, other.split(".")), *path[length:]]
    return []


def _spellings(path: Sequence[str]) -> list[str]:
    """Return a leaf's dotted name, as it is and with torch's word for the leaf."""
    return [".".join(path), ".".join([*path[:-1], LEAF_NAMES.get(path[-1], path[-1])])]

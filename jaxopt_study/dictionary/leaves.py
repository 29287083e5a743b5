"""Which leaf of a tree is which torch parameter: by the names that torch has, and by those that flax has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxopt_study.dictionary.build import map_with_path
from jaxopt_study.dictionary.options import DictionaryError

Groups = Sequence[Mapping[str, Any]]
"""`param_groups` of a torch optimizer."""

LEAF_NAMES = {"kernel": "weight", "embedding": "weight", "scale": "weight"}
"""flax's names of leaves, and PyTorch's."""
FROZEN = "frozen"
"""The label of leaves that torch leaves as they are."""


def is_frozen(leaf: Any) -> bool:
    """Say whether a parameter needs no gradient: torch leaves it as it is, unless one was left in it."""
    return not getattr(leaf, "requires_grad", True)


def names_of(groups: Groups, model: Any) -> dict[str, tuple[str, ...]]:
    """Return the names of the parameters of each group, and of those that torch leaves as they are."""
    if model is None:
        every = [p for group in groups for p in group["params"]]
        named = [pair for g in groups if "param_names" in g for pair in zip(g["params"], g["param_names"], strict=True)]
        known: dict[int, tuple[str, ...]] = {id(p): (name,) for p, name in named}
    elif not callable(getattr(model, "named_parameters", None)):
        raise DictionaryError(f"model is a {type(model).__name__}: give the torch.nn.Module")
    else:
        known = {}
        # Of tied weights each name: the tree of the other framework has one of them.
        for name, leaf in model.named_parameters(remove_duplicate=False):
            known[id(leaf)] = (*known.get(id(leaf), ()), name)
        every = list(model.parameters())
    label = {id(p): str(number) for number, group in enumerate(groups) for p in group["params"]}
    if model is not None and not label.keys() <= known.keys():
        raise DictionaryError("model has not all the parameters of the optimizer: give the module that it was made for")
    found: dict[str, tuple[str, ...]] = dict.fromkeys([*map(str, range(len(groups))), FROZEN], ())
    for leaf in every:
        key = FROZEN if is_frozen(leaf) else label.get(id(leaf), FROZEN)
        found[key] += known.get(id(leaf), ())
    return {key: names for key, names in found.items() if names or key != FROZEN}


def labels_by_name(names: Mapping[str, Sequence[str]]) -> Callable[[Any], Any]:
    """Return a function that labels the leaves of a tree by PyTorch's names of them, as `optax.partition` takes it.

    A leaf's path may be flax's (`kernel`, `embedding` and `scale` are `weight`), begin with `params`, be an nnx
    variable's, or be PyTorch's dotted name.

    Args:
        names: For each label the names of its parameters.

    Raises:
        DictionaryError: When it is called: a leaf has none of the names.

    Example:
        >>> labels = labels_by_name({"0": ["out.weight"], "1": ["out.bias"]})
        >>> labels({"params": {"out": {"kernel": 0.0, "bias": 0.0}}})
        {'params': {'out': {'bias': '1', 'kernel': '0'}}}
    """
    groups = {name: label for label, members in names.items() for name in members}

    def label(path: Any, _leaf: Any) -> str:
        words = [str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in path]
        paths = [words, words[1:]] if words[:1] == ["params"] else [words]
        paths += [path[:-1] for path in paths if path[-1:] == ["value"]]
        tried = [name for path in paths if path for name in _spellings(path)]
        for candidate in tried:
            if candidate in groups:
                return groups[candidate]
        which = " or ".join(dict.fromkeys(tried)) or "without a name"
        raise DictionaryError(f"torch has no parameter {which}: give labels=; it has {', '.join(groups)}")

    def labels(params: Any) -> Any:
        return map_with_path(label, params)

    return labels


def _spellings(path: Sequence[str]) -> list[str]:
    """Return a leaf's dotted name, as it is and with torch's word for the leaf."""
    return [".".join(path), ".".join([*path[:-1], LEAF_NAMES.get(path[-1], path[-1])])]

"""Parameter trees as flat mappings of leaf names to arrays, and what may be wrong with two of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Tree = Any
"""Mappings, lists, tuples, named tuples and dataclasses, nested, with arrays of NumPy, JAX or PyTorch as leaves."""

Leaf = npt.NDArray[Any]
Leaves = dict[str, Leaf]


DEPTH = 100
"""Trees may be nested so many times."""

ACTIVATIONS = "@activations"
"""What lies under this name keeps its order: that of the forward pass."""


def flatten(tree: Tree, where: str = "") -> Leaves:
    """Return the leaves by their names from the root, joined by slashes, in sorted order.

    The elements of a list or tuple are named by their numbers, the fields of a named tuple or dataclass by their names.
    None is no leaf.

    Raises:
        ValueError: It is no tree of numbers, holds itself, or has one name twice; `where` is named in the message.

    Example:
        >>> flatten({"layer": [np.ones(2), np.zeros(3)]})
        {'layer/0': array([1., 1.]), 'layer/1': array([0., 0., 0.])}
    """
    if _children(tree) is None:
        raise ValueError(
            f"{where or 'this'} is no parameter tree but a {type(tree).__name__}: give names and NumPy arrays"
        )
    leaves: Leaves = {}
    for name, leaf in _leaves(tree, where):
        if name in leaves:
            raise ValueError(f"{where}: two leaves have the name {name}")
        if leaf.dtype.kind not in "fiub" and leaf.dtype.name != "bfloat16":
            raise ValueError(f"{where}: {name} holds {leaf.dtype} and not real numbers")
        leaves[name] = leaf
    return leaves


def shown(text: str) -> str:
    r"""Return a text with its control characters escaped: a leaf's name may hold any, and terminals obey them.

    Example:
        >>> print(shown("a\tb"))
        a\tb
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def copied(tree: Tree) -> Leaves:
    """Return the leaves of a tree, copied: those of live arrays change with the next step."""
    return {name: leaf.copy() for name, leaf in flatten(tree).items()}


def walk(
    step: Callable[[Any, Any], Any],
    state: Any,
    batches: Iterable[Any],
    params: Callable[[Any], Tree] = lambda state: state,
) -> Iterator[Tree]:
    """Yield the parameters before the first step and after each, as copies.

    Args:
        step: step(state, batch) makes one step and returns the new state, or None where it changed `state` in place,
            as a PyTorch step does.
        state: The state before the first step.
        batches: What each step is given.
        params: params(state) is the tree of the parameters: names to arrays of NumPy, JAX or PyTorch.
    """
    yield copied(params(state))
    for batch in batches:
        after = step(state, batch)
        state = state if after is None else after
        yield copied(params(state))


def check_alike(
    first: Leaves, second: Leaves, where: str, names: tuple[str, str] = ("the first tree", "the second tree")
) -> None:
    """Check that two trees, of these names, have the same leaves and shapes.

    Raises:
        ValueError: They do not; the message says which leaf.
    """
    if first.keys() != second.keys():
        words = [
            f"only {which} has {', '.join(sorted(mine.keys() - other.keys()))}"
            for which, mine, other in zip(names, (first, second), (second, first), strict=True)
            if mine.keys() - other.keys()
        ]
        raise ValueError(f"{where}: {'; '.join(words)}")
    for name, leaf in first.items():
        if leaf.shape != second[name].shape:
            raise ValueError(
                f"{where}: {name} has shape {leaf.shape} in {names[0]} and {second[name].shape} in {names[1]}"
                + _transposed(leaf, second[name])
            )


def distance(first: Leaf, second: Leaf) -> Leaf:
    """Return |first - second|, element by element: 0 where both are NaN, infinite where only one is."""
    a, b = first.astype(float), second.astype(float)
    with np.errstate(invalid="ignore"):  # inf - inf
        found = np.asarray(a - b)
    np.abs(found, out=found)
    if np.isfinite(found.max(initial=0)):  # NaN is larger than any number to it
        return found
    found = np.where(a == b, 0.0, found)
    both = np.isnan(a) & np.isnan(b)
    return np.where(both, 0.0, np.where(np.isnan(found), np.inf, found))


def some(names: Sequence[str]) -> str:
    """Return the first names of several."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _leaves(tree: Tree, where: str, path: str = "", above: tuple[int, ...] = ()) -> Iterator[tuple[str, Leaf]]:
    if id(tree) in above:
        raise ValueError(f"{where or 'this'} holds itself, at {path[:-1]}")
    if len(above) > DEPTH:
        raise ValueError(f"{where or 'this'} is nested more than {DEPTH} times")
    for name, node in _children(tree, not path.startswith(ACTIVATIONS)) or ():
        if _children(node) is not None:
            yield from _leaves(node, where, f"{path}{name}/", (*above, id(tree)))
        elif node is not None:
            yield f"{path}{name}", _array(node)


def _children(node: Any, in_order: bool = True) -> list[tuple[Any, Any]] | None:
    """Return the names and nodes below a node, in sorted order if `in_order`, or None if it is a leaf."""
    if hasattr(node, "__array__"):  # a leaf, as most nodes are: this is quicker than what follows
        return None
    if isinstance(node, Mapping):
        return sorted(node.items(), key=_by_name) if in_order else list(node.items())
    if isinstance(node, tuple) and hasattr(node, "_fields"):
        return sorted(zip(node._fields, node, strict=True), key=lambda item: item[0])
    if isinstance(node, list | tuple):
        return list(enumerate(node))
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        names = sorted(field.name for field in dataclasses.fields(node))
        return [(name, getattr(node, name)) for name in names]
    return None


def _by_name(item: tuple[Any, Any]) -> str:
    name = str(item[0])
    return ACTIVATIONS if name.startswith(ACTIVATIONS) else name


def _array(node: Any) -> Leaf:
    if not hasattr(node, "detach"):
        return np.asarray(node)
    # A PyTorch parameter must be detached before NumPy may see it, and NumPy has no bfloat16.
    node = node.detach()
    node = node.float() if str(node.dtype) == "torch.bfloat16" else node
    return np.asarray(node.numpy() if node.device.type == "cpu" else node.cpu().numpy())


def _transposed(first: Leaf, second: Leaf) -> str:
    if first.ndim < 2 or first.shape != second.T.shape:
        return ""
    same = np.allclose(first.astype(float), second.T.astype(float), rtol=1e-5, atol=0)
    return ": one is the transpose of the other" if same else ": one is transposed, and the values differ too"

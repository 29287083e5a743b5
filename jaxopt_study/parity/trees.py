"""Parameter trees as flat mappings of leaf names to arrays, and what may be wrong with two of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Tree = Mapping[str, Any]
Leaf = npt.NDArray[Any]
Leaves = dict[str, Leaf]


def flatten(tree: Tree, where: str = "") -> Leaves:
    """Return the leaves by their names from the root, joined by slashes, in sorted order.

    Raises:
        ValueError: It is no tree of numbers; `where` says in the message which one.
    """
    if not isinstance(tree, Mapping):
        raise ValueError(  # noqa: TRY004 - one kind of error for all that cannot be compared
            f"{where or 'this'} is no parameter tree but a {type(tree).__name__}: give names and NumPy arrays"
        )
    leaves = dict(_leaves(tree))
    for name, leaf in leaves.items():
        if leaf.dtype.kind not in "fiub" and leaf.dtype.name != "bfloat16":
            raise ValueError(f"{where}: {name} holds {leaf.dtype} and not real numbers")
    return leaves


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
    yield _copy(params(state))
    for batch in batches:
        after = step(state, batch)
        state = state if after is None else after
        yield _copy(params(state))


def check_alike(first: Leaves, second: Leaves, where: str) -> None:
    """Check that two trees have the same names and shapes.

    Raises:
        ValueError: They do not; the message says which leaf.
    """
    if first.keys() != second.keys():
        words = [
            f"only the {which} tree has {', '.join(sorted(mine.keys() - other.keys()))}"
            for which, mine, other in (("first", first, second), ("second", second, first))
            if mine.keys() - other.keys()
        ]
        raise ValueError(f"{where}: {'; '.join(words)}")
    for name, leaf in first.items():
        if leaf.shape != second[name].shape:
            raise ValueError(
                f"{where}: {name} has shape {leaf.shape} in the first tree and {second[name].shape} in the second"
                + _transposed(leaf, second[name])
            )


def distance(first: Leaf, second: Leaf) -> Leaf:
    """Return |first - second|, element by element: 0 where both are NaN, infinite where only one is."""
    a, b = first.astype(float), second.astype(float)
    with np.errstate(invalid="ignore"):  # inf - inf
        found = np.where(a == b, 0.0, np.abs(a - b))
    both = np.isnan(a) & np.isnan(b)
    return np.where(both, 0.0, np.where(np.isnan(found), np.inf, found))


def _leaves(tree: Tree, path: str = "") -> Iterator[tuple[str, Leaf]]:
    for name, node in sorted(tree.items(), key=lambda item: str(item[0])):
        if isinstance(node, Mapping):
            yield from _leaves(node, f"{path}{name}/")
        else:
            # A PyTorch parameter must be detached before NumPy may see it.
            yield f"{path}{name}", np.asarray(node.detach().cpu() if hasattr(node, "detach") else node)


def _copy(tree: Tree) -> Leaves:
    return {name: leaf.copy() for name, leaf in flatten(tree).items()}


def _transposed(first: Leaf, second: Leaf) -> str:
    if first.ndim < 2 or first.shape != second.T.shape:
        return ""
    same = np.allclose(first.astype(float), second.T.astype(float), rtol=1e-5, atol=0)
    return ": one is the transpose of the other" if same else ": one is transposed, and the values differ too"

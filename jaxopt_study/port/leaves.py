"""The leaves of a JAX tree: which of them are a model's numbers, and which PyTorch name each has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from jaxopt_study.dictionary import DictionaryError
from jaxopt_study.dictionary.leaves import path_words
from jaxopt_study.port.layouts import Shape
from jaxopt_study.port.matching import NOTHING_KNOWN, Kinds, Leaf, Matching, Shapes, matched


def match(template: Any, shapes: Shapes, matching: Matching, kinds: Kinds = NOTHING_KNOWN) -> dict[str, Leaf]:
    """Return the PyTorch counterpart of each leaf of a tree, by `jax.tree_util.keystr` of the leaf's path.

    Args:
        template: A tree of arrays or of `jax.ShapeDtypeStruct`: flax's variables, its `params`, or an nnx state.
        shapes: The shape of each PyTorch parameter and buffer.
        matching: What names and shapes do not say.
        kinds: The kind of each PyTorch module, if they are known.

    Raises:
        DictionaryError: See `matching.matched`.
    """
    return matched(_numbers(template), shapes, matching, kinds)


def _numbers(template: Any) -> Iterator[tuple[str, Sequence[str], Shape]]:
    for path, leaf in jax.tree_util.tree_leaves_with_path(template):
        words = path_words(path)
        if is_number(leaf, words):
            yield jax.tree_util.keystr(path), words, tuple(leaf.shape)


def is_number(leaf: Any, words: Sequence[str]) -> bool:
    """Say whether a leaf holds numbers of the model, not the state of a random generator of nnx.

    Raises:
        DictionaryError: It is no array.
    """
    if not hasattr(leaf, "dtype") or not hasattr(leaf, "shape"):
        raise DictionaryError(f"{'/'.join(words) or 'the template'} is a {type(leaf).__name__}: give a tree of arrays")
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return False
    return np.dtype(leaf.dtype) != np.uint32 or not {"rngs", "count"} & set(words)

"""Which PyTorch name each leaf of a JAX tree has, and how both frameworks hold it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from jaxopt_study.dictionary import DictionaryError
from jaxopt_study.dictionary.leaves import Modules, path_words, torch_names
from jaxopt_study.port.layouts import Layout, Shape, layout_of

Shapes = Mapping[str, Shape]
"""The shape of each PyTorch parameter and buffer by its name."""
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""PyTorch's buffers of batch normalization: flax keeps them apart from the parameters, and the last one not at all."""
HINT = 'say which module is which by modules={"flax/path": "torch.path"}'


@dataclass(frozen=True)
class Leaf:
    """A leaf of a JAX tree, and the PyTorch parameter or buffer that it is.

    Attributes:
        path: Its keys, joined by slashes.
        name: PyTorch's name of it.
        layout: How it lies in both.
    """

    path: str
    name: str
    layout: Layout


@dataclass(frozen=True)
class Matching:
    """What the names and shapes of two models do not say of each other.

    Attributes:
        modules: flax's path of a module, and PyTorch's, where they differ: {"Dense_0": "0"}.
        flattened: Of each linear layer after a flattened image, by PyTorch's name, the image's (channels, height,
            width): PyTorch flattens channels first and flax channels last, so the layer's inputs are reordered.
        transposed: The PyTorch names of transposed convolutions; a `torch.nn.Module` says them itself.
    """

    modules: Modules = field(default_factory=dict)
    flattened: Mapping[str, Shape] = field(default_factory=dict)
    transposed: Collection[str] = ()


ONE_TO_ONE = Matching()
"""Names and shapes say it all."""


def match(template: Any, shapes: Shapes, matching: Matching) -> dict[str, Leaf]:
    """Return the PyTorch counterpart of each leaf of a tree, by `jax.tree_util.keystr` of the leaf's path.

    Args:
        template: A tree of arrays or of `jax.ShapeDtypeStruct`: flax's variables, its `params`, or an nnx state.
        shapes: The shape of each PyTorch parameter and buffer.
        matching: What names and shapes do not say.

    Raises:
        DictionaryError: A leaf has no counterpart, or one of a shape that does not fit.
    """
    found, missing = {}, []
    for path, leaf in jax.tree_util.tree_leaves_with_path(template):
        words = path_words(path)
        if not is_number(leaf):
            continue
        name = next((n for n in torch_names(path, matching.modules) if n in shapes), None)
        if name is None:
            missing.append(f"{'/'.join(words)} {tuple(leaf.shape)}")
        else:
            found[jax.tree_util.keystr(path)] = _leaf(words, name, shapes[name], tuple(leaf.shape), matching)
    if missing:
        left = [f"{name} {shapes[name]}" for name in left_over(shapes, found)]
        raise DictionaryError(f"PyTorch has no parameter for {short(missing)}; it has {short(left)} left: {HINT}")
    twice = sorted({leaf.name for leaf in found.values() if [o.name for o in found.values()].count(leaf.name) > 1})
    if twice:
        raise DictionaryError(f"two leaves are PyTorch's {short(twice)}: {HINT}")
    unused = [n for n in matching.flattened if f"{n}.weight" not in {leaf.name for leaf in found.values()}]
    if unused:
        raise DictionaryError(f"flattened= names {unused[0]}, which is no layer of the template: give PyTorch's name")
    return found


def is_number(leaf: Any) -> bool:
    """Say whether a leaf holds numbers of the model, not the state of a random generator."""
    kind = leaf.dtype
    return not jax.dtypes.issubdtype(kind, jax.dtypes.prng_key) and np.dtype(kind).kind != "u"


def left_over(names: Iterable[str], leaves: Mapping[str, Leaf]) -> list[str]:
    """Return the PyTorch parameters, without the statistics of batch normalization, that no leaf stands for."""
    taken = {leaf.name for leaf in leaves.values()}
    return [name for name in names if name not in taken and name.rpartition(".")[2] not in STATISTICS]


def _leaf(words: list[str], name: str, torch_shape: Shape, flax_shape: Shape, matching: Matching) -> Leaf:
    path, module = "/".join(words), name.rpartition(".")[0]
    word = words[-2] if words[-1] == "value" and len(words) > 1 else words[-1]
    image = tuple(matching.flattened.get(module, ())) if word == "kernel" else ()
    layout = layout_of(word, torch_shape, flax_shape, module in matching.transposed, image)
    if image and math.prod(image) != torch_shape[-1]:
        raise DictionaryError(f"{name} has {torch_shape[-1]} inputs, and a flattened image {image} {math.prod(image)}")
    if layout is None:
        raise DictionaryError(
            f"{name} {torch_shape} does not fit {path} {flax_shape}: a kernel of a linear layer is the transpose, of a "
            "convolution (*size, inputs, outputs)"
        )
    return Leaf(path, name, layout)


def short(names: Sequence[str]) -> str:
    """Return the first names of a list."""
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "") if names else "nothing"

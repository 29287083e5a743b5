"""Which PyTorch name each leaf of a JAX tree has, and how both frameworks hold it: by names and shapes alone.

It loads no framework.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from jaxopt_study.dictionary import DictionaryError
from jaxopt_study.dictionary.leaves import Modules, torch_names
from jaxopt_study.port.layouts import CONV, CONV_TRANSPOSE, DENSE, FLATTENED, SAME, Layout, Shape, layout_of

Shapes = Mapping[str, Shape]
"""The shape of each PyTorch parameter and buffer by its name."""
STATISTICS = ("running_mean", "running_var")
"""PyTorch's buffers of batch normalization, which flax keeps apart from the parameters."""
COUNTER = "num_batches_tracked"
"""Another one, which flax does not have."""
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
Kinds = Mapping[str, str]
"""Of each PyTorch module, by its name, `LINEAR`, a layout of `layouts`, or the name of its class."""
LINEAR = "linear"
NOTHING_KNOWN: Kinds = {}


def matched(
    leaves: Iterable[tuple[str, Sequence[str], Shape]],
    shapes: Shapes,
    matching: Matching = ONE_TO_ONE,
    kinds: Kinds = NOTHING_KNOWN,
) -> dict[str, Leaf]:
    """Return the PyTorch counterpart of each leaf, by the leaf's key.

    Args:
        leaves: The key, the path and the shape of each leaf in flax.
        shapes: The shape of each PyTorch parameter and buffer.
        matching: What names and shapes do not say.
        kinds: The kind of each PyTorch module, if they are known.

    Raises:
        DictionaryError: A leaf has no counterpart, or one of a shape that does not fit, or `matching` names what is
            not there.
    """
    found, missing = {}, []
    for key, path, shape in leaves:
        name = next((n for n in torch_names(path, matching.modules) if n in shapes), None)
        if name is None:
            missing.append(f"{'/'.join(path)} {shape}")
        else:
            found[key] = _leaf(path, name, shapes[name], shape, matching, kinds)
    if missing:
        left = [f"{name} {shapes[name]}" for name in left_over(shapes, found)]
        raise DictionaryError(f"PyTorch has no parameter for {short(missing)}; it has {short(left)} left: {HINT}")
    names = [leaf.name for leaf in found.values()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DictionaryError(f"two leaves are PyTorch's {short(twice)}: {HINT}")
    _check_used(found, matching)
    return found


def _check_used(found: Mapping[str, Leaf], matching: Matching) -> None:
    """Refuse names that say nothing, since they are misspelt."""
    kinds = {leaf.name.rpartition(".")[0]: leaf.layout.kind for leaf in found.values() if leaf.layout.kind != SAME}
    for said, kind, other, words in (
        (matching.flattened, FLATTENED, DENSE, "linear layer"),
        (matching.transposed, CONV_TRANSPOSE, CONV, "convolution"),
    ):
        if isinstance(said, str):
            raise DictionaryError(f"{said!r} must be a list of names")
        wrong = [name for name in said if kinds.get(name) != kind]
        if wrong:
            there = [name for name in kinds if kinds[name] in (kind, other)]
            known = f"the {words}s are {short(there)}" if there else f"there is no {words}"
            raise DictionaryError(f"{wrong[0]!r} is PyTorch's name of no {words}: {known}")


def check_modules(leaves: Mapping[str, Leaf], matching: Matching) -> None:
    """Refuse a module of `matching` that the tree does not have.

    Raises:
        DictionaryError: There is such a one.
    """
    for name in matching.modules:
        path = name.replace(".", "/")
        if path and not any(f"/{path}/" in f"/{leaf.path}" for leaf in leaves.values()):
            raise DictionaryError(f"modules= names {name!r}, which is no module of the template: give flax's path")


def left_over(names: Iterable[str], leaves: Mapping[str, Leaf], statistics: bool = False) -> list[str]:
    """Return the PyTorch parameters that no leaf stands for; with `statistics` the running ones too."""
    taken = {leaf.name for leaf in leaves.values()}
    left = [name for name in names if name not in taken and name.rpartition(".")[2] != COUNTER]
    return [name for name in left if statistics or not is_statistic(name)]


def is_statistic(name: str) -> bool:
    """Say whether a buffer of PyTorch is a running mean or variance."""
    return name.rpartition(".")[2] in STATISTICS


def _leaf(
    words: Sequence[str], name: str, torch_shape: Shape, flax_shape: Shape, matching: Matching, kinds: Kinds
) -> Leaf:
    path = "/".join(words)
    module, _, torch_word = name.rpartition(".")
    word = words[-2] if words[-1] == "value" and len(words) > 1 else words[-1]
    kernel = word == "kernel" and torch_word == "weight"
    if kernel and kinds.get(module, LINEAR) not in (LINEAR, CONV, CONV_TRANSPOSE):
        raise DictionaryError(f"{name} is of a {kinds[module]}, and {path} a kernel: its layout is not known")
    if word == "scale" and len(torch_shape) > 1:
        raise DictionaryError(
            f"{name} {torch_shape} scales several axes, whose order is not known: {path} {flax_shape}"
        )
    image = tuple(matching.flattened.get(module, ())) if kernel else ()
    transposed = module in matching.transposed or kinds.get(module) == CONV_TRANSPOSE
    layout = layout_of(word if kernel or word == "bias" else "", torch_shape, flax_shape, transposed, image)
    if image and math.prod(image) != torch_shape[-1]:
        raise DictionaryError(f"{name} has {torch_shape[-1]} inputs, and a flattened image {image} {math.prod(image)}")
    if layout is None:
        hint = ": of a linear layer flax's is (inputs, outputs), of a convolution (*size, inputs, outputs)"
        raise DictionaryError(f"{name} {torch_shape} does not fit {path} {flax_shape}{hint if kernel else ''}")
    return Leaf(path, name, layout)


def short(names: Sequence[str]) -> str:
    """Return the first names of a list."""
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "") if names else "nothing"

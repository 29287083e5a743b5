"""The tree that flax would have for a PyTorch `state_dict`, as far as names and shapes say it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jax
import torch

from jaxopt_study.dictionary import DictionaryError
from jaxopt_study.port.arrays import to_numpy
from jaxopt_study.port.folder import Said
from jaxopt_study.port.matching import COUNTER

BUFFERS = {"running_mean": "mean", "running_var": "var"}
"""PyTorch's statistics of batch normalization, and flax's names of them."""


WITHOUT_COUNTERPART = {
    r"(in|q|k|v)_proj_weight": "nn.MultiheadAttention",
    r"(weight|bias)_(ih|hh|hr)(_l\d+)?(_reverse)?": "a recurrent layer",
    r"parametrizations\.\w+\.\w+": "a parametrization, such as weight normalization",
    r"weight(_\w+)?_(g|v|orig|u)": "weight normalization, spectral normalization or pruning",
}
"""Names of tensors by the modules that alone have them: flax computes from other parameters there."""


def template_of(state: Mapping[str, torch.Tensor], kinds: Said) -> dict[str, Any]:
    """Return flax's variables for a `state_dict`, as `jax.ShapeDtypeStruct`: `params`, and `batch_stats` if it has any.

    The weight of a vector's length is a `scale`, a matrix is the `kernel` of a linear layer or an `embedding`, and what
    has more axes is the `kernel` of a convolution. Names that flax does not know stay as they are.

    Raises:
        DictionaryError: A weight may be of two kinds of layer, or is of one that flax computes from other parameters, a
            name of `kinds` is no module, or one name is within another.
    """
    _check_counterparts(state)
    modules = {name.rpartition(".")[0] for name in state}
    said = [*kinds.embedding, *kinds.linear, *kinds.transposed]
    unknown = [name for name in said if name not in modules]
    twice = [name for name in said if said.count(name) > 1]
    if twice:
        raise DictionaryError(f"{twice[0]} is said to be two kinds of layer")
    if unknown:
        raise DictionaryError(f"the checkpoint has no module {unknown[0]}: it has {', '.join(sorted(modules)[:8])}")
    tree: dict[str, Any] = {}
    for name, tensor in state.items():
        module, _, leaf = name.rpartition(".")
        if leaf == COUNTER:
            continue
        collection = "batch_stats" if leaf in BUFFERS else "params"
        word, shape = _leaf(module, leaf, tuple(tensor.shape), state, kinds)
        place = tree.setdefault(collection, {})
        for key in filter(None, module.split(".")):
            place = place.setdefault(key, {})
        if not isinstance(place, dict) or word in place:
            raise DictionaryError(f"{name}: there is a second leaf in its place")
        place[word] = jax.ShapeDtypeStruct(shape, to_numpy(tensor[..., :0] if tensor.ndim else tensor).dtype)
    return tree


def _check_counterparts(state: Mapping[str, torch.Tensor]) -> None:
    for name in state:
        for pattern, what in WITHOUT_COUNTERPART.items():
            if re.fullmatch(rf"(.*\.)?{pattern}", name):
                raise DictionaryError(f"{name} is of {what}, which has no counterpart by name in flax")


def _leaf(
    module: str, leaf: str, shape: tuple[int, ...], state: Mapping[str, torch.Tensor], kinds: Said
) -> tuple[str, tuple[int, ...]]:
    if leaf in BUFFERS:
        return BUFFERS[leaf], shape
    if leaf != "weight" or not shape:
        return leaf, shape
    if len(shape) == 1:
        return "scale", shape
    if len(shape) > 2:
        channels = shape[:2] if module in kinds.transposed else shape[1::-1]
        return "kernel", (*shape[2:], *channels)
    if module in kinds.embedding:
        return "embedding", shape
    if module not in kinds.linear and f"{module}.bias".removeprefix(".") not in state:
        raise DictionaryError(
            f"{module or 'the model'}.weight {shape} is of a linear layer without bias or of an embedding: give "
            f"--linear {module or repr('')} or --embedding {module or repr('')}"
        )
    return "kernel", shape[::-1]

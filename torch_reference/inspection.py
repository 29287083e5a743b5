"""What one call of a loss shows: its value, its kinks, and how much memory a derivative keeps.

A kink is an operation that depends on the parameters, has a jump in a derivative, and reaches the loss. What passes
`Tensor.detach` does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["Inspection", "inspect", "kept_bytes"]

# Operations whose second derivative does not exist everywhere, by the names of autograd's nodes. Automatic
# differentiation takes the derivative of one side there.
KINKS = {
    "Abs", "Maximum", "Minimum", "Max", "Min", "Amax", "Amin", "Aminmax", "Fmax", "Fmin", "Cummax", "Cummin", "Sgn",
    "Sign", "Floor", "Ceil", "Round", "Trunc", "Frac", "Remainder", "Fmod", "Clamp", "ClampMin", "ClampMax", "Relu",
    "LeakyRelu", "RreluWithNoise", "PreluKernel", "Elu", "Celu", "Hardtanh", "Hardsigmoid", "Hardswish", "Hardshrink",
    "Softshrink", "Threshold", "Sort", "Topk", "Kthvalue", "Median", "Mode", "SmoothL1Loss", "HuberLoss",
    "MultiMarginLoss", "MultilabelMarginLoss", "MaxPool2DWithIndices", "MaxPool3DWithIndices", "AdaptiveMaxPool2D",
    "AdaptiveMaxPool3D", "MaxUnpool2D", "FractionalMaxPool2D",
}  # fmt: skip
ONCE = {
    "MkldnnRnnLayer": "nn.LSTM in float32 on a CPU has no second derivative: use float64, or call this inside `with "
    "torch.backends.mkldnn.flags(enabled=False)`",
    "WeightNormInterface": "the second derivative of weight_norm is wrong in PyTorch 2.13: remove it by "
    "torch.nn.utils.parametrize.remove_parametrizations, or write it as g * v / v.norm(dim=1, keepdim=True)",
    "Hardsigmoid": "hardsigmoid has no second derivative in PyTorch: write it as torch.clamp(x / 6 + 0.5, 0, 1)",
}
"""Operations that PyTorch can differentiate only once, or twice wrongly, and what to do."""
NO_CHOICE = {"isfinite", "isnan", "isinf", "isposinf", "isneginf"}
"""Comparisons that choose nothing where the loss is finite."""


class Inspection(NamedTuple):
    """What one call of a loss shows.

    Attributes:
        value: What it returns; in JAX its shape and type.
        kinks: The operations that have no second derivative somewhere.
        kept_bytes: About how many bytes of intermediate values a derivative keeps for each vector.
    """

    value: Any
    kinks: list[str]
    kept_bytes: int


def inspect(loss: Callable[..., Any], params: Any, *args: Any) -> Inspection:
    """Call a loss once, and return what is seen.

    Raises:
        ValueError: The loss changes a tensor that it did not make; nothing was changed.
        NotImplementedError: An operation has no second derivative in PyTorch.
    """
    with Choices() as choices, Unchanged():
        value, kept = _call(loss, params, *args)
    names = set(_operations(getattr(value, "grad_fn", None)))
    for name in names & ONCE.keys():
        raise NotImplementedError(ONCE[name])
    return Inspection(value, sorted(names & KINKS | choices.found), kept)


def kept_bytes(loss: Callable[..., Any], params: Any, *args: Any) -> int:
    """Return about how many bytes of intermediate values a derivative keeps for each vector; the loss is called."""
    return _call(loss, params, *args)[1]


def _call(loss: Callable[..., Any], params: Any, *args: Any) -> tuple[Any, int]:
    """Return the loss, and the bytes that its derivative keeps."""
    sizes: list[int] = []

    def measure(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel() * tensor.element_size())
        return tensor

    leaves = pytree.tree_map(lambda leaf: leaf.detach().requires_grad_(), params)
    hooks = torch.autograd.graph.saved_tensors_hooks(measure, lambda tensor: tensor)
    with torch.enable_grad(), hooks:
        value = loss(leaves, *args)
    return value, sum(sizes)


class Choices(TorchFunctionMode):
    """Finds comparisons of what depends on the parameters, where their results choose what reaches the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.words: dict[int, set[str]] = {}
        self.kept: list[Tensor] = []  # an id is a tensor's own while the tensor lives

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        """Call the function, and see what it makes of what was chosen."""
        given = list(_tensors((args, kwargs)))
        dependent = any(tensor.requires_grad for tensor in given)
        result = func(*args, **(kwargs or {}))
        made = list(_tensors(result))
        words = {word for tensor in given for word in self.words.get(id(tensor), ())}
        name = getattr(func, "__name__", "")
        if dependent and (name == "__setitem__" or any(tensor.requires_grad for tensor in made)):
            self.found |= words
        for tensor in made:
            if tensor.requires_grad or name in NO_CHOICE or (tensor.is_floating_point() and not words):
                continue
            new = {"comparison" if tensor.dtype == torch.bool else name} if dependent else set()
            self.words[id(tensor)] = words | new
            self.kept.append(tensor)
        return result


class Normalizations(TorchFunctionMode):
    """Finds normalizations by layers, batches and instances.

    Their backward pass, batched by vmap, takes the saved mean and deviation for constants when it is differentiated
    (torch 2.13). So `torch.func.hessian` has wrong rows for their weights.
    """

    found = False

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        """Call the function, and see whether it normalizes."""
        self.found |= getattr(func, "__name__", "").endswith(("layer_norm", "batch_norm", "instance_norm"))
        return func(*args, **(kwargs or {}))


class Unchanged(TorchDispatchMode):
    """Refuses an operation that changes a tensor which was not made under this mode."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[int, Tensor] = {}  # kept, so that no other takes its place in memory

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        """Call the operation if all that it changes was made here.

        Raises:
            ValueError: Something was not.
        """
        kwargs = kwargs or {}
        for tensor in _changed(func, args, kwargs):
            if _storage(tensor) not in self.made:
                raise ValueError(
                    f"the loss changes a tensor that it did not make ({func.overloadpacket.__name__}), as batch "
                    "normalization in training mode does: call model.eval(), or, to normalize by the batch, "
                    "torch.func.replace_all_batch_norm_modules_(model)"
                )
        result = func(*args, **kwargs)
        fresh = func.overloadpacket.__name__ == "lift_fresh"  # what torch.tensor makes
        given = set() if fresh else {_storage(tensor) for tensor in _tensors((args, kwargs))}
        for tensor in _tensors(result):
            if (place := _storage(tensor)) not in given:
                self.made[place] = tensor.detach()
        return result


def _changed(func: Any, args: Sequence[Any], kwargs: Any) -> Iterator[Tensor]:
    """Yield the tensors that an operation changes."""
    if func.overloadpacket.__name__ in ("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm"):
        yield from _tensors(args[3:5]) if args[5] else ()  # running mean and variance, in training mode
    for place, name in _written(func):
        yield from _tensors(args[place] if place < len(args) else kwargs.get(name))


@cache
def _written(func: Any) -> list[tuple[int, str]]:
    """Return place and name of the arguments that an operation changes."""
    arguments = enumerate(func._schema.arguments)
    return [(i, a.name) for i, a in arguments if a.alias_info is not None and a.alias_info.is_write]


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in an argument; a walk over pytrees takes several times as long."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _storage(tensor: Tensor) -> int:
    """Return what tells one memory from another; a sparse tensor is its own."""
    return tensor.untyped_storage()._cdata if tensor.layout == torch.strided else id(tensor)


def _operations(root: Any) -> Iterator[str]:
    """Yield the names of all operations that a value was computed by."""
    seen, rest = set(), [root]
    while rest:
        node = rest.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node.name().rstrip("0123456789").removesuffix("Backward")
            rest += [child for child, _ in node.next_functions]

"""How one array of a model lies in PyTorch and in flax: the way there and the way back, on NumPy arrays.

layout                 PyTorch                    flax
same                   as it is                   as it is
dense                  (outputs, inputs)          (inputs, outputs)
dense_general          (outputs, inputs)          (inputs, outputs), each split into axes
flattened              (outputs, C x H x W)       (H x W x C, outputs)
conv                   (outputs, inputs, *size)   (*size, inputs, outputs)
conv_transpose         (inputs, outputs, *size)   (*size, inputs, outputs), each axis of size reversed
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray
Shape = tuple[int, ...]

SAME, DENSE, DENSE_GENERAL = "same", "dense", "dense_general"
FLATTENED, CONV, CONV_TRANSPOSE = "flattened", "conv", "conv_transpose"


@dataclass(frozen=True)
class Layout:
    """How an array lies in both frameworks.

    Attributes:
        kind: One of the words of this module.
        torch_shape: Its shape in PyTorch.
        flax_shape: Its shape in flax.
        image: For `flattened`, what was flattened: (channels, height, width).
    """

    kind: str
    torch_shape: Shape
    flax_shape: Shape
    image: Shape = ()

    def to_flax(self, array: Array) -> Array:
        """Return a PyTorch array as flax holds it.

        Of a matrix, an axis may have length 1 instead of its own: so Adafactor keeps a matrix's means.
        """
        if self.kind == DENSE:
            return array.T
        if self.kind == DENSE_GENERAL:
            return array.T.reshape(self.flax_shape)
        if self.kind == FLATTENED:
            if array.shape[1] == 1:
                return array.T
            channels_last = np.moveaxis(array.reshape(-1, *self.image), 1, -1)
            return channels_last.reshape(array.shape).T
        if self.kind == CONV:
            return np.moveaxis(array, (0, 1), (-1, -2))
        if self.kind == CONV_TRANSPOSE:
            sizes = tuple(range(array.ndim - 2))
            return np.flip(np.moveaxis(array, (0, 1), (-2, -1)), sizes)
        return array.reshape(self.flax_shape) if array.shape == self.torch_shape else array

    def to_torch(self, array: Array) -> Array:
        """Return a flax array as PyTorch holds it; see `to_flax`."""
        if self.kind == DENSE:
            return array.T
        if self.kind == DENSE_GENERAL:
            return array.reshape(self.torch_shape[::-1]).T
        if self.kind == FLATTENED:
            if array.shape[0] == 1:
                return array.T
            channels, *size = self.image
            channels_first = np.moveaxis(array.T.reshape(-1, *size, channels), -1, 1)
            return channels_first.reshape(array.T.shape)
        if self.kind == CONV:
            return np.moveaxis(array, (-1, -2), (0, 1))
        if self.kind == CONV_TRANSPOSE:
            sizes = tuple(range(array.ndim - 2))
            return np.moveaxis(np.flip(array, sizes), (-2, -1), (0, 1))
        return array.reshape(self.torch_shape) if array.shape == self.flax_shape else array


def layout_of(word: str, torch_shape: Shape, flax_shape: Shape, transposed: bool, image: Shape) -> Layout | None:
    """Return how an array lies in both, or None if its shapes do not fit.

    Args:
        word: flax's name of the leaf, such as `kernel`.
        torch_shape: Its shape in PyTorch.
        flax_shape: Its shape in flax.
        transposed: Whether it is the kernel of a transposed convolution.
        image: (channels, height, width) of what was flattened before this layer; empty if nothing was.
    """
    kind = _kind(word, torch_shape, flax_shape, transposed, image)
    return Layout(kind, torch_shape, flax_shape, image) if _fits(kind, word, torch_shape, flax_shape, image) else None


def _kind(word: str, torch_shape: Shape, flax_shape: Shape, transposed: bool, image: Shape) -> str:
    if word != "kernel":
        return SAME
    if len(torch_shape) > 2:
        return CONV_TRANSPOSE if transposed else CONV
    if image:
        return FLATTENED
    return DENSE if len(flax_shape) == 2 else DENSE_GENERAL


def _fits(kind: str, word: str, torch_shape: Shape, flax_shape: Shape, image: Shape) -> bool:
    if kind == SAME:
        split_bias = word == "bias" and len(torch_shape) == 1 and torch_shape[0] == math.prod(flax_shape)
        return torch_shape == flax_shape or split_bias
    if kind in (CONV, CONV_TRANSPOSE):
        channels = torch_shape[1::-1] if kind == CONV else torch_shape[:2]
        return flax_shape == (*torch_shape[2:], *channels)
    if len(torch_shape) != 2:
        return False
    outputs, inputs = torch_shape
    if kind == DENSE_GENERAL:
        places = range(1, len(flax_shape))
        return any((math.prod(flax_shape[:n]), math.prod(flax_shape[n:])) == (inputs, outputs) for n in places)
    return flax_shape == (inputs, outputs) and (kind == DENSE or math.prod(image) == inputs)

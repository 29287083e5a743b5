"""Networks as data: what a backend's `models` makes, and the initial parameters that both frameworks share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
ParameterTree = dict[str, dict[str, Array]]
ACTIVATIONS = ("tanh", "relu")


class Network(Protocol):
    """A network: how many numbers a row has, how many come out, and how it is made."""

    @property
    def native(self) -> bool:
        """Whether XLA on a CPU can make one native function of steps on one row: see `native` of JAX."""

    @property
    def words(self) -> str:
        """The network in words, for titles."""

    @property
    def inputs(self) -> int:
        """How many numbers, or tokens, a row has."""

    @property
    def outputs(self) -> int:
        """How many numbers the network returns for a row."""

    def make(self, backend: Any) -> Any:
        """Return the network that a backend makes."""

    def draw(self, seed: int) -> ParameterTree:
        """Return initial parameters in flax's layout, float64."""


@dataclass(frozen=True)
class Dense:
    """Dense layers `layer1`, `layer2`, ... with an activation between them; two widths are one linear layer."""

    native: ClassVar[bool] = True

    widths: tuple[int, ...]
    activation: str = "tanh"

    @property
    def words(self) -> str:
        """Its widths."""
        if len(self.widths) == 2:
            return f"one linear layer {self.inputs}-{self.outputs}"
        return f"dense layers {'-'.join(map(str, self.widths))}, {self.activation}"

    @property
    def inputs(self) -> int:
        """The first width."""
        return self.widths[0]

    @property
    def outputs(self) -> int:
        """The last width."""
        return self.widths[-1]

    def make(self, backend: Any) -> Any:
        """Return the backend's `network`."""
        return backend.models.network(self.widths, self.activation)

    def draw(self, seed: int) -> ParameterTree:
        """Return kernels (inputs, outputs) and biases, drawn by `draw_params`."""
        return draw_params(self.widths, seed)


@dataclass(frozen=True)
class Convolutional:
    """Two convolutions of 3 x 3 with ReLU, the second with stride 2, and one dense layer.

    Attributes:
        image: Height and width of the image that a row holds, row after row, one channel.
        channels: The channels that each convolution puts out.
    """

    native: ClassVar[bool] = True

    image: tuple[int, int]
    channels: tuple[int, int]
    outputs: int

    @property
    def words(self) -> str:
        """Image, channels and classes."""
        image, channels = "x".join(map(str, self.image)), " and ".join(map(str, self.channels))
        return f"two convolutions on {image} images, {channels} channels, {self.outputs} outputs"

    @property
    def inputs(self) -> int:
        """Pixels."""
        return self.image[0] * self.image[1]

    @property
    def features(self) -> int:
        """How many numbers the second convolution puts out."""
        height, width = (-(-side // 2) for side in self.image)
        return height * width * self.channels[1]

    def make(self, backend: Any) -> Any:
        """Return the backend's `convolutional_network`."""
        return backend.models.convolutional_network(self.image, self.channels, self.outputs)

    def draw(self, seed: int) -> ParameterTree:
        """Return kernels (3, 3, inputs, outputs), a dense kernel (inputs, outputs), and biases; as `draw_params`."""
        generator, (first, second) = np.random.default_rng(seed), self.channels
        shapes = {
            "conv1": (3, 3, 1, first),
            "conv2": (3, 3, first, second),
            "layer1": (self.features, self.outputs),
        }
        return {name: _drawn(generator, shape) for name, shape in shapes.items()}


@dataclass(frozen=True)
class Transformer:
    """One block of a transformer on rows of tokens, with LayerNorm before each part and GELU; no dropout.

    Attributes:
        tokens: How many tokens a row has.
        vocabulary: How many different tokens there are.
        width: Numbers per token.
        heads: Heads of the attention, which looks at all tokens; the last one's output is read.
        outputs: Classes.
    """

    native: ClassVar[bool] = False  # the gradient of picked embeddings is a scatter

    tokens: int
    vocabulary: int
    width: int
    heads: int
    outputs: int

    @property
    def words(self) -> str:
        """Its sizes."""
        return f"a transformer of one layer, width {self.width}, {self.heads} heads, {self.outputs} outputs"

    @property
    def inputs(self) -> int:
        """Tokens."""
        return self.tokens

    def make(self, backend: Any) -> Any:
        """Return the backend's `transformer`."""
        return backend.models.transformer(self.tokens, self.vocabulary, self.width, self.heads, self.outputs)

    def draw(self, seed: int) -> ParameterTree:
        """Return embeddings from a normal distribution of deviation 1/sqrt(width), scales 1, the rest as others."""
        generator, width = np.random.default_rng(seed), self.width
        shapes = dict.fromkeys(("query", "key", "value", "attended"), (width, width))
        shapes |= {"hidden": (width, 4 * width), "mixed": (4 * width, width), "read": (width, self.outputs)}
        drawn = {name: _drawn(generator, shape) for name, shape in shapes.items()}
        for name, rows in (("token_embedding", self.vocabulary), ("place_embedding", self.tokens)):
            drawn[name] = {"embedding": generator.standard_normal((rows, width)) / np.sqrt(width)}
        del drawn["key"]["bias"]  # see the backends' networks
        norms = {f"norm{number}": {"scale": np.ones(width), "bias": np.zeros(width)} for number in (1, 2, 3)}
        return drawn | norms


def draw_params(widths: Sequence[int], seed: int) -> ParameterTree:
    """Draw initial parameters as `torch.nn.Linear` does: uniform in +-1/sqrt(inputs), kernels and biases."""
    generator = np.random.default_rng(seed)
    return {f"layer{number}": _drawn(generator, shape) for number, shape in enumerate(pairwise(widths), start=1)}


def _drawn(generator: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Array]:
    """Draw a kernel, whose last axis counts outputs, and then its bias."""
    fan_in = np.sqrt(np.prod(shape[:-1]))
    return {
        "kernel": generator.uniform(-1, 1, shape) / fan_in,
        "bias": generator.uniform(-1, 1, shape[-1:]) / fan_in,
    }

"""Networks, and the pure functions made of them: predict(params, x) and loss(params, batch)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from torch_reference import onednn

__all__ = [
    "ConvolutionalNetwork",
    "Network",
    "Transformer",
    "batch_loss",
    "binary_cross_entropy",
    "convolutional_network",
    "cross_entropy",
    "logistic_loss",
    "loss",
    "network",
    "onednn_network",
    "penalized",
    "predict",
    "squared_error",
    "transformer",
]

Params = Mapping[str, Tensor]
Batch = tuple[Float[Tensor, "*rows inputs"], Int[Tensor, "*rows"]]
OutputLoss = Callable[[Tensor, Tensor], Tensor]

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}


class Network(nn.Sequential):
    """Dense layers `layer1`, `layer2`, ... and an activation between; (64, 10) is the notebook's linear classifier."""

    def __init__(self, widths: tuple[int, ...], activation: str = "tanh", linear: type[nn.Linear] = nn.Linear) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for number, (inputs, outputs) in enumerate(pairwise(widths), start=1):
            if number > 1:
                layers[f"{activation}{number - 1}"] = ACTIVATIONS[activation]()
            layers[f"layer{number}"] = linear(inputs, outputs)
        super().__init__(layers)


class ConvolutionalNetwork(nn.Module):
    """Convolutions `conv1` and `conv2` of 3 x 3 with ReLU, the second with stride 2, and a dense layer `layer1`."""

    def __init__(self, image: tuple[int, int], channels: tuple[int, int], outputs: int) -> None:
        super().__init__()
        height, width = (-(-side // 2) for side in image)
        self.image = image
        self.conv1 = nn.Conv2d(1, channels[0], 3, padding=1)
        self.conv2 = nn.Conv2d(channels[0], channels[1], 3, stride=2, padding=1)
        self.layer1 = nn.Linear(height * width * channels[1], outputs)

    def forward(self, x: Float[Tensor, "*rows pixels"]) -> Float[Tensor, "*rows outputs"]:
        """Return the logits of the rows `x`, each an image row after row."""
        x = x.unflatten(-1, (1, *self.image))
        x = self.conv2(self.conv1(x).relu()).relu()
        return self.layer1(x.movedim(-3, -1).flatten(-3))  # channels last, as in JAX


class Transformer(nn.Module):
    """One block: attention over all tokens, then a dense network with GELU, each after a LayerNorm and added.

    The last token's numbers, after a third LayerNorm, are read out.
    """

    def __init__(self, tokens: int, vocabulary: int, width: int, heads: int, outputs: int) -> None:
        super().__init__()
        self.heads = heads
        self.token_embedding, self.place_embedding = nn.Embedding(vocabulary, width), nn.Embedding(tokens, width)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.value = nn.Linear(width, width), nn.Linear(width, width)
        # A bias of the key would add the same to all weights of a token, which softmax takes away again: its gradient
        # would be rounding alone, which Adam would make a step of.
        self.key = nn.Linear(width, width, bias=False)
        self.attended = nn.Linear(width, width)
        self.hidden, self.mixed = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.read = nn.Linear(width, outputs)

    def forward(self, x: Int[Tensor, "*rows tokens"]) -> Float[Tensor, "*rows outputs"]:
        """Return the logits of the rows `x`."""
        h = self.token_embedding(x) + self.place_embedding.weight
        h = h + self._attended(self.norm1(h))
        h = h + self.mixed(nn.functional.gelu(self.hidden(self.norm2(h))))
        return self.read(self.norm3(h[..., -1, :]))

    def _attended(self, h: Tensor) -> Tensor:
        parts = [layer(h) for layer in (self.query, self.key, self.value)]
        query, key, value = (part.unflatten(-1, (self.heads, -1)).movedim(-2, -3) for part in parts)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        return self.attended(mixed.movedim(-3, -2).flatten(-2))


def network(widths: tuple[int, ...], activation: str = "tanh") -> Network:
    """Return a network of dense layers, `widths[0]` inputs and `widths[-1]` outputs; `tanh` or `relu` between."""
    return Network(tuple(widths), activation)


def convolutional_network(image: tuple[int, int], channels: tuple[int, int], outputs: int) -> ConvolutionalNetwork:
    """Return a network of two convolutions and a dense layer, for images of this height and width."""
    return ConvolutionalNetwork(image, channels, outputs)


def onednn_network(widths: tuple[int, ...]) -> Network:
    """Return the network for training with wide layers and many rows on a CPU, see `torch_reference.onednn`.

    Raises:
        NotImplementedError: This PyTorch has no oneDNN, or the device is a GPU, or the type is float64.
    """
    onednn.need()
    return Network(tuple(widths), linear=onednn.Linear)


def transformer(tokens: int, vocabulary: int, width: int, heads: int, outputs: int) -> Transformer:
    """Return a transformer of one block, for rows of so many tokens."""
    return Transformer(tokens, vocabulary, width, heads, outputs)


def predict(model: nn.Module) -> Callable[[Params, Tensor], Tensor]:
    """Return the function (params, x) -> logits of the rows x."""

    def predict_rows(params: Params, x: Tensor) -> Tensor:
        return torch.func.functional_call(model, dict(params), (x,))

    return predict_rows


def cross_entropy(logits: Float[Tensor, "*rows classes"], targets: Int[Tensor, "*rows"]) -> Float[Tensor, ""]:
    """Return the mean over rows of -log softmax(logits)[target]."""
    return nn.functional.cross_entropy(logits, targets)


def binary_cross_entropy(logits: Float[Tensor, "*rows 1"], targets: Int[Tensor, "*rows"]) -> Float[Tensor, ""]:
    """Return the mean over rows of -log sigmoid(logit) for targets 1, -log sigmoid(-logit) for targets 0."""
    return nn.functional.binary_cross_entropy_with_logits(logits[..., 0], targets.to(logits.dtype))


def squared_error(outputs: Float[Tensor, "*rows 1"], targets: Float[Tensor, "*rows"]) -> Float[Tensor, ""]:
    """Return the mean over rows of (output - target)^2."""
    return nn.functional.mse_loss(outputs[..., 0], targets)


def loss(model: nn.Module) -> Callable[[Params, Batch], Tensor]:
    """Return the function (params, batch) -> mean cross-entropy of the batch, a pair (inputs, targets)."""
    return batch_loss(model, cross_entropy)


def logistic_loss(model: nn.Module) -> Callable[[Params, Batch], Tensor]:
    """Return the function (params, batch) -> mean binary cross-entropy of a network with one output."""
    return batch_loss(model, binary_cross_entropy)


def batch_loss(model: nn.Module, output_loss: OutputLoss) -> Callable[[Params, Batch], Tensor]:
    """Return the function (params, batch) -> output_loss(outputs, targets) of the batch, a pair (inputs, targets)."""
    outputs = predict(model)

    def loss_of_batch(params: Params, batch: Batch) -> Tensor:
        inputs, targets = batch
        return output_loss(outputs(params, inputs), targets)

    return loss_of_batch


def penalized(loss: Callable[[Params, Batch], Tensor]) -> Callable[[Params, Batch, Tensor], Tensor]:
    """Return the function (params, batch, penalty) -> loss + penalty / 2 times the sum of squares of the kernels."""

    def penalized_loss(params: Params, batch: Batch, penalty: Tensor) -> Tensor:
        squares = sum((leaf**2).sum() for name, leaf in params.items() if name.endswith(".weight"))
        return loss(params, batch) + penalty / 2 * squares

    return penalized_loss

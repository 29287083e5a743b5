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
    "Network",
    "binary_cross_entropy",
    "cross_entropy",
    "logistic_loss",
    "loss",
    "network",
    "onednn_network",
    "penalized",
    "predict",
]

Params = Mapping[str, Tensor]
Batch = tuple[Float[Tensor, "*rows inputs"], Int[Tensor, "*rows"]]


class Network(nn.Sequential):
    """Dense layers `layer1`, `layer2`, ... with tanh between them; (64, 10) is the notebook's linear classifier."""

    def __init__(self, widths: tuple[int, ...], linear: type[nn.Linear] = nn.Linear) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for number, (inputs, outputs) in enumerate(pairwise(widths), start=1):
            if number > 1:
                layers[f"tanh{number - 1}"] = nn.Tanh()
            layers[f"layer{number}"] = linear(inputs, outputs)
        super().__init__(layers)


def network(widths: tuple[int, ...]) -> Network:
    """Return a network of dense layers, `widths[0]` inputs and `widths[-1]` outputs."""
    return Network(tuple(widths))


def onednn_network(widths: tuple[int, ...]) -> Network:
    """Return the network for training with wide layers and many rows on a CPU, see `torch_reference.onednn`.

    Raises:
        NotImplementedError: This PyTorch has no oneDNN, or the device is a GPU, or the type is float64.
    """
    onednn.need()
    return Network(tuple(widths), onednn.Linear)


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


def loss(model: nn.Module) -> Callable[[Params, Batch], Tensor]:
    """Return the function (params, batch) -> mean cross-entropy of the batch, a pair (inputs, targets)."""
    return _of_batch(model, cross_entropy)


def logistic_loss(model: nn.Module) -> Callable[[Params, Batch], Tensor]:
    """Return the function (params, batch) -> mean binary cross-entropy of a network with one output."""
    return _of_batch(model, binary_cross_entropy)


def _of_batch(model: nn.Module, output_loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Params, Batch], Tensor]:
    logits = predict(model)

    def batch_loss(params: Params, batch: Batch) -> Tensor:
        inputs, targets = batch
        return output_loss(logits(params, inputs), targets)

    return batch_loss


def penalized(loss: Callable[[Params, Batch], Tensor]) -> Callable[[Params, Batch, Tensor], Tensor]:
    """Return the function (params, batch, penalty) -> loss + penalty / 2 times the sum of squares of the kernels."""

    def penalized_loss(params: Params, batch: Batch, penalty: Tensor) -> Tensor:
        squares = sum((leaf**2).sum() for name, leaf in params.items() if name.endswith(".weight"))
        return loss(params, batch) + penalty / 2 * squares

    return penalized_loss

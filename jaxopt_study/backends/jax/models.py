"""Networks, and the pure functions made of them: predict(params, x) and loss(params, batch).

A kernel is (outputs, inputs), as in PyTorch, and belongs to an `nn.Einsum`. On a CPU one training step on a single row
is then about twice as fast as with `nn.Dense`, whose kernel is (inputs, outputs).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

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
    "penalized",
    "predict",
    "squared_error",
    "transformer",
    "transposing_network",
]

Params = Any
Batch = tuple[Float[Array, "*rows inputs"], Int[Array, "*rows"]]
OutputLoss = Callable[[Array, Array], Array]

ACTIVATIONS = {"tanh": jnp.tanh, "relu": jax.nn.relu}


class Network(nn.Module):
    """Dense layers `layer1`, `layer2`, ... and an activation between; (64, 10) is the notebook's linear classifier."""

    widths: tuple[int, ...]
    activation: str = "tanh"

    @nn.compact
    def __call__(self, x: Float[Array, "*rows inputs"]) -> Float[Array, "*rows outputs"]:
        """Return the logits of the rows `x`."""
        for number, (inputs, outputs) in enumerate(pairwise(self.widths), start=1):
            x = ACTIVATIONS[self.activation](x) if number > 1 else x
            x = self._layer((outputs, inputs), f"layer{number}")(x)
        return x

    def _layer(self, shape: tuple[int, int], name: str) -> nn.Module:
        return nn.Einsum(shape, "...i,oi->...o", name=name)


class TransposingNetwork(Network):
    """The same network, but the gradient of a kernel writes the transpose D' to memory before it computes D'X.

    XLA of jax 0.10 on a CPU otherwise multiplies D'X without the copy, at half the speed where the row length is a
    power of two. With the copy a training step of 64-1024-1024-10 on 1,024 rows takes a fifth less time. The network is
    for training only: it has no forward-mode derivative.
    """

    def _layer(self, shape: tuple[int, int], name: str) -> nn.Module:
        return TransposingLayer(shape, name=name)


class TransposingLayer(nn.Module):
    """A layer of a `TransposingNetwork`, with the parameters of `nn.Einsum`."""

    shape: tuple[int, int]

    @nn.compact
    def __call__(self, x: Float[Array, "rows inputs"]) -> Float[Array, "rows outputs"]:
        """Return x times the kernel's transpose, plus the bias."""
        kernel = self.param("kernel", nn.initializers.lecun_normal(), self.shape)
        bias = self.param("bias", nn.initializers.zeros_init(), self.shape[:1])
        return _product(x, kernel) + bias


@jax.custom_vjp
def _product(x: Array, kernel: Array) -> Array:
    return x @ kernel.T


def _product_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _product(x, kernel), (x, kernel)


def _product_backward(saved: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    x, kernel = saved
    return slope @ kernel, jax.lax.optimization_barrier(slope.T) @ x  # without it XLA merges both


_product.defvjp(_product_forward, _product_backward)


class ConvolutionalNetwork(nn.Module):
    """Convolutions `conv1` and `conv2` of 3 x 3 with ReLU, the second with stride 2, and a dense layer `layer1`."""

    image: tuple[int, int]
    channels: tuple[int, int]
    outputs: int

    @nn.compact
    def __call__(self, x: Float[Array, "*rows pixels"]) -> Float[Array, "*rows outputs"]:
        """Return the logits of the rows `x`, each an image row after row."""
        rows = x.shape[:-1]
        x = x.reshape(*rows, *self.image, 1)
        for number, (channels, stride) in enumerate(zip(self.channels, (1, 2), strict=True), start=1):
            convolution = nn.Conv(channels, (3, 3), stride, padding=1, name=f"conv{number}")
            x = jax.nn.relu(convolution(x))
        x = x.reshape(*rows, -1)
        return nn.Einsum((self.outputs, x.shape[-1]), "...i,oi->...o", name="layer1")(x)


class Transformer(nn.Module):
    """One block: attention over all tokens, then a dense network with GELU, each after a LayerNorm and added.

    The last token's numbers, after a third LayerNorm, are read out.
    """

    tokens: int
    vocabulary: int
    width: int
    heads: int
    outputs: int

    @nn.compact
    def __call__(self, x: Int[Array, "*rows tokens"]) -> Float[Array, "*rows outputs"]:
        """Return the logits of the rows `x`."""
        h = nn.Embed(self.vocabulary, self.width, name="token_embedding")(x)
        h += nn.Embed(self.tokens, self.width, name="place_embedding")(jnp.arange(self.tokens))
        h += self._attended(self._norm("norm1", h))
        mixed = jax.nn.gelu(self._dense("hidden", 4 * self.width, self._norm("norm2", h)), approximate=False)
        h += self._dense("mixed", self.width, mixed)
        return self._dense("read", self.outputs, self._norm("norm3", h[..., -1, :]))

    def _norm(self, name: str, h: Array) -> Array:
        return nn.LayerNorm(1e-5, use_fast_variance=False, name=name)(h)  # as torch computes it

    def _dense(self, name: str, outputs: int, h: Array) -> Array:
        # A bias of the key would add the same to all weights of a token, which softmax takes away again: its gradient
        # would be rounding alone, which Adam would make a step of.
        return nn.Einsum((outputs, h.shape[-1]), "...i,oi->...o", use_bias=name != "key", name=name)(h)

    def _attended(self, h: Array) -> Array:
        parts = [self._dense(name, self.width, h) for name in ("query", "key", "value")]
        query, key, value = (part.reshape(*part.shape[:-1], self.heads, -1) for part in parts)
        weights = jax.nn.softmax(jnp.einsum("...qhi,...khi->...hqk", query, key) / query.shape[-1] ** 0.5)
        mixed = jnp.einsum("...hqk,...khi->...qhi", weights, value)
        return self._dense("attended", self.width, mixed.reshape(h.shape))


def transposing_network(widths: tuple[int, ...]) -> TransposingNetwork:
    """Return the network for training with wide layers and many rows, see `TransposingNetwork`."""
    return TransposingNetwork(tuple(widths))


def network(widths: tuple[int, ...], activation: str = "tanh") -> Network:
    """Return a network of dense layers, `widths[0]` inputs and `widths[-1]` outputs; `tanh` or `relu` between."""
    return Network(tuple(widths), activation)


def convolutional_network(image: tuple[int, int], channels: tuple[int, int], outputs: int) -> ConvolutionalNetwork:
    """Return a network of two convolutions and a dense layer, for images of this height and width."""
    return ConvolutionalNetwork(image, channels, outputs)


def transformer(tokens: int, vocabulary: int, width: int, heads: int, outputs: int) -> Transformer:
    """Return a transformer of one block, for rows of so many tokens."""
    return Transformer(tokens, vocabulary, width, heads, outputs)


def predict(model: nn.Module) -> Callable[[Params, Array], Array]:
    """Return the function (params, x) -> logits of the rows x."""

    def predict_rows(params: Params, x: Array) -> Array:
        return model.apply({"params": params}, x)

    return predict_rows


def cross_entropy(logits: Float[Array, "*rows classes"], targets: Int[Array, "*rows"]) -> Float[Array, ""]:
    """Return the mean over rows of -log softmax(logits)[target] = log sum exp(z) - z[target].

    The function moves classes to the first axis. The numbers of one class are then adjacent in memory, a CPU sums over
    classes with its vector units, and Hessian-vector products take a fifth less time.
    """
    z = jnp.moveaxis(logits, -1, 0)
    z -= jax.lax.stop_gradient(z.max(axis=0))
    chosen = jnp.take_along_axis(z, targets[None], axis=0)[0]
    return (jnp.log(jnp.exp(z).sum(axis=0)) - chosen).mean()


def binary_cross_entropy(logits: Float[Array, "*rows 1"], targets: Int[Array, "*rows"]) -> Float[Array, ""]:
    """Return the mean over rows of -log sigmoid(logit) for targets 1, -log sigmoid(-logit) for targets 0."""
    return jax.nn.softplus((1 - 2 * targets) * logits[..., 0]).mean()


def squared_error(outputs: Float[Array, "*rows 1"], targets: Float[Array, "*rows"]) -> Float[Array, ""]:
    """Return the mean over rows of (output - target)^2."""
    return ((outputs[..., 0] - targets) ** 2).mean()


def loss(model: nn.Module) -> Callable[[Params, Batch], Array]:
    """Return the function (params, batch) -> mean cross-entropy of the batch, a pair (inputs, targets)."""
    return batch_loss(model, cross_entropy)


def logistic_loss(model: nn.Module) -> Callable[[Params, Batch], Array]:
    """Return the function (params, batch) -> mean binary cross-entropy of a network with one output."""
    return batch_loss(model, binary_cross_entropy)


def batch_loss(model: nn.Module, output_loss: OutputLoss) -> Callable[[Params, Batch], Array]:
    """Return the function (params, batch) -> output_loss(outputs, targets) of the batch, a pair (inputs, targets)."""
    outputs = predict(model)

    def loss_of_batch(params: Params, batch: Batch) -> Array:
        inputs, targets = batch
        return output_loss(outputs(params, inputs), targets)

    return loss_of_batch


def penalized(loss: Callable[[Params, Batch], Array]) -> Callable[[Params, Batch, Array], Array]:
    """Return the function (params, batch, penalty) -> loss + penalty / 2 times the sum of squares of the kernels."""

    def penalized_loss(params: Params, batch: Batch, penalty: Array) -> Array:
        squares = sum((layer["kernel"] ** 2).sum() for layer in params.values())
        return loss(params, batch) + penalty / 2 * squares

    return penalized_loss

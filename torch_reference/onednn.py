"""A dense layer whose matrix products are oneDNN's, not MKL's.

MKL takes AVX2 kernels on processors of another maker: on an AMD Zen 5 it multiplies at 109 GFLOP/s a core and oneDNN,
in the same torch, at 238, as XLA does. No setting makes `nn.Linear` take oneDNN. The operator is the one that
`torch.compile` puts in for layers that no longer train.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from torch_reference import runtime

__all__ = ["Linear", "affine", "need"]


class Linear(nn.Linear):
    """`nn.Linear` for training on batches of rows, by `affine`."""

    def forward(self, x: Float[Tensor, "rows inputs"]) -> Float[Tensor, "rows outputs"]:
        """Return x times the kernel's transpose, plus the bias."""
        return affine(x, self.weight, self.bias)


@torch.library.custom_op("torch_reference::affine", mutates_args=())
def affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return x W' + b, float32 on a CPU.

    `backward` goes through it, under `torch.compile` too, and no transform of torch.func does.
    """
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


@affine.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    del bias
    return x.new_empty(x.shape[0], weight.shape[0])


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    del output
    ctx.save_for_backward(*inputs[:2])


def _backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
    """Return the gradients S W, S' x and the sum of S over rows: products of the same kind."""
    x, weight = ctx.saved_tensors
    of_x = affine(slope, weight.T, None) if ctx.needs_input_grad[0] else None
    return of_x, affine(slope.T, x.T, None), slope.sum(0)


affine.register_autograd(_backward, setup_context=_save)


def need() -> None:
    """Do nothing where a layer can be made.

    Raises:
        NotImplementedError: This torch has no oneDNN, or what is made is on a GPU or float64: it takes neither.
    """
    like = runtime.from_numpy(np.zeros(()))
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        raise NotImplementedError("this PyTorch was built without oneDNN")
    if like.is_cuda or like.dtype != torch.float32:
        raise NotImplementedError("oneDNN multiplies float32 on a CPU alone")

"""A dense layer that multiplies matrices by oneDNN instead of MKL.

MKL uses its AVX2 kernels on processors of other makers. On an AMD Zen 5 it multiplies at 109 GFLOP/s per core; oneDNN,
in the same PyTorch, at 238, like XLA. No setting makes `nn.Linear` use oneDNN. The operator here is the one that
`torch.compile` inserts for layers that are no longer trained.
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

    It has a derivative for `backward`, also under `torch.compile`, but not for the transforms of torch.func.
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
    """Return the gradients S W, S' x and the sum of S over rows; the products are by oneDNN too."""
    x, weight = ctx.saved_tensors
    of_x = affine(slope, weight.T, None) if ctx.needs_input_grad[0] else None
    return of_x, affine(slope.T, x.T, None), slope.sum(0)


affine.register_autograd(_backward, setup_context=_save)


def need() -> None:
    """Check that a layer can be made.

    Raises:
        NotImplementedError: This PyTorch has no oneDNN, or the device is a GPU, or the type is float64.
    """
    like = runtime.from_numpy(np.zeros(()))
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        raise NotImplementedError("this PyTorch was built without oneDNN")
    if like.is_cuda or like.dtype != torch.float32:
        raise NotImplementedError("oneDNN multiplies float32 on a CPU only")

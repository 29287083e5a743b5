"""Muon as torch has it: Newton and Schulz's iteration in bfloat16."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

__all__ = ["scale_by_torch_muon"]


class MuonState(NamedTuple):
    """The running mean of the gradients."""

    buffer: optax.Updates


def scale_by_torch_muon(
    momentum: float = 0.95,
    nesterov: bool = True,
    ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
    eps: float = 1e-7,
    ns_steps: int = 5,
    adjust_lr_fn: str | None = None,
) -> optax.GradientTransformation:
    """Make the step of `torch.optim.Muon` (Jordan, 2024), without its learning rate and weight decay.

        B <- B + (1 - momentum) (G - B),    X = G + momentum (B - G) if nesterov, else B
        X <- X / max(|X|, eps), transposed if it has more rows than columns
        ns_steps times: A = X X',  X <- a X + (b A + c A A) X,    rounded to bfloat16 after each product
        step = sqrt(max(1, rows / columns)) X, or 0.2 sqrt(max(rows, columns)) X for adjust_lr_fn="match_rms_adamw"

    rows and columns are the leaf's own, so a kernel must be held as torch holds it: (outputs, inputs). Products are
    summed in float32; another order of summation flips bfloat16 bits, so this follows torch, but not to the bit.
    `optax.contrib.muon` iterates in the parameters' own type and corrects the bias of Nesterov's momentum.
    """

    def init(params: optax.Params) -> MuonState:
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            if leaf.ndim != 2:
                where = jax.tree_util.keystr(path)
                raise ValueError(
                    f"Muon takes matrices: {where} has shape {leaf.shape}; partition it to another optimizer"
                )
        return MuonState(jax.tree.map(jnp.zeros_like, params))

    def update(
        gradient: optax.Updates, state: MuonState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, MuonState]:
        del params
        buffer = jax.tree.map(lambda b, g: b + (1 - momentum) * (g - b), state.buffer, gradient)

        def leaf(g: jax.Array, b: jax.Array) -> jax.Array:
            # torch's lerp takes the nearer end for its start when the weight is a half or more.
            nearer = b - (b - g) * (1 - momentum) if momentum >= 0.5 else g + momentum * (b - g)
            x = _orthogonalize(nearer if nesterov else b, ns_coefficients, eps, ns_steps)
            return x.astype(g.dtype) * _size(g.shape, adjust_lr_fn)

        return jax.tree.map(leaf, gradient, buffer), MuonState(buffer)

    return optax.GradientTransformation(init, update)


def _orthogonalize(x: jax.Array, coefficients: tuple[float, float, float], eps: float, steps: int) -> jax.Array:
    a, b, c = coefficients
    tall = x.shape[0] > x.shape[1]
    x = _rounded(x.T if tall else x)
    norm = _rounded(jnp.sqrt(jnp.sum(x * x)))
    x = _rounded(x / jnp.maximum(norm, _rounded(jnp.float32(eps))))
    for _ in range(steps):
        gram = _rounded(x @ x.T)
        x = _rounded(a * x + _rounded(b * gram + c * (gram @ gram)) @ x)
    return x.T if tall else x


def _rounded(x: Any) -> jax.Array:
    """Return the float32 numbers nearest to `x` that bfloat16 can hold."""
    # reduce_precision, since XLA may drop a cast to bfloat16 and back.
    return jax.lax.reduce_precision(x.astype(jnp.float32), exponent_bits=8, mantissa_bits=7)


def _size(shape: tuple[int, ...], adjust_lr_fn: str | None) -> float:
    rows, columns = shape
    if adjust_lr_fn == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1, rows / columns))

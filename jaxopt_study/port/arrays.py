"""Between PyTorch's tensors, NumPy's arrays and JAX's, to the bit: bfloat16 has no word in NumPy of its own."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from jaxopt_study.dictionary import DictionaryError
from jaxopt_study.port.layouts import Array


def to_numpy(value: Any) -> Array:
    """Return a tensor, an array of JAX or a number as a NumPy array of the same type; of a tensor, a copy.

    Raises:
        DictionaryError: NumPy has no such numbers.
    """
    if not isinstance(value, torch.Tensor):
        return np.asarray(value)
    try:
        tensor = value.detach().cpu().resolve_conj().resolve_neg()
        if tensor.dtype == torch.bfloat16:
            return tensor.contiguous().view(torch.int16).numpy().copy().view(jnp.bfloat16)
        return tensor.numpy().copy()
    except (TypeError, RuntimeError, NotImplementedError):
        kind = f"{value.dtype} and {value.layout}".replace("torch.", "")
        raise DictionaryError(f"a tensor of {kind} has no counterpart in NumPy: convert it first") from None


def to_tensor(array: Array, dtype: torch.dtype) -> torch.Tensor:
    """Return a NumPy array as a tensor.

    Raises:
        DictionaryError: The type cannot hold all its numbers.
    """
    _check(array.dtype, to_numpy(torch.empty(0, dtype=dtype)).dtype)
    array = np.array(array, order="C")  # a copy: torch would share the memory, which may be JAX's
    if array.dtype == jnp.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16).to(dtype)
    return torch.from_numpy(array).to(dtype)


def to_jax(array: Array, dtype: Any) -> jax.Array:
    """Return a NumPy array as one of JAX.

    Raises:
        DictionaryError: The type cannot hold all its numbers, or JAX does not have it.
    """
    _check(array.dtype, np.dtype(dtype))
    _check(array.dtype, jax.dtypes.canonicalize_dtype(dtype))
    return jnp.asarray(array, dtype)


def _check(have: np.dtype, want: np.dtype) -> None:
    if not np.can_cast(have, want) or (have.kind in "iub") != (want.kind in "iub"):
        raise DictionaryError(
            f"{have.name} numbers would be rounded to {want.name}: cast them first, or give a template of {have.name}"
        )

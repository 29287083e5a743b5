"""Small loops as one native function: what XLA on a CPU makes of a loop whose steps have little work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.experimental.xla_metadata import set_xla_metadata

__all__ = ["native", "scan"]


def native(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, of which XLA makes one native function on a CPU: its loops and their steps.

    By default XLA makes one kernel for each fused operator, and an interpreter calls the kernels. For a step on one row
    these calls take several times as long as the arithmetic. XLA compiles a loop on less than a kilobyte of data into
    one native function; here two attributes request the same. This is faster only for small steps, because matrix
    products become plain loops instead of library calls. A scatter cannot be compiled in this way, nor a product of two
    matrices that XLA gives to a library.

    The attributes are internal to XLA and not documented; jax 0.10.2 knows them. On other devices the function stays
    as it is. It is called inside `jax.jit`.
    """
    if jax.default_backend() != "cpu":
        return function
    inner = jax.jit(function)

    def marked(*arguments: Any) -> Any:
        return set_xla_metadata(inner(*arguments), inlineable="false", xla_cpu_small_call="true")

    return marked


def scan(step: Callable[[Any, Any], tuple[Any, Any]], state: Any, inputs: Any) -> tuple[Any, Any]:
    """Return `jax.lax.scan(step, state, inputs)`, of which XLA makes one native function on a CPU."""
    return native(lambda state, inputs: jax.lax.scan(step, state, inputs))(state, inputs)

"""XLA's settings: quick ones for programs that run for milliseconds and would compile for seconds, and wide vectors."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr

__all__ = ["known", "operations", "quick_options", "wide_options"]

# Without fused loops and LLVM's optimizations, and as one module: a tenth to a fourth of the time to compile.
QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}

WIDE = {"xla_cpu_prefer_vector_width": 512}
"""In bits; XLA's own choice is 256, also where a processor has wider vectors. It is the most, not the least."""

LIBRARY = ("conv_general_dilated", "while", "pure_callback", "io_callback", "ffi_call")
"""Primitives whose work cannot be told from the shapes of their results."""


@cache
def quick_options() -> dict[str, Any]:
    """Return the quick settings that the installed XLA knows, as `compiler_options` of `jax.jit`."""
    return known(QUICK)


@cache
def wide_options() -> dict[str, Any]:
    """Return the setting for vectors of 512 bits on a CPU that has them, as `compiler_options` of `jax.jit`.

    On a Zen 5 a step of Adam on one row takes 0.6 of the time in one native function, and 0.7 in `vmap` over 64 runs.
    """
    return known(WIDE) if jax.default_backend() == "cpu" else {}


def known(options: dict[str, Any]) -> dict[str, Any]:
    """Return those of XLA's options that the installed version knows."""
    if _accepted(options):
        return options
    return {name: value for name, value in options.items() if _accepted({name: value})}


def _accepted(options: dict[str, Any]) -> bool:
    try:
        jax.jit(lambda: 0, compiler_options=options)()
    except jax.errors.JaxRuntimeError:
        return False
    return True


def operations(jaxpr: Jaxpr) -> float:
    """Return how many numbers a program computes, a matrix product counted by its terms; infinity if it is unknown."""
    return sum(map(_of_equation, jaxpr.eqns))


def _of_equation(equation: Any) -> float:
    name, params = equation.primitive.name, equation.params
    if name in LIBRARY:
        return math.inf
    inner = [operations(program) for value in params.values() for program in _programs(value)]
    if name == "cond":
        return max(inner)
    if inner:
        return params.get("length", 1) * sum(inner)
    size = sum(math.prod(getattr(out.aval, "shape", ())) for out in equation.outvars)
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        size *= math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
    return size


def _programs(value: Any) -> list[Jaxpr]:
    values = value if isinstance(value, tuple | list) else (value,)
    return [v.jaxpr if isinstance(v, ClosedJaxpr) else v for v in values if isinstance(v, ClosedJaxpr | Jaxpr)]

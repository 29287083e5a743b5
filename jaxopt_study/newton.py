"""Minimizers in JAX: Newton's method and its relatives, for any tree of parameters.

The public face of `jaxopt_study.backends.jax.newton`; `torch_reference.newton` has the same in PyTorch.
"""

from jaxopt_study.backends.jax.newton import (
    METHODS,
    Composite,
    Counts,
    Result,
    Status,
    System,
    logistic_hessian,
    many,
    minimize,
    softmax_system,
)

__all__ = [
    "METHODS",
    "Composite",
    "Counts",
    "Result",
    "Status",
    "System",
    "logistic_hessian",
    "many",
    "minimize",
    "softmax_system",
]

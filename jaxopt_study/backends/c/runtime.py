"""Conversion to and from the C backend, which works on NumPy arrays: the functions of the NumPy backend."""

from jaxopt_study.backends.numpy.runtime import (
    compilations,
    configure,
    describe,
    from_numpy,
    is_ready,
    params_from_numpy,
    params_to_numpy,
    preload,
    ravel,
    temporary_memory,
    to_numpy,
    wait,
)

__all__ = [
    "compilations",
    "configure",
    "describe",
    "from_numpy",
    "is_ready",
    "params_from_numpy",
    "params_to_numpy",
    "preload",
    "ravel",
    "temporary_memory",
    "to_numpy",
    "wait",
]

"""Optimizers and Hessians in JAX and in PyTorch: values are compared before any time is shown.

`backends.jax` and `torch_reference` are twins: the same modules in JAX and in PyTorch.
Importing this package loads no framework.
"""

__version__ = "0.1.0"

"""Optimizers and Hessians in JAX, proved equal to PyTorch before any speed is compared.

The modules beside this one are the JAX backend; `torch_reference` has the same modules in PyTorch.
Importing this package loads no framework.
"""

__version__ = "0.1.0"

"""Derivatives in JAX: Hessians, Hessian-vector products, Gauss-Newton matrices, for any tree of parameters.

The public face of `jaxopt_study.backends.jax.derivatives`; `torch_reference.derivatives` has the same in PyTorch.
"""

from jaxopt_study.backends.jax.derivatives import *  # noqa: F403 - all that it makes public
from jaxopt_study.backends.jax.derivatives import __all__ as __all__

"""Minimizers in JAX: Newton's method and its relatives, for any tree of parameters.

The public face of `jaxopt_study.backends.jax.newton`; `torch_reference.newton` has the same in PyTorch.
"""

from jaxopt_study.backends.jax.newton import *  # noqa: F403 - all that it makes public
from jaxopt_study.backends.jax.newton import __all__ as __all__

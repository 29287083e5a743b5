"""Conversion to and from the loops in C, which work on NumPy arrays: the NumPy backend's."""

from jaxopt_study.backends.numpy.runtime import *  # noqa: F403 - all that it makes public
from jaxopt_study.backends.numpy.runtime import __all__ as __all__

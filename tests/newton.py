"""What the tests of the minimizers share."""

import numpy as np

SECOND_ORDER = ("exact", "newton_cg", "trust_exact", "trust_krylov")
METHODS = (*SECOND_ORDER, "lbfgs")


def minimize(backends, name, fun, x0, *data, **options):
    """Minimize with the same limit and path throughout, so that tests share what is compiled."""
    backend = backends[name]
    options = {"max_iterations": 1000, "keep_path": True} | options
    arrays = [backend.runtime.from_numpy(np.asarray(array)) for array in data]
    return backend.newton.minimize(fun, backend.runtime.from_numpy(np.asarray(x0)), *arrays, **options)


def both(name, jax_value, torch_value):
    return {"jax": jax_value, "torch": torch_value}[name]


def compilations(backends, *arguments, **options):
    """Return how many functions a run compiles."""
    before = backends["jax"].runtime.compilations()
    backends["jax"].newton.minimize(*arguments, **options)
    return backends["jax"].runtime.compilations() - before

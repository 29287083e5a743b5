"""What needs JAX and optax: from the expression's text to the transformation that it makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def build(expression: str, **names: Any) -> Any:
    """Evaluate an expression of this package where `optax`, `jax`, `jnp` and `transforms` are known.

    Args:
        expression: What `rules.translate` returned.
        **names: What other names in it mean: `schedule`, a function of the number of steps made, and `labels`, which
            leaf is in which group.
    """
    import jax  # here, so that the dictionary can be read without a framework
    import jax.numpy as jnp
    import optax

    from jaxopt_study.dictionary import transforms

    return eval(expression, {"jax": jax, "jnp": jnp, "optax": optax, "transforms": transforms, **names})


def map_with_path(function: Callable[[Any, Any], Any], tree: Any) -> Any:
    """Return the tree of function(path, leaf) for every leaf, by `jax.tree_util`."""
    import jax

    return jax.tree_util.tree_map_with_path(function, tree)

"""What needs JAX and optax: from the expression's text to the transformation that it makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def build(expression: str, schedule: Callable[[Any], Any] | None = None, labels: Any = None) -> Any:
    """Evaluate an expression of this package where `optax`, `jnp` and `transforms` are known.

    Args:
        expression: What `rules.translate` returned.
        schedule: What the name `schedule` means in it, a function of the number of steps made.
        labels: What the name `labels` means in it: which leaf is in which group.
    """
    import jax.numpy as jnp  # here, so that the dictionary can be read without a framework
    import optax

    from jaxopt_study.dictionary import transforms

    known = {"jnp": jnp, "optax": optax, "transforms": transforms, "schedule": schedule, "labels": labels}
    return eval(expression, known)


def map_with_path(function: Callable[[Any, Any], Any], tree: Any) -> Any:
    """Return the tree of function(path, leaf) for every leaf, by `jax.tree_util`."""
    import jax

    return jax.tree_util.tree_map_with_path(function, tree)

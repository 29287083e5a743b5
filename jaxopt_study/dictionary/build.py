"""From the expression's text to the transformation that it makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def build(expression: str, schedule: Callable[[Any], Any] | None = None) -> Any:
    """Evaluate an expression of this package where `optax`, `jnp` and `transforms` are known.

    Args:
        expression: What `rules.translate` returned.
        schedule: What the name `schedule` means in it, a function of the number of steps made.
    """
    import jax  # here, so that the dictionary can be read without a framework
    import jax.numpy as jnp
    import optax

    from jaxopt_study import transforms

    known = {"jax": jax, "jnp": jnp, "optax": optax, "transforms": transforms, "schedule": schedule}
    return eval(expression, known)  # noqa: S307 - our own text, with options that were checked to be plain values

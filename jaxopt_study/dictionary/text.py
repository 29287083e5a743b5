"""A translation as a user reads it: the code to paste, under comments that say what to know."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxopt_study.dictionary.rules import Translation


def show(expression: str, groups: Sequence[Translation], notes: Sequence[str] = ()) -> str:
    """Return Python code that makes `optimizer`.

    Args:
        expression: The code of the transformation.
        groups: What it was made from, one translation for each parameter group.
        notes: What is not carried over, and why.
    """
    names = re.findall(r"\w+", expression)
    words = [line for group in groups for line in _comments(group)] + [f"# not carried over: {note}" for note in notes]
    if "schedule" in names:
        words.append("# schedule: your function from the number of steps made to the learning rate")
    if "labels" in names:
        words.append('# labels: which leaf is in which group ("0", "1", ...), as for optax.partition')
    imports = ["import jax.numpy as jnp"] if "jnp" in names else []
    imports += ["import optax", *(["from jaxopt_study import transforms"] if "transforms" in names else [])]
    return "\n".join([*words, *imports, "", f"optimizer = {expression}"])


def _comments(translation: Translation) -> list[str]:
    given = ", ".join(f"{name}={value!r}" for name, value in translation.options.items())
    lines = [f"# torch.optim.{translation.name}({given})", f"# {translation.status}: {translation.reason}"]
    return [*lines, f"# {translation.condition}"] if translation.condition else lines

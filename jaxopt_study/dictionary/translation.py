"""A torch.optim configuration in optax, and the text in which a user reads it: the code to paste, under comments."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxopt_study.dictionary.build import build

EXACT, CONDITIONS, APPROXIMATE = STATUSES = ("exact", "exact under conditions", "approximate")
"""How a translation may stand to torch, the most exact first."""


@dataclass(frozen=True)
class Translation:
    """A torch.optim configuration in optax.

    Attributes:
        name: The torch.optim class.
        options: All its options.
        expression: Python code for an `optax.GradientTransformation`.
        status: One of `STATUSES`.
        reason: Where the optax function of the same name differs, in one line.
        condition: Under what conditions it is exact, or why it is not.
        decays: Whether torch multiplies the parameter by 1 - lr * weight_decay, which rounds.
    """

    name: str
    options: dict[str, Any]
    expression: str
    status: str
    reason: str
    condition: str = ""
    decays: bool = False

    def __str__(self) -> str:
        return show(self.expression, [self])

    def transformation(self, schedule: Callable[[Any], Any] | None = None) -> Any:
        """Return the `optax.GradientTransformation`.

        Args:
            schedule: What the name `schedule` means in the expression, if it was translated with one.
        """
        return build(self.expression, schedule)


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
    imports += ["import optax"]
    imports += ["from jaxopt_study.dictionary import transforms"] if "transforms" in names else []
    return "\n".join([*words, *imports, "", f"optimizer = {expression}"])


def _comments(translation: Translation) -> list[str]:
    given = ", ".join(f"{name}={value!r}" for name, value in translation.options.items())
    lines = [f"# torch.optim.{translation.name}({given})", f"# {translation.status}: {translation.reason}"]
    return [*lines, f"# {translation.condition}"] if translation.condition else lines

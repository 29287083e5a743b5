"""A torch.optim configuration in optax, and the text in which a user reads it: the code to paste, under comments."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
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
        return build(self.expression, schedule=schedule)


def show(
    expression: str,
    groups: Sequence[Translation],
    notes: Sequence[str] = (),
    values: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Return Python code that makes `optimizer`, and runs as it stands, but for labels that are not known.

    Args:
        expression: The code of the transformation.
        groups: What it was made from, one translation for each parameter group.
        notes: What holds of the whole and is in no group: conditions, and what is not carried over.
        values: The code of names in the expression: of `labels`, and of schedules.
    """
    given = [f"{name} = {code}" for name, code in values.items()]
    for name, number in dict.fromkeys(re.findall(r"\b(schedule(\d*))\b", expression)):
        if name not in values:
            given += [f"# {name}: put your own function here, from the number of steps made to the learning rate"]
            given += [f"{name} = optax.constant_schedule({groups[int(number or 0)].options['lr']!r})"]
    names = re.findall(r"\w+", "\n".join([*given, expression]))
    words = [line for group in groups for line in _comments(group)] + [f"# {note}" for note in notes]
    imports = ["import jax.numpy as jnp"] if "jnp" in names else []
    imports += ["import optax"]
    imports += ["from jaxopt_study.dictionary import labels_by_name"] if "labels_by_name" in names else []
    imports += ["from jaxopt_study.dictionary import transforms"] if "transforms" in names else []
    return "\n".join([*words, *imports, "", *given, f"optimizer = {expression}"])


def _comments(translation: Translation) -> list[str]:
    given = ", ".join(f"{name}={value!r}" for name, value in translation.options.items())
    lines = [f"# torch.optim.{translation.name}({given})", f"# {translation.status}: {translation.reason}"]
    return [*lines, f"# {translation.condition}"] if translation.condition else lines

"""A torch configuration in optax, and the text in which a user reads it: the code to paste, under comments."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from jaxopt_study.dictionary.build import build

EXACT, CONDITIONS, APPROXIMATE = STATUSES = ("exact", "exact under conditions", "approximate")
"""How a translation may stand to torch, the most exact first."""
WIDTH = 80
"""Columns of a comment."""


@dataclass(frozen=True)
class Translation:
    """A torch configuration in optax.

    Attributes:
        name: The class or function of torch.
        options: All its options.
        expression: Python code for it: of an optimizer, an `optax.GradientTransformation`.
        status: One of `STATUSES`.
        reason: Where the optax function of the same name differs, in one line.
        condition: Under what conditions it is exact, or why it is not.
        decays: Whether torch multiplies the parameter by 1 - lr * weight_decay, which rounds.
        module: Where torch has it.
        needs: The code of names in the expression, where it has some that no import gives.
        makes: What its code is called in a script: an `optimizer`, a `schedule`, `clip`, an `initializer`, `average`.
    """

    name: str
    options: dict[str, Any]
    expression: str
    status: str
    reason: str
    condition: str = ""
    decays: bool = False
    module: str = "torch.optim"
    makes: str = "optimizer"
    needs: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return show(self.expression, [self], values=self.needs, makes=self.makes)

    def transformation(self, schedule: Callable[[Any], Any] | None = None) -> Any:
        """Return what the expression makes: of an optimizer or a clipping, the `optax.GradientTransformation`.

        Args:
            schedule: What the name `schedule` means in the expression, if it was translated with one.

        Raises:
            TypeError: The expression is torch's, and needs parameters.
        """
        if self.module == "optax":
            raise TypeError(f"{self.expression} is torch's, and needs parameters: paste its code")
        return build(self.expression, schedule=schedule)


def show(
    expression: str,
    groups: Sequence[Translation],
    notes: Sequence[str] = (),
    values: Mapping[str, str] = MappingProxyType({}),
    makes: str = "optimizer",
) -> str:
    """Return Python code that makes what `makes` says, and runs as it stands, but for labels that are not known.

    Args:
        expression: The code of the transformation.
        groups: What it was made from, one translation for each parameter group.
        notes: What holds of the whole and is in no group: conditions, and what is not carried over.
        values: The code of names in the expression: of `labels`, and of schedules.
        makes: See `Translation`.
    """
    given = [f"{name} = {code}" for name, code in values.items()]
    for name, number in dict.fromkeys(re.findall(r"\b(schedule(\d*))\b", expression)):
        if name not in values:
            given += [f"# {name}: put your own function here, from the number of steps made to the learning rate"]
            given += [f"{name} = optax.constant_schedule({groups[int(number or 0)].options['lr']!r})"]
    names = set(re.findall(r"\w+", "\n".join([*given, expression])))
    words = [line for group in groups for line in _comments(group)] + [line for note in notes for line in comment(note)]
    imports = [line for name, line in IMPORTS.items() if name in names]
    return "\n".join([*words, *imports, "", *given, f"{makes} = {expression}"])


def chained(parts: Sequence[str]) -> str:
    """Return the code of transformations one after the other."""
    if len(parts) == 1:
        return parts[0]
    return "optax.chain(\n" + "".join(f"    {indented(part)},\n" for part in parts) + ")"


def indented(code: str, spaces: int = 4) -> str:
    """Return code of several lines, all but the first moved to the right."""
    return code.replace("\n", "\n" + " " * spaces)


IMPORTS = {
    "jax": "import jax",
    "jnp": "import jax.numpy as jnp",
    "optax": "import optax",
    "torch": "import torch",
    "labels_by_name": "from jaxopt_study.dictionary import labels_by_name",
    "trainable": "from jaxopt_study.dictionary import trainable",
    "transforms": "from jaxopt_study.dictionary import transforms",
}
"""The names that code may have, and where they are from."""


def _comments(translation: Translation) -> list[str]:
    given = ", ".join(f"{name}={value!r}" for name, value in translation.options.items())
    said = [f"{translation.module}.{translation.name}({given})", f"{translation.status}: {translation.reason}"]
    said += [translation.condition] if translation.condition else []
    return [line for words in said for line in comment(words)]


def comment(words: str) -> list[str]:
    """Return words as the lines of a comment, of at most 80 columns."""
    return textwrap.wrap(
        words, WIDTH, initial_indent="# ", subsequent_indent="#   ", break_long_words=False, break_on_hyphens=False
    )

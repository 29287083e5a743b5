"""How the frameworks look in every chart: one colour and one shape each, which differ in grey too."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

LABELS = {"jax": "JAX", "torch": "PyTorch", "numpy": "NumPy", "c": "C"}
"""A framework -> its name for readers."""


@dataclass(frozen=True)
class Look:
    """How the points and the lines of a group look.

    Attributes:
        colour: One of Okabe and Ito's, which people with any colour vision can tell apart.
        shape: Vega's name of it.
        filled: Whether the shape is filled; a hollow one around a smaller filled one shows both.
        dash: Lengths of dashes and gaps.
        size: The area of a point.
    """

    colour: str
    shape: str
    filled: bool
    dash: tuple[int, ...]
    size: int = 40


LOOKS = {
    "JAX": Look("#0072B2", "circle", True, (1, 0), 30),
    "PyTorch": Look("#D55E00", "square", False, (6, 3), 75),
    "NumPy": Look("#009E73", "triangle-up", False, (2, 2), 60),
    "C": Look("#CC79A7", "diamond", True, (8, 3, 2, 3), 60),
}
OTHERS = (
    Look("#56B4E9", "triangle-right", True, (1, 0), 55),
    Look("#E69F00", "cross", True, (5, 3), 55),
    Look("#999999", "triangle-down", False, (2, 2), 55),
)
"""Of groups that are no frameworks."""


def looks(groups: Iterable[str]) -> dict[str, Look]:
    """Return the look of each group, frameworks first and in their order."""
    names = list(dict.fromkeys(groups))
    others = [name for name in names if name not in LOOKS]
    found = {name: LOOKS[name] for name in LOOKS if name in names}
    return found | {name: OTHERS[place % len(OTHERS)] for place, name in enumerate(others)}

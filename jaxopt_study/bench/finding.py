"""What a study concludes of values: whether two of them agree, by how much, and what was allowed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One comparison of values.

    Attributes:
        subject: What was compared, in words.
        agrees: The verdict; None where the values cannot tell (chaotic training).
        words: The measured distance and the bound.
    """

    subject: str
    agrees: bool | None
    words: str

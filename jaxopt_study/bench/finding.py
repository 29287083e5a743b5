"""What a study concludes of values: whether they agree, measured against a bound."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from jaxopt_study.bench.case import Case

MANY = 4
"""So many cases of a comparison are named."""


@dataclass(frozen=True)
class Finding:
    """One comparison of values.

    Attributes:
        what: What was compared, with what, in words.
        cases: The cases whose values were compared. Where they disagree, the times of all of them are withheld, since
            it is not known which is wrong.
        distance: The measured difference; NaN where a value is missing.
        bound: The largest difference that is called agreement.
        agrees: The verdict; None where the values cannot tell, for the reason in `note`.
        note: What a reader should know beside the numbers.
    """

    what: str
    cases: tuple[Case, ...]
    distance: float
    bound: float
    agrees: bool | None
    note: str = ""

    @property
    def subject(self) -> str:
        """The cases in short, for tables and messages; of many, the first."""
        keys = list(dict.fromkeys(case.key for case in self.cases))
        return ", ".join(keys) if len(keys) <= MANY else f"{keys[0]} and {len(keys) - 1} more"


def compare(what: str, cases: Iterable[Case], distance: float, bound: float, note: str = "") -> Finding:
    """Return the finding that `distance` is within `bound`, or is not; NaN is not."""
    return Finding(what, tuple(cases), float(distance), float(bound), bool(distance <= bound), note)


def agreement(case: Case, findings: Iterable[Finding]) -> bool | None:
    """Return whether a case's values agree in all findings that name it: False if one does not.

    None where no finding names it, or one that does cannot tell.
    """
    verdicts = {finding.agrees for finding in findings if case in finding.cases}
    if False in verdicts:
        return False
    return True if verdicts == {True} else None

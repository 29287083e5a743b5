"""What a run's records come to: which times may be shown, and the ratios of those that may."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from jaxopt_study.bench import ratio
from jaxopt_study.bench.case import Case
from jaxopt_study.bench.finding import Finding, agreement
from jaxopt_study.bench.ratio import Ratio
from jaxopt_study.bench.record import Record, slowed_cases


@dataclass(frozen=True)
class Results:
    """The records of a run, and what was found of their values.

    Attributes:
        records: All of them, of every study: the machine's best speed is that of the whole run.
        findings: All comparisons of values.
    """

    records: tuple[Record, ...]
    findings: tuple[Finding, ...]

    def of(self, study: str, experiment: str) -> list[Record]:
        """Return the records of one experiment."""
        return [r for r in self.records if (r.study, r.experiment) == (study, experiment)]

    def agrees(self, record: Record) -> bool | None:
        """Return whether the record's values agree with what they were compared with: see `finding.agreement`."""
        return agreement(record.case, self.findings)

    def shows(self, record: Record) -> bool:
        """Say whether the record's time may be shown: it has one, and no comparison of its value failed.

        This is the only place that decides it; the report, the summary, `--export` and `--against` ask here.
        """
        return record.ok and bool(record.samples) and record.case not in self.withheld

    def ratio(self, numerator: Record | None, denominator: Record | None) -> Ratio | None:
        """Return the ratio of two times; None where one is missing or withheld, or they share no rounds."""
        if numerator is None or denominator is None or numerator is denominator:
            return None
        if not (self.shows(numerator) and self.shows(denominator)):
            return None
        return ratio.paired(numerator, denominator, not self._slowed.isdisjoint((numerator.case, denominator.case)))

    def slowed(self, record: Record) -> bool:
        """Say whether the machine was slow while the record was measured."""
        return record.case in self._slowed

    @cached_property
    def withheld(self) -> frozenset[Case]:
        """The cases whose values disagree in some comparison, so that their times are not shown."""
        return frozenset(case for finding in self.findings if finding.agrees is False for case in finding.cases)

    @cached_property
    def _slowed(self) -> set[Case]:
        return slowed_cases(self.records)

"""Shared cases as data: records made by hand."""

from jaxopt_study.bench.case import Plan
from jaxopt_study.bench.record import Record


def a_record(**changes):
    facts = {
        "study": "optimizers",
        "experiment": "optimizers",
        "subject": "adam",
        "framework": "jax",
        "method": "scan",
        "status": "ok",
        "group": "2026-01-01T00:00:00",
        "environment": "abc",
        "first_seconds": 1.0,
    }
    return Record(**(facts | changes))


def plan_of(where):
    """Return the plan of a recorded environment."""
    return Plan(**{name: tuple(value) if isinstance(value, list) else value for name, value in where["plan"].items()})

"""What differs around runs: machine, versions, commit, settings; and whether their steps do the same work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxopt_study.bench.case import Plan
from jaxopt_study.bench.record import Record
from jaxopt_study.report.table import Table

WORK = ("dtype", "workload", "batch_size", "model", "loss", "built_in", "data", "standardized")
"""Settings that change what a step computes. Other machines, versions, seeds or lengths of a run do not."""
WORK_OF = {"spread": ("initializations",)}
"""More of them, of single studies."""
ABSENT = "none"
NAMED = (
    *("processor", "jax", "torch", "optax", "python", "commit", "workload", "batch size", "dtype", "device", "threads"),
    *("profile", "epochs"),
)
"""What a reader is told where it is the same in all runs."""


@dataclass(frozen=True)
class Run:
    """A run, as it is set beside others.

    Attributes:
        folder: Where it is, as a reader is told it.
        environment: Where it was made.
        plan: What it was asked for.
        timed: Its records whose times may be shown.
    """

    folder: str
    environment: Mapping[str, Any]
    plan: Plan
    timed: Sequence[Record]


def other_work(before: Plan, after: Plan, study: str = "") -> list[str]:
    """Return the settings by which a step of the later run does other work, so that two times make no ratio."""
    names = (*WORK, *WORK_OF.get(study, ()))
    return [name for name in names if getattr(before, name) != getattr(after, name)]


def table(runs: Sequence[Run]) -> Table:
    """Return what differs between the runs, a line for each value; a note says what is the same in all."""
    facts = [_facts(run) for run in runs]
    names = list(dict.fromkeys(name for mine in facts for name in mine))
    rows, same = [], []
    for name in names:
        values = [mine.get(name, ABSENT) for mine in facts]
        numbers = {value: [str(n) for n, other in enumerate(values, 1) if other == value] for value in values}
        if len(numbers) > 1:
            rows += [(name, value, ", ".join(where)) for value, where in numbers.items()]
        elif name in NAMED and values[0] != ABSENT:
            same.append(f"{name} {values[0]}")
    notes = (f"The same in all: {', '.join([*same, 'and what is not named here'])}.",)
    return Table("The runs: what differs", ("what", "value", "runs"), rows, notes, left=("value", "runs"))


def in_words(value: Any) -> str:
    """Return an entry of an environment as a reader is told it."""
    if isinstance(value, tuple | list):
        value = ", ".join(map(str, value))
    return ABSENT if value in (None, "") else str(value)


def _facts(run: Run) -> dict[str, str]:
    """Return everything that an environment says, but for what another moment changes; a name and a text of each."""
    where = run.environment
    found: dict[str, Any] = {
        "folder": run.folder,
        "started": where["started"][:19].replace("T", " "),
        "processor": where["cpu"],
        "cores at hand": where["cores"].get("at hand"),
        "memory": f"{where['memory_bytes'] / 2**30:.0f} GiB",
        "system": where["system"],
        "affinity": where["affinity"],
        "commit": where["commit"],
        **where["versions"],
        **{name.replace("_", " "): value for name, value in vars(run.plan).items()},
        **{f"variable {name}": value for name, value in where["variables"].items()},
        **{
            f"worker {name}: {what}": value for name, words in where["workers"].items() for what, value in words.items()
        },
    }
    return {
        name.replace("_", " ") if name in vars(run.plan) else name: in_words(value) for name, value in found.items()
    }

"""The dictionary as tables, from the rows of `rows.Configurations`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from jaxopt_study.report import table as text
from jaxopt_study.report.table import ABSENT, Table
from jaxopt_study.studies.experiment import Row


def dictionary(rows: Sequence[Row]) -> list[Table]:
    """Return the dictionary in short, the code to copy, every configuration, and the distances step by step."""
    return [_classes(rows), _code(rows), _configurations(rows), _steps(rows)]


def searched(row: Row) -> str:
    """Say where two line searches ended."""
    (ours, theirs), (our_count, their_count) = row["search"], row["evaluations"]
    return (
        f"the line searches differ: after as many iterations the loss is {ours:.2g} in optax ({our_count} evaluations) "
        f"and {theirs:.2g} in torch ({their_count})"
    )


def _classes(rows: Sequence[Row]) -> Table:
    columns = ("torch.optim", "in optax", "configurations", "same name", "aligned", "sensitivity", "replay", "why")
    lines = []
    for name in dict.fromkeys(row["name"] for row in rows):
        mine = [row for row in rows if row["name"] == name]
        lines.append((name, mine[0]["class"], _count(mine), *_ends(mine[0]), mine[0]["reason"]))
    notes = (
        "Largest difference of a parameter after the last step, float64, digits, of each class's first configuration.",
        "Same name: the optax function of that name, same learning rate, both frameworks' defaults. Aligned: the code "
        "below, each framework with its own gradients. Replay: the same gradients for both.",
        "Sensitivity to rounding: torch against itself, each initial parameter moved by one unit in the last place. "
        "Where it is large, training is chaotic and only replay can tell.",
    )
    return Table("torch.optim in optax", columns, lines, notes, left=("in optax", "configurations", "why"))


def _count(rows: Sequence[Row]) -> str:
    """Say how many configurations of a class hold."""
    compared = [row["holds"] for row in rows if row["holds"] is not None]
    if not compared:
        return _state(rows[0])
    holding = f"{sum(compared)} of {len(rows)} hold"
    return f"NO LONGER SO: {holding}" if sum(compared) < len(rows) else holding


def _state(row: Row) -> str:
    return {True: "holds", False: "NO LONGER SO", None: row["missing"] or "not compared"}[row["holds"]]


def _ends(row: Row) -> tuple[str, str, str, str]:
    """Return the last distance of each kind: same name, aligned, sensitivity, replay."""
    trained, replayed = row.get("digits"), row.get("replay", row.get("schedule"))
    return (
        text.number(row["namesake"].distance[-1]) if "namesake" in row else ABSENT,
        text.number(trained.distance[-1]) if trained else ABSENT,
        text.number(trained.sensitivity[-1]) if trained else ABSENT,
        text.number(replayed.distance[-1]) if replayed else ABSENT,
    )


def _code(rows: Sequence[Row]) -> Table:
    lines = [(row["subject"], f"`{one_line(row['expression'])}`") for row in rows]
    notes = ("transforms: jaxopt_study.dictionary.transforms.",)
    return Table("The code to copy", ("torch.optim", "optax"), lines, notes, left=("optax",))


def one_line(expression: str) -> str:
    """Return an expression on one line, as it can be copied from a table."""
    return " ".join(expression.split()).replace("( ", "(").replace(", )", ")")


def _configurations(rows: Sequence[Row]) -> Table:
    columns = ("torch.optim", "in optax", "here", "aligned", "sensitivity", "replay", "why")
    lines = []
    for row in rows:
        why = row["reason"] + (f"; {row['condition']}" if row["condition"] else "")
        why = searched(row) if "search" in row else why
        lines.append((row["subject"], row["class"], _state(row), *_ends(row)[1:], why))
    return Table("Every configuration", columns, lines, left=("in optax", "here", "why"))


def _steps(rows: Sequence[Row]) -> Table:
    columns = (
        "torch.optim", "same name", "digits", "digits, sensitivity", "MLP", "MLP, sensitivity", "replay",
        "replay, schedule",
    )  # fmt: skip
    lines = [
        (
            row["subject"],
            _joined(row, "namesake"),
            *(_joined(row, name, which) for name in ("digits", "mlp") for which in ("distance", "sensitivity")),
            *(_joined(row, name) for name in ("replay", "schedule")),
        )
        for row in rows
        if "digits" in row
    ]
    notes = (
        "Largest difference of a parameter after 1, 2, 10, 100 and 1,000 steps (L-BFGS: 1, 2, 10 and 50 iterations), "
        "float64. The MLP is trained, and the last column replayed, with a learning rate that changes.",
    )
    return Table("The distances, step by step", columns, lines, notes)


def _joined(row: Row, name: str, which: str = "distance") -> str:
    numbers: Iterable[float] = getattr(row[name], which) if name in row else ()
    return " ".join(map(text.number, numbers)) or ABSENT

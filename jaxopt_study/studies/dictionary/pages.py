"""The dictionary as tables and a chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxopt_study.bench.case import Plan
from jaxopt_study.bench.record import Record
from jaxopt_study.bench.report import table as text
from jaxopt_study.bench.report.figure import COLOURS, Figure
from jaxopt_study.bench.report.table import ABSENT, Table
from jaxopt_study.dictionary.others import OPTAX_ALONE
from jaxopt_study.studies.dictionary.judgement import rows as rows_of

QUIRK_WORDS = {
    "rprop_lags": "optax.rprop applies the update of the step before; its first is zero (optax pull request 1725)",
    "adadelta_climbs": "optax.adadelta() without a learning rate does not turn the sign: it climbs",
    "muon_gives_vectors_nesterov": "optax.contrib.muon trains vectors by NAdamW, since it hands its nesterov on",
    "rmsprop_keeps_the_learning_rate": "optax.rmsprop with momentum keeps old learning rates in its buffer",
    "schedules_in_float32": "under x64 optax's schedules still compute in float32, as an int32 count is divided",
    "asgd_lags": "torch.optim.ASGD uses a changed learning rate one step late",
    "nadam_keeps_default_dtype": "torch.optim.NAdam keeps its running product in the default type, not the parameters'",
    "adafactor_documents_another_decay": "torch.optim.Adafactor documents weight_decay=1e-2 by default, and has 0",
}


def tables(rows: Sequence[Mapping[str, Any]], plan: Plan) -> list[Table]:
    """Return the dictionary, the code to copy, the distances behind it, and what goes with it."""
    del plan
    mine = [row for row in rows if row["kind"] == "row"]
    grown = [row for row in rows if row["kind"] == "float32"]
    others = [row for row in rows if row["kind"] == "convention"]
    made = [_dictionary(mine), _code(mine), _distances(mine), _growth(grown), _conventions(others), _quirks(rows)]
    return [table for table in [*made, _alone()] if table.rows]


def verdict(rows: Sequence[Mapping[str, Any]], plan: Plan) -> str:
    """Say how many rows hold, and which known defects are gone."""
    del plan
    judged = [row for row in rows if row["kind"] == "row" and row["holds"] is not None]
    gone = [row["subject"] for row in rows if row["kind"] == "quirk" and not row["there"]]
    if not judged:
        return ""
    words = f"{sum(row['holds'] for row in judged)} of {len(judged)} lines of the dictionary hold on these versions"
    return words + (f"; no longer so: {', '.join(gone)}" if gone else "")


def figures(records: Sequence[Record], plan: Plan) -> list[Figure]:
    """Return how float32 distances grow."""
    grown = [row for row in rows_of(records, plan) if row["kind"] == "float32" and "distance" in row]
    if not grown:
        return []
    last = grown[0]["steps"][-1]
    caption = f"Distance of float32 parameters over {last} steps on digits; the grey band is one unit moved in torch."
    return [Figure("float32_growth", caption, lambda axes: _draw_growth(axes, grown))]


def _dictionary(rows: Sequence[Mapping[str, Any]]) -> Table:
    columns = ("torch.optim", "class", "here", "out of the box", "aligned", "floor", "replay", "why")
    lines = []
    for row in rows:
        state = {True: "holds", False: "NO LONGER SO", None: row["failed"] or "not compared"}[row["holds"]]
        namesake = text.number([*row["namesake"].values()][-1]) if "namesake" in row else ABSENT
        closed, replay = row.get("digits"), row.get("replay", row.get("schedule"))
        ends = (text.number(closed["distance"][-1]), text.number(closed["floor"][-1])) if closed else (ABSENT, ABSENT)
        why = row["reason"] + (f"; {row['condition']}" if row["condition"] else "")
        why = row["words"] if "search" in row else why
        last = text.number(replay["distance"][-1]) if replay else ABSENT
        lines.append((row["subject"], row["class"], state, namesake, *ends, last, why))
    notes = (
        "Largest difference of a parameter after the last step, float64, digits. Out of the box: the optax function of "
        "that name, same learning rate, both frameworks' defaults.",
        "Aligned: the code below, each framework with its own gradients. Replay: the same gradients for both.",
        "Floor: torch against itself, each initial parameter moved by one unit in the last place; where it is large, "
        "training is chaotic and only replay can tell.",
    )
    return Table("torch.optim in optax", columns, lines, notes, left=("class", "here", "why"))


def _code(rows: Sequence[Mapping[str, Any]]) -> Table:
    lines = [(row["subject"], f"`{one_line(row['expression'])}`") for row in rows]
    return Table(
        "The code to copy", ("torch.optim", "optax"), lines, ("transforms: jaxopt_study.transforms.",), left=("optax",)
    )


def _distances(rows: Sequence[Mapping[str, Any]]) -> Table:
    columns = (
        "torch.optim",
        "out of the box",
        "aligned, digits",
        "floor",
        "aligned, MLP",
        "floor",
        "replay",
        "replay, schedule",
    )
    lines = []
    for row in rows:
        if "digits" not in row:
            continue
        namesake = " ".join(text.number(x) for x in row["namesake"].values()) if "namesake" in row else ABSENT
        closed = [cell for name in ("digits", "mlp") for cell in _path(row.get(name))]
        replay = [_path(row.get(name))[0] for name in ("replay", "schedule")]
        lines.append((row["subject"], namesake, *closed, *replay))
    notes = (
        "Largest difference of a parameter after 1, 2, 10, 100 and 1,000 steps (L-BFGS: 1, 2, 10 and 50 iterations), "
        "float64. The MLP is trained, and the last column replayed, under a learning rate that changes.",
    )
    return Table("The distances, step by step", columns, lines, notes)


def _path(found: Mapping[str, Any] | None) -> tuple[str, str]:
    if found is None:
        return ABSENT, ABSENT
    return " ".join(text.number(x) for x in found["distance"]), text.number(found["floor"][-1])


def _growth(grown: Sequence[Mapping[str, Any]]) -> Table:
    lines = [(row["subject"], text.number(row["distance"][-1]), text.number(row["floor"][-1])) for row in grown]
    steps = grown[0]["steps"][-1] if grown else 0
    return Table(f"float32: distance after {steps} steps on digits", ("torch.optim", "distance", "floor"), lines)


def _conventions(rows: Sequence[Mapping[str, Any]]) -> Table:
    lines = [
        (
            row["subject"],
            "holds" if row["holds"] else "NO LONGER SO",
            ABSENT if row["namesake"] is None else text.number(row["namesake"]),
            text.number(row["distance"]),
            f"`{row['expression']}`",
            row["reason"],
        )
        for row in rows
    ]
    columns = ("torch", "here", "of that name", "aligned", "in JAX", "why")
    notes = ("Of draws, the largest difference of 199 quantiles in units of the deviation; 0.04 is their own noise.",)
    return Table("Schedules, clipping, initializers", columns, lines, notes, left=("here", "in JAX", "why"))


def _quirks(rows: Sequence[Mapping[str, Any]]) -> Table:
    lines = [
        (QUIRK_WORDS.get(row["subject"], row["subject"]), "still so" if row["there"] else "NO LONGER SO")
        for row in rows
        if row["kind"] == "quirk"
    ]
    return Table("Known defects, of the frameworks and not of this table", ("defect", "here"), lines)


def _alone() -> Table:
    lines = [(where, ", ".join(names)) for where, names in OPTAX_ALONE.items()]
    return Table("In optax alone: no counterpart in torch.optim", ("where", "names"), lines)


def one_line(expression: str) -> str:
    """Return an expression on one line, as it can be copied from a table."""
    return " ".join(expression.split()).replace("( ", "(").replace(", )", ")")


def _draw_growth(axes: Any, grown: Sequence[Mapping[str, Any]]) -> None:
    styles = ("-", "--", ":")
    for number, row in enumerate(grown):
        axes.fill_between(row["steps"], 0, row["floor"], color="grey", alpha=0.06, linewidth=0)
        style = {"color": COLOURS[number % len(COLOURS)], "linestyle": styles[number // len(COLOURS)]}
        drawn = [distance or float("nan") for distance in row["distance"]]
        axes.plot(row["steps"], drawn, label=row["subject"].split("(")[0], **style)
    axes.set(xlabel="step", ylabel="largest distance of a parameter", xscale="log", yscale="log")
    axes.legend(frameon=False, fontsize="x-small", ncols=3)

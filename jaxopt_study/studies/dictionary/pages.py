"""The dictionary as tables and a chart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxopt_study.bench.case import Plan
from jaxopt_study.bench.record import Record
from jaxopt_study.report import table as text
from jaxopt_study.report.figure import COLOURS, Figure
from jaxopt_study.report.table import ABSENT, Table
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

GROWTH_NOTES = (
    "Trained: on digits, each framework with its own gradients. Replayed: random gradients, the same for both; "
    "the optimizer's arithmetic alone, which is held to a bound.",
    "Rounding of the gradients: where a row is almost surely right, the gradient of its class is p - 1, and the two "
    "softmax round it to float32 numbers 1.2e-7 apart, which is 2 % of 5e-6. A rule that divides by the size of rare "
    "gradients makes that 2 % of a step: the parameters that part are those of pixels that are lit in 3 of 898 rows. "
    "SparseAdam leaves a class out where its gradient is 0, which by underflow it can be in one framework alone.",
)


def tables(rows: Sequence[Mapping[str, Any]], plan: Plan) -> list[Table]:
    """Return the dictionary in short, the code to copy, every configuration, the distances, and what goes with it."""
    del plan
    mine = [row for row in rows if row["kind"] == "row"]
    grown = [row for row in rows if row["kind"] == "float32"]
    others = [row for row in rows if row["kind"] == "convention"]
    made = [_dictionary(mine), _code(mine), _configurations(mine), _distances(mine), _growth(grown)]
    made += [_conventions(others), _quirks(rows), _alone()]
    return [table for table in made if table.rows]


def verdict(rows: Sequence[Mapping[str, Any]], plan: Plan) -> str:
    """Say how many rows hold, which known defects are gone, and which optimizers are new to the dictionary or gone."""
    del plan
    new, missing = (
        [row["subject"] for row in rows if row["kind"] == "optimizer" and row["there"] is there]
        for there in (True, False)
    )
    judged = [row for row in rows if row["kind"] == "row" and row["holds"] is not None]
    gone = [row["subject"] for row in rows if row["kind"] == "quirk" and not row["there"]]
    if not judged:
        return ""
    words = f"{sum(row['holds'] for row in judged)} of {len(judged)} lines of the dictionary hold on these versions"
    words += f"; no longer so: {', '.join(gone)}" if gone else ""
    words += f"; NEW, and not in the dictionary: {', '.join(new)}" if new else ""
    return words + (f"; gone: {', '.join(missing)}" if missing else "")


def figures(records: Sequence[Record], plan: Plan) -> list[Figure]:
    """Return how float32 distances grow: in training, and with the same gradients for both frameworks."""
    grown = [row for row in rows_of(records, plan) if row["kind"] == "float32"]
    if not grown:
        return []
    steps = grown[0]["steps"][-1]
    trained = f"float32, {steps} steps on digits, each framework with its own gradients."
    replayed = f"float32, {steps} steps with the same gradients for both: the rounding of the optimizers alone."
    return [
        Figure("float32_trained", trained, lambda axes: _draw_growth(axes, grown, "distance")),
        Figure("float32_replayed", replayed, lambda axes: _draw_growth(axes, grown, "replayed")),
    ]


def _dictionary(rows: Sequence[Mapping[str, Any]]) -> Table:
    columns = ("torch.optim", "in optax", "configurations", "out of the box", "aligned", "floor", "replay", "why")
    lines = []
    for name in dict.fromkeys(row["name"] for row in rows):
        mine = [row for row in rows if row["name"] == name]
        lines.append((name, mine[0]["class"], _count(mine), *_ends(mine[0]), mine[0]["reason"]))
    notes = (
        "Largest difference of a parameter after the last step, float64, digits, of each class's first configuration.",
        "Out of the box: the optax function of that name, same learning rate, both frameworks' defaults. Aligned: the "
        "code below, each framework with its own gradients. Replay: the same gradients for both.",
        "Floor: torch against itself, each initial parameter moved by one unit in the last place; where it is large, "
        "training is chaotic and only replay can tell.",
    )
    return Table("torch.optim in optax", columns, lines, notes, left=("in optax", "configurations", "why"))


def _count(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say how many configurations of a class hold."""
    judged = [row for row in rows if row["holds"] is not None]
    if not judged:
        return _state(rows[0])
    holding = sum(row["holds"] for row in judged)
    return f"{holding} of {len(rows)} hold" if holding == len(rows) else f"NO LONGER SO: {holding} of {len(rows)} hold"


def _state(row: Mapping[str, Any]) -> str:
    return {True: "holds", False: "NO LONGER SO", None: row["failed"] or "not compared"}[row["holds"]]


def _ends(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Return the last distance of each kind: out of the box, aligned, floor, replay."""
    closed, replay = row.get("digits"), row.get("replay", row.get("schedule"))
    return (
        text.number([*row["namesake"].values()][-1]) if "namesake" in row else ABSENT,
        text.number(closed["distance"][-1]) if closed else ABSENT,
        text.number(closed["floor"][-1]) if closed else ABSENT,
        text.number(replay["distance"][-1]) if replay else ABSENT,
    )


def _configurations(rows: Sequence[Mapping[str, Any]]) -> Table:
    columns = ("torch.optim", "in optax", "here", "aligned", "floor", "replay", "why")
    lines = []
    for row in rows:
        why = row["reason"] + (f"; {row['condition']}" if row["condition"] else "")
        why = row["words"] if "search" in row else why
        lines.append((row["subject"], row["class"], _state(row), *_ends(row)[1:], why))
    return Table("Every configuration", columns, lines, left=("in optax", "here", "why"))


def _code(rows: Sequence[Mapping[str, Any]]) -> Table:
    lines = [(row["subject"], f"`{one_line(row['expression'])}`") for row in rows]
    return Table(
        "The code to copy",
        ("torch.optim", "optax"),
        lines,
        ("transforms: jaxopt_study.dictionary.transforms.",),
        left=("optax",),
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
        namesake = _joined(row["namesake"].values()) if "namesake" in row else ABSENT
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
    return _joined(found["distance"]), _joined(found["floor"])


def _joined(distances: Iterable[float]) -> str:
    return " ".join(text.number(x) for x in distances)


def _growth(grown: Sequence[Mapping[str, Any]]) -> Table:
    lines = [
        (
            row["subject"],
            "holds" if row["holds"] else "NO LONGER SO",
            *(text.number(row[name][-1]) for name in ("distance", "floor", "replayed")),
            _why_apart(row),
        )
        for row in grown
    ]
    steps = grown[0]["steps"][-1] if grown else 0
    columns = ("torch.optim", "here", "trained", "floor", "replayed", "why")
    return Table(f"float32: distances after {steps} steps", columns, lines, GROWTH_NOTES, left=("here", "why"))


def _why_apart(row: Mapping[str, Any]) -> str:
    if row["name"] == "Muon":
        return "torch iterates in bfloat16: another order of summation flips its bits"
    if row["decays"]:
        return "torch rounds 1 - lr weight_decay (ASGD: lambd), alike at every step: the distance grows as the steps"
    trained, replayed = row["distance"][-1], row["replayed"][-1]
    if trained == replayed == 0:
        return "equal to the last bit"
    return "rounding of the gradients" if trained > 10 * max(replayed, row["floor"][-1]) else "rounding"


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


def _draw_growth(axes: Any, grown: Sequence[Mapping[str, Any]], what: str) -> None:
    """Draw the distances of all classes, the largest at the end first in the legend."""
    styles = ("-", "--", "-.")
    for number, row in enumerate(sorted(grown, key=lambda row: -row[what][-1])):
        style = {"color": COLOURS[number % len(COLOURS)], "linestyle": styles[number // len(COLOURS)]}
        drawn = [distance or float("nan") for distance in row[what]]
        axes.plot(row["steps"], drawn, label=row["name"] + ("" if any(row[what]) else ": 0"), **style)
    if what == "distance":
        worst = [max(floors) for floors in zip(*(row["floor"] for row in grown if row["name"] != "Muon"), strict=True)]
        axes.plot(grown[0]["steps"], worst, color="grey", linestyle=":", label="floor, the largest but Muon's")
    axes.set(xlabel="step", ylabel="largest distance of a parameter", xscale="log", yscale="log")
    axes.legend(frameon=False, fontsize="x-small", loc="center left", bbox_to_anchor=(1, 0.5))

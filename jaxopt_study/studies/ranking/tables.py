"""The ranking as text: each workload's results, what they come to over all workloads, and the verdict in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxopt_study.bench.case import Plan
from jaxopt_study.report import table as text
from jaxopt_study.report.table import ABSENT, Table
from jaxopt_study.studies.experiment import Row
from jaxopt_study.studies.ranking import points, profiles, statistics
from jaxopt_study.studies.ranking.rows import REFERENCE, TRIALS
from jaxopt_study.studies.ranking.statistics import BETTER, TIED, WORSE
from jaxopt_study.terminal import counted

POINTS = ("default", "tuned")
SIGNS = {BETTER: "+", TIED: "=", WORSE: "-"}
LEGEND = "+ beats Adam, = tied, - worse"
"""It stands in a title, since a terminal shows no notes."""
BUDGETS = ("default", *map(str, TRIALS), "all")


def tables(rows: Sequence[Row], plan: Plan) -> list[Table]:
    """Return the tables of a run."""
    names = list(dict.fromkeys(row["workload"] for row in rows))
    found = [table for name in names for table in of_workload(name, [r for r in rows if r["workload"] == name], plan)]
    whole = complete(rows)
    return [*found, *(_over_all(whole) if whole else [])]


def brief(rows: Sequence[Row], plan: Plan) -> list[Table]:
    """Return the one table that says most: the ranks over all workloads, or the test losses of a single one."""
    names, whole = {row["workload"] for row in rows}, complete(rows)
    if len(names) > 1 and whole:
        return [_ranks(whole)]
    return of_workload(names.pop(), rows, plan)[:1] if len(names) == 1 else []


def _over_all(whole: dict[str, list[Row]]) -> list[Table]:
    same = [each for mine in whole.values() for row in mine for each in row["same_steps_in_torch"]]
    return [
        _ranks(whole),
        _budgets(whole),
        profiles.performance(list(whole), {at: steps(whole, at) for at in POINTS}, same),
        *profiles.quality(
            list(whole), {at: losses(whole, budget) for at, budget in zip(POINTS, ("default", "all"), strict=True)}
        ),
    ]


def complete(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return optimizer -> its rows, one for each workload, of the optimizers that have a result on every workload.

    A workload on which no optimizer has one does not count.
    """
    names = list(dict.fromkeys(row["workload"] for row in rows if row["status"] == "ok"))
    done = {(row["optimizer"], row["workload"]): row for row in rows if row["status"] == "ok"}
    optimizers = dict.fromkeys(row["optimizer"] for row in rows)
    return {o: [done[o, name] for name in names] for o in optimizers if all((o, name) in done for name in names)}


def losses(whole: dict[str, list[Row]], budget: str) -> np.ndarray:
    """Return the median test loss (workloads, optimizers) of a budget: `default`, a number of trials, or `all`."""
    return np.array([[loss(row, budget) for row in mine] for mine in whole.values()]).T


def steps(whole: dict[str, list[Row]], at: str) -> np.ndarray:
    """Return the steps to the target (workloads x initializations, optimizers), at the `default` or `tuned` rate."""
    return np.array([[s for row in mine for s in row[f"{at}_steps"]] for mine in whole.values()]).T


def verdict(rows: Sequence[Row]) -> str:
    """Say in how many workloads Adam is best or tied, at the default learning rates and when tuned."""
    names = list(dict.fromkeys(row["workload"] for row in rows if f"default_against_{REFERENCE}" in row))
    if not names:
        return ""
    compared = [row for row in rows if any(_compared(row, name) for name in names)]
    if all(row[f"{at}_against_adam"] == TIED for row in compared for at in POINTS):
        return "no difference between Adam and other optimizers, at default learning rates and when tuned"
    parts = []
    for at, words in (("default", "at default learning rates"), ("tuned", "when tuned")):
        standing = {name: [r[f"{at}_against_adam"] for r in rows if _compared(r, name)] for name in names}
        kept = sum(BETTER not in found for found in standing.values())
        alone = sum(set(found) == {WORSE} for found in standing.values())
        parts.append(f"in {kept} of {len(names)} {words} (alone in {alone})")
    return f"Adam is best or tied {', '.join(parts)}"


def _compared(row: Row, workload: str) -> bool:
    return row["workload"] == workload and f"default_against_{REFERENCE}" in row


def loss(row: Row, budget: str) -> float:
    """Return the median test loss of a row with this budget: see `losses`."""
    if budget in ("default", "all"):
        return float(np.median(row["default_test" if budget == "default" else "tuned_test"]))
    return float(row["test_with_trials"][budget])


def of_workload(name: str, rows: Sequence[Row], plan: Plan) -> list[Table]:
    """Return the tables of one workload: the test losses, the sensitivity to the rate, and the target."""
    done = sorted((r for r in rows if r["status"] == "ok"), key=lambda r: loss(r, "all"))
    reasons = tuple(f"{r['optimizer']}: {r['status']}, {r['reason']}" for r in rows if r["status"] != "ok")
    if not done:
        return [Table(name, ("optimizer", "status"), [(r["optimizer"], r["status"]) for r in rows], reasons)]
    count = len(done[0]["tuned_test"])
    results = [
        (
            row["optimizer"],
            *(f"{_interval(row[f'{at}_test'])} {SIGNS.get(row.get(f'{at}_against_adam', ''), ' ')}" for at in POINTS),
            tuned_rate(row),
        )
        for row in done
    ]
    ease = [
        (row["optimizer"], f"{row['decades_near_best']:.2f}", f"{row['trials']}", f"{row['diverged']}") for row in done
    ]
    tests = (
        f"Median of {counted(count, 'initialization')} with its 95 % interval, after "
        f"{counted(plan.epochs, 'epoch')}; tuned: the learning rate and schedule with the least validation loss.",
        f"Better and worse: by over 1 %, and by Wilcoxon's test of the {counted(count, 'pair')} at 5 %, "
        "corrected for the number of optimizers." + _scatter(done),
        *reasons,
    )
    reached = (
        "Near best: powers of ten of the learning rate with a median validation loss within 1 % of the best. "
        "Points: learning rates times schedules. Diverged: runs, of all points.",
        *_unreached(done),
    )
    columns = ("optimizer", "default  ", "tuned  ", "learning rate")
    others = ("optimizer", "near best", "points", "diverged")
    return [
        Table(f"{name}: test loss ({LEGEND})", columns, results, tests),
        Table(f"{name}: sensitivity to the learning rate", others, ease, reached),
        *([] if _unreached(done) else [_to_target(name, done)]),
    ]


def _unreached(rows: Sequence[Row]) -> tuple[str, ...]:
    """Say why there are no steps to a target, or nothing."""
    target = rows[0]["target"]
    if np.isnan(target):
        return ("There is no target: nobody knows which value of a registered loss is good.",)
    if not any(np.isfinite(row[f"{at}_steps"]).any() for row in rows for at in POINTS):
        return (f"No run reached the target, a validation loss of {target:.3g} that was fixed before the runs.",)
    return ()


def _to_target(name: str, rows: Sequence[Row]) -> Table:
    """Return the steps and the time to the target."""
    lines = [
        (
            row["optimizer"],
            text.seconds(row["step_seconds"]),
            *(_steps(row[f"{at}_steps"]) for at in POINTS),
            *(text.seconds(float(np.median(row[f"{at}_steps"])) * row["step_seconds"]) for at in POINTS),
        )
        for row in rows
    ]
    notes = (
        f"Steps: until the validation loss is {rows[0]['target']:.3g} or less, the target fixed before the runs; "
        "median, and the initializations that missed it. A step is one gradient of a batch.",
        "Time: the steps times the time of a step of one training alone in JAX, measured before the sweep in a "
        "compiled epoch. Compiling and validating are not in it.",
    )
    columns = ("optimizer", "per step", "steps, default", "steps, tuned", "time, default", "tuned")
    return Table(f"{name}: to the target", columns, lines, notes)


def _scatter(rows: Sequence[Row]) -> str:
    """Say how far apart pairs lie: it decides what difference a test can find."""
    known = [s for row in rows if np.isfinite(s := row.get("tuned_scatter", np.nan))]
    return f" The ratio of a pair scatters by {100 * np.median(known):.1f} % (tuned; median)." if known else ""


def _interval(values: Sequence[float]) -> str:
    found = statistics.median(np.array(values))
    if np.isnan(found.low):  # too few values
        return number(found.value)
    return f"{number(found.value)} [{number(found.low)}, {number(found.high)}]"


def tuned_rate(row: Row) -> str:
    """Return the learning rate and the schedule that validation chose."""
    return f"{row['tuned_rate']:.2g}" + (", cosine" if row["tuned_schedule"] == "cosine" else "")


def number(value: float) -> str:
    """Return a loss as text; an infinite one is a miss."""
    return f"{value:.3g}" if np.isfinite(value) else "miss"


def _steps(values: Sequence[float]) -> str:
    missed = int(np.isinf(values).sum())
    middle = float(np.median(values))
    shown = f"{middle:.0f}" if np.isfinite(middle) else ABSENT
    return shown + (f" ({missed} missed)" if missed else "")


def _ranks(whole: dict[str, list[Row]]) -> Table:
    found = {at: statistics.ranks(losses(whole, at)) for at in ("default", "all")}
    lines = []
    for number, (name, mine) in enumerate(whole.items()):
        counts = [
            [sum(r.get(f"{at}_against_adam") == word for r in mine) for word in (BETTER, TIED, WORSE)]
            for at in ("default", "tuned")
        ]
        words = [" / ".join(map(str, of_at)) if name != REFERENCE else ABSENT for of_at in counts]
        lines.append(
            (
                name,
                *(f"{ranks.average[number]:.2f}" for ranks in found.values()),
                *(words if REFERENCE in whole else [ABSENT] * 2),
            )
        )
    workloads = len(next(iter(whole.values())))
    apart = found["all"].critical_difference
    p_values = [f"{ranks.p_value:.2g}" for ranks in found.values() if np.isfinite(ranks.p_value)]
    notes = (
        f"Rank: the average over {_count(workloads)}, 1 is the least median test loss. Two optimizers differ where "
        f"their ranks are {apart:.2f} or more apart (Nemenyi, 5 %).",
        *([f"Friedman's test that all are equal: p = {' at the default, '.join(p_values)} tuned."] if p_values else []),
        "Adam: workloads where the optimizer is better / tied / worse than Adam.",
    )
    columns = ("optimizer", "rank, default", "rank, tuned", "Adam, default", "Adam, tuned")
    order = np.argsort(found["all"].average, kind="stable")
    return Table("Over all workloads: ranks", columns, [lines[place] for place in order], notes)


def _count(workloads: int) -> str:
    return f"{workloads} workload{'s' if workloads > 1 else ''}"


def _budgets(whole: dict[str, list[Row]]) -> Table:
    ranked = [statistics.ranks(losses(whole, budget)).average for budget in BUDGETS]
    lines = [(name, *(f"{of_budget[place]:.2f}" for of_budget in ranked)) for place, name in enumerate(whole)]
    notes = (
        "Average rank by the test loss of the best of so many trials, drawn at random from the learning rates and "
        f"schedules of the grid of {2 * points.DECADES} powers of ten around the default.",
        "Default: the default learning rate, constant. All: every point, those beyond the grid's edges too.",
    )
    return Table(
        "Over all workloads: rank by tuning budget", ("optimizer", *BUDGETS[:1], *_trials(), "all"), lines, notes
    )


def _trials() -> list[str]:
    return [f"{count} trial{'s' if count > 1 else ''}" for count in TRIALS]

"""The short report, report.md: what a pull request or an issue can hold. Everything else is in the full one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from jaxopt_study.report import screen
from jaxopt_study.report import table as tables
from jaxopt_study.report.figures import Figure
from jaxopt_study.report.screen import Part
from jaxopt_study.report.table import Table

REPORT = "report.md"
LINES = 60
WIDTH = 120
FEWEST_ROWS = 3
"""A table of which fewer rows than these have a place is left to the full report."""
MOST_ROWS = 12
"""So many rows of a table are kept where other tables would have no place."""
SENTENCES = 12
"""So many of the first sentences are kept."""


@dataclass(frozen=True)
class Answer:
    """What a short report says to one question.

    Attributes:
        question: The question.
        parts: Its tables and conclusions.
        figures: Its figures, the first of which is shown.
    """

    question: str
    parts: Sequence[Part] = ()
    figures: Sequence[Figure] = ()


def write(
    folder: Path, title: str, sentences: Sequence[str], answers: Sequence[Answer], closing: Sequence[str] = ()
) -> None:
    """Write report.md into `folder`, which holds the figures: at most `LINES` lines.

    Args:
        folder: Where it is written.
        title: Its heading.
        sentences: What a reader must know first.
        answers: What is answered, in order.
        closing: Where it was run, in a few lines, and where the rest is.
    """
    head = [f"# {tables.in_markdown(title)}", *_bullets(sentences), ""]
    end = ["## Environment", *_bullets(closing)] if closing else []
    texts, figures = [_text(answer) for answer in answers], [_figure(answer) for answer in answers]
    room = LINES - sum(map(len, (head, end, *texts, *figures)))
    found = list(head)
    for answer, text, figure in zip(answers, texts, figures, strict=True):
        shown = _tables([table for part in answer.parts for table in part.tables if table.rows], room)
        room -= len(shown)
        found += [*text, *shown, *figure]
    if len(found) + len(end) > LINES:
        found = [*found[: LINES - len(end) - 2], "... and more in the full report.", ""]
    page = "\n".join([*found, *end]) + "\n"
    (folder / REPORT).write_text(page, encoding="utf-8", errors="replace")  # a path may be any bytes


def environment_lines(environment: Mapping[str, Any]) -> list[str]:
    """Return in four lines where a run was made, and with what settings."""
    plan, versions = environment["plan"], environment["versions"]
    named = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    settings = ", ".join(
        f"{name.replace('_', ' ')} {' '.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in plan.items()
        if value and value is not True and name not in ("studies", *_silent(plan))
    )
    cores = f"{plan['threads']} of {environment['cores'].get('at hand', '?')} cores"
    memory = f"{environment['memory_bytes'] / 2**30:.0f} GiB"
    return [
        f"Machine: {environment['cpu']}, {cores}, {memory}; {environment['system']}.",
        f"Versions: {named}.",
        f"Started: {environment['started'][:19]}. Commit: {environment['commit'] or 'not run from a checkout'}.",
        f"Settings: {settings}.",
    ]


def _text(answer: Answer) -> list[str]:
    """Return the lines of an answer but for its tables and its figure."""
    said = [words for part in answer.parts for words in part.sentences]
    return [f"## {tables.in_markdown(answer.question)}", *_bullets(said), *([""] if said else [])]


def _figure(answer: Answer) -> list[str]:
    drawn = [f"![{tables.in_markdown(figure.caption)}]({figure.name}.png)" for figure in answer.figures[:1]]
    return [*drawn, ""] if drawn else []


def _bullets(sentences: Sequence[str]) -> list[str]:
    more = len(sentences) - SENTENCES
    lines = [f"- {tables.in_markdown(words)}" for words in sentences[:SENTENCES]]
    return lines + ([f"- ... and {more} more."] if more > 0 else [])


def _tables(found: Sequence[Table], room: int) -> list[str]:
    """Return the tables that have a place in so many lines, and how many have none."""
    for most_rows in (LINES, MOST_ROWS):
        lines, absent = _fitted(found, room, most_rows)
        if not absent:
            return lines
    lines, absent = _fitted(found, room - 2, MOST_ROWS)
    return [*lines, f"Tables that are in the full report alone: {absent}.", ""]


def _fitted(found: Sequence[Table], room: int, most_rows: int) -> tuple[list[str], int]:
    """Return the tables that have a place, long ones cut, and the number of the others."""
    console = Console(file=StringIO(), width=WIDTH)
    lines: list[str] = []
    absent = 0
    for table in found:
        space, rows = room - len(lines), len(table.rows)
        frame = len(_lines(replace(table, rows=table.rows[:1]))) - 1
        if frame + rows > space:
            rows = space - frame - 2  # for the line that says so
        rows = min(rows, most_rows)
        if rows < min(FEWEST_ROWS, len(table.rows)):
            absent += 1
            continue
        lines += _lines(_narrowed(_cut(table, rows), console))
        if rows < len(table.rows):
            lines += [f"... stands for {len(table.rows) - rows + 1} rows.", ""]
    return lines, absent


def _cut(table: Table, count: int) -> Table:
    """Return the table with so many rows: the first and the last ones, since either end may be what is asked for."""
    if count >= len(table.rows):
        return table
    first, last = count // 2, (count - 1) // 2
    between = ("...", *[""] * (len(table.columns) - 1))
    return replace(table, rows=[*table.rows[:first], between, *table.rows[len(table.rows) - last :]])


def _narrowed(table: Table, console: Console) -> Table:
    """Return the table with the columns that a wide terminal shows, no cell cut: Markdown has place for long ones."""
    columns = screen.fit(table, console).columns
    places = [list(table.columns).index(column) for column in columns]
    return replace(table, columns=columns, rows=[[row[place] for place in places] for row in table.rows])


def _lines(table: Table) -> list[str]:
    heading, drawn, *notes = tables.markdown(table).rstrip().split("\n\n")
    return [f"#{heading}", *drawn.split("\n"), "", *notes, *([""] if notes else [])]


def _silent(plan: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the settings that had no effect: a user's own file decides some of them."""
    if plan.get("experiment"):
        return ("workload", "optimizers", "seed", "epochs", "learning_rate")
    return ("experiment", "experiment_digest")


def environment_table(environment: Mapping[str, Any]) -> Table:
    """Return what a reader must know to place the figures: machine, cores, versions, settings."""
    plan, versions = environment["plan"], environment["versions"]
    rows = [
        ("started", environment["started"]),
        ("processor", environment["cpu"]),
        ("cores", f"{plan['threads']} used of {environment['cores'].get('at hand', '?')} at hand"),
        ("memory", f"{environment['memory_bytes'] / 2**30:.0f} GiB"),
        ("system", environment["system"]),
        ("busy before the run", f"{environment['busy_percent']:.0f} %"),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items() if version)),
        ("commit", environment["commit"] or "not run from a checkout"),
        ("settings", ", ".join(f"{name} {value}" for name, value in plan.items() if name not in _silent(plan))),
        ("environment variables", ", ".join(f"{name}={value}" for name, value in environment["variables"].items())),
        *(
            (f"worker {name}", ", ".join(f"{k} {v}" for k, v in words.items()))
            for name, words in environment["workers"].items()
        ),
    ]
    rows += [
        (
            f"calibration {name}",
            ", ".join(f"{probe.replace('_', ' ')} {tables.rate(probe, s)}" for probe, s in probes.items()),
        )
        for name, probes in environment["seconds_per_unit"].items()
    ]
    return Table(
        "Environment", ("what", "in this run"), [(name, str(value)) for name, value in rows], left=("in this run",)
    )

"""The page of a run: report.html, one file that a browser opens from the disk, without a network."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxopt_study.report import bundle
from jaxopt_study.report.figures import Figure
from jaxopt_study.report.page import environment_table
from jaxopt_study.report.screen import Sentence
from jaxopt_study.report.table import Table
from jaxopt_study.terminal import visible

if TYPE_CHECKING:
    from jinja2 import Environment

PAGE = "report.html"
TITLE_LENGTH = 120
"""Characters of a title that a browser's tab shows."""
MARKS = {"good": "✓", "bad": "✗", "warning": "!", "plain": "·"}
"""What stands before a sentence, beside its colour."""
MAX_FACTS = 3
"""So many sentences of an answer are shown at once; the others are opened by the reader."""


@dataclass(frozen=True)
class Chapter:
    """What the page says of one study. The first three are those of a section of `report.page`.

    Attributes:
        question: What was asked.
        tables: The tables that are shown.
        figures: The figures.
        about: How it was answered, in a sentence.
        answers: What was found, the answer first.
        more: Tables that the reader opens: the same in full.
        agreement: Whether the values agree, in a sentence.
        bounds: Which values were compared, with what bound.
    """

    question: str
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    about: str = ""
    answers: Sequence[str] = ()
    more: Sequence[Table] = ()
    agreement: str = ""
    bounds: Table | None = None


@dataclass(frozen=True)
class Reproduction:
    """How the run is made again.

    Attributes:
        command: The command.
        environment: Where it was run, as `bench.environment` keeps it.
    """

    command: str
    environment: Mapping[str, Any] = field(default_factory=dict)


def write(folder: Path, sentences: Sequence[Sentence | str], chapters: Sequence[Chapter], how: Reproduction) -> None:
    """Write report.html into `folder`.

    Args:
        folder: The run's folder.
        sentences: What the run came to.
        chapters: One for each study.
        how: How the run is made again.
    """
    (folder / PAGE).write_text(text(sentences, chapters, how), encoding="utf-8", errors="replace")


def text(sentences: Sequence[Sentence | str], chapters: Sequence[Chapter], how: Reproduction) -> str:
    """Return the page; see `write`."""
    said = [Sentence(words) if isinstance(words, str) else words for words in sentences]
    return (
        templates()
        .get_template("page.html.jinja")
        .render(
            title="jaxopt_study: what was run, what agreed, what it took",
            sentences=said,
            chapters=chapters,
            how=how,
            environment=environment_table(how.environment) if how.environment else None,
            marks=MARKS,
            most=MAX_FACTS,
            script=bundle.script() if any(chapter.figures for chapter in chapters) else "",
        )
    )


def in_notebook(verdict: str, folder: Path, tables: Sequence[Table]) -> str:
    """Return what a notebook shows of a run: what it came to, and its tables, which the reader opens."""

    def side(table: Table, column: str) -> str:
        return "left" if column == table.columns[0] or column in table.left else "right"

    template = templates().get_template("notebook.html.jinja")
    return template.render(verdict=verdict, folder=str(folder), tables=tables, side=side, zip=zip)


def templates() -> Environment:
    """Return the templates of pages. Whatever is put into one is text, never HTML, and on one line."""
    import jinja2

    found = jinja2.Environment(
        loader=jinja2.PackageLoader("jaxopt_study.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    found.filters["short"] = lambda words: textwrap.shorten(visible(words), TITLE_LENGTH, placeholder="…")
    return found

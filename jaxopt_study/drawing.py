"""A figure of a run by its name: `jaxopt_study.report.figure`."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from jaxopt_study import folders, verdict
from jaxopt_study.bench import environment, record
from jaxopt_study.outcome import Outcome, pick
from jaxopt_study.report.figures import Figure

if TYPE_CHECKING:
    import altair as alt

__all__ = ["figure"]


def figure(
    run: str | PathLike[str] | Outcome, name: str, column: bool = False
) -> alt.Chart | alt.LayerChart | alt.FacetChart:
    """Return a figure of a run as an Altair chart, drawn from its records.

    A notebook shows the chart; `.save("NAME.pdf")` writes it, with its fonts; also as .svg, .png, .html and .json.

    Args:
        run: The run's folder, or what `run` returned.
        name: The figure's name, which is that of its files in the folder.
        column: Whether it is as wide as a column of a paper (3.3 in), and not 7 in.

    Raises:
        ConfigError: The folder holds no run that can be read.
        ValueError: The run has no such figure.
    """
    return pick(run.figures if isinstance(run, Outcome) else _of(Path(run)), name, column)


def _of(folder: Path) -> list[Figure]:
    folders.check_readable("the folder", folders.old("the folder", folder))
    plan = environment.plan_of(environment.read(folder))
    sections = verdict.sections(verdict.evaluate(record.read(folder), plan), plan)
    return [figure for section in sections for figure in section.figures]

"""Showing records to people: tables, charts, one page. It reads records only, so that a report can be drawn again.

from jaxopt_study.report import figure
figure("runs/2026-11-29T10-00-00", "loops_ratio", column=True).save("ratio.pdf")
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import altair as alt

__all__ = ["figure"]


def figure(
    run: str | PathLike[str] | Any, name: str, column: bool = False
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
    from jaxopt_study import outcome

    figures = run.figures if isinstance(run, outcome.Outcome) else outcome.figures_of(Path(run))
    return outcome.pick(figures, name, column)

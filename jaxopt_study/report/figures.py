"""Figures: charts with names, titles and captions, as SVG, PNG and PDF. Nothing is loaded until one is drawn."""

from __future__ import annotations

import copy
import math
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxopt_study.bench import record
from jaxopt_study.report.charts import POINTER
from jaxopt_study.terminal import visible

if TYPE_CHECKING:
    import altair as alt

WIDE, COLUMN = 504, 238
"""Widths in points: 7 in, and 3.3 in, which is a column of a paper."""
PANEL, MARGIN = 125, 74
"""The least width of a panel, and what its axis takes beside it."""
FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
"""vl-convert brings the first one along, so that a figure is the same on every machine."""
SEPARATION = 5
"""Points between the labels of ticks, of which those that are nearer to the one before are left out."""


@dataclass(frozen=True)
class Figure:
    """A chart.

    Attributes:
        name: The stem of its files.
        title: What it shows, in short.
        caption: How it is read.
        make: Makes the Altair chart, by one of `charts`.
    """

    name: str
    title: str
    caption: str
    make: Callable[[], alt.Chart | alt.LayerChart | alt.FacetChart]

    @cached_property
    def spec(self) -> Mapping[str, Any]:
        """The chart in Vega-Lite, without a size."""
        spec = self.make().to_dict()
        for rows in spec["datasets"].values():
            rows[:] = [{name: _shown(value) for name, value in row.items()} for row in rows]
        return {
            **record.plain(spec),
            "config": CONFIG,
            "description": f"{visible(self.title)}. {visible(self.caption)}",
        }


CONFIG: Mapping[str, Any] = {
    "font": FONT,
    "background": "white",
    "aria": False,
    "view": {"stroke": None},
    "axis": {
        "labelFontSize": 9,
        "titleFontSize": 10,
        "titleFontWeight": "normal",
        "labelOverlap": "parity",
        "labelSeparation": SEPARATION,
    },
    "axisY": {"labelLimit": 220},
    "axisDiscrete": {"labelOverlap": False},  # each name is a row of its own
    "legend": {
        "orient": "bottom",
        "labelFontSize": 10,
        "symbolStrokeWidth": 1.5,
        "symbolOpacity": 1,
        "labelLimit": 400,
    },
    "header": {"labelFontSize": 10, "labelFontWeight": "bold", "labelAnchor": "start", "labelPadding": 3},
    "title": {"anchor": "start", "fontSize": 12, "frame": "bounds", "offset": 10},
    "facet": {"spacing": 14},
}


NARROW: Mapping[str, Any] = {
    **CONFIG,
    "axis": {**CONFIG["axis"], "labelFontSize": 8, "titleFontSize": 9},
    "header": {**CONFIG["header"], "labelFontSize": 9},
    "legend": {**CONFIG["legend"], "columns": 2},
    "title": {**CONFIG["title"], "fontSize": 10},
}
"""In a column there is no place for three legend entries side by side."""


def chart(figure: Figure, width: int = WIDE) -> alt.Chart | alt.LayerChart | alt.FacetChart:
    """Return the figure as an Altair chart, which shows itself in a notebook and has `save`.

    Args:
        figure: The figure.
        width: In points, as `WIDE` or `COLUMN`.
    """
    import altair as alt

    return alt.Chart.from_dict(fitted(figure, width))


def save(figure: Figure, folder: Path) -> None:
    """Write NAME.svg and NAME.png, and NAME.pdf for a column of a paper, with its fonts."""
    import vl_convert

    wide = svg(figure)
    (folder / f"{figure.name}.svg").write_text(wide, encoding="utf-8")
    (folder / f"{figure.name}.png").write_bytes(vl_convert.svg_to_png(wide, scale=2))
    (folder / f"{figure.name}.pdf").write_bytes(vl_convert.svg_to_pdf(svg(figure, COLUMN)))


def svg(figure: Figure, width: int = WIDE) -> str:
    """Return the figure as SVG, the same for the same records."""
    import vl_convert

    return vl_convert.vegalite_to_svg(fitted(figure, width))


def fitted(figure: Figure, width: int) -> dict[str, Any]:
    """Return the chart in Vega-Lite, with its title, as wide as that; `page.js` does the same without the title."""
    spec = copy.deepcopy(dict(figure.spec))
    spec["config"] = CONFIG if width > COLUMN else NARROW
    spec["title"] = {"text": textwrap.wrap(visible(figure.title), width // (7 if width > COLUMN else 6))}
    drawn = spec.get("spec", spec)
    if "layer" in drawn:
        drawn["layer"] = [layer for layer in drawn["layer"] if layer.get("name") != POINTER]
    if "spec" in spec:
        panels, most = spec["usermeta"]["panels"], max(1, (width - MARGIN) // (PANEL if width > COLUMN else 75))
        spec["columns"] = columns = math.ceil(panels / math.ceil(panels / most))  # even rows
        spec["spec"]["width"] = across = (width - MARGIN) // columns - 14
        spec["spec"]["height"] = min(spec["spec"]["height"], max(80, round(0.9 * across)))
    else:
        spec |= {"width": width, "autosize": {"type": "fit-x", "contains": "padding"}}
    return spec


def not_drawn(figure: Figure, reason: str) -> Figure:
    """Return a figure that says in its place why it is not drawn."""

    def make() -> alt.Chart:
        import altair as alt

        words = textwrap.wrap(visible(f"not drawn: {reason}"), 70)
        row = {"words": "\n".join(words)}
        drawn = alt.Chart(alt.InlineData(values=[row])).mark_text(lineBreak="\n", align="left", x=5, y=10)
        return drawn.encode(text="words:N").properties(height=20 * len(words) + 20)

    return Figure(figure.name, figure.title, figure.caption, make)


def _shown(value: Any) -> Any:
    return "\n".join(map(visible, value.split("\n"))) if isinstance(value, str) else value

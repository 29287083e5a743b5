"""The kinds of charts: each takes rows and axes, and returns an Altair chart. Altair is loaded when one is made."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jaxopt_study.report.axes import Axis
from jaxopt_study.report.looks import Look, looks

if TYPE_CHECKING:
    import altair as alt

Row = Mapping[str, Any]
GREY = "#888888"
"""Of lines that stand for a limit or for all others: it shows on white and on black."""
NAME_WIDTH, PANEL_WIDTH = 30, 17
"""Characters of a line of a row's name, and of the title of a panel's axis."""
POINTER = "pointer"
"""The layer of invisible points that only answer to the pointer."""
TOOLTIPS = ("name", "panel", "group", "case", "median", "interval", "samples", "note")
"""What a point answers to the pointer, where its row has it; its numbers come after."""
LINE_HEIGHT, ROW_HEIGHT, CHART_HEIGHT, PANEL_HEIGHT = 12, 12, 250, 110


def points(rows: Sequence[Row], x: Axis, line: float | None = None) -> alt.LayerChart:
    """Draw a horizontal line for each `name`, with a point for each `group` on a height of its own.

    Args:
        rows: With `name`, `group`, `value`, and where there is an interval `low` and `high`.
        x: The axis of the values.
        line: Where a vertical line stands, as at a ratio of 1.
    """
    import altair as alt

    shown = [_named(row) for row in rows if x.shows(row["value"]) or x.shows(row.get("low"))]
    names, found = list(dict.fromkeys(row["name"] for row in shown)), looks(row["group"] for row in shown)
    raised = {"condition": {"test": "indexof(datum.value, '\\n') > 0", "value": -LINE_HEIGHT / 2}, "value": 0}
    place = alt.Y("name:N", title=None, sort=names)
    place = place.axis(labelExpr="split(datum.label, '\\n')", labelOffset=raised, ticks=False)
    beside = {name: list(dict.fromkeys(row["group"] for row in shown if row["name"] == name)) for name in names}
    for row in shown:  # the groups of a name share its height evenly
        row["height"] = (beside[row["name"]].index(row["group"]) + 1) / (len(beside[row["name"]]) + 1)
    offset = alt.YOffset("height:Q").scale(domain=[0, 1], nice=False)
    base = alt.Chart(_of(shown)).encode(y=place, yOffset=offset, **_group(found))
    drawn = [(row["low"], row["high"]) for row in shown if x.shows(row.get("low")) and x.shows(row.get("high"))]
    ends = [row.get(key) for row in shown for key in ("value", "low", "high")] + ([line] if line else [])
    across = _scaled(alt.X, "value", x, ends, grid=True)
    layers = [base.mark_rule(strokeWidth=1.5).encode(x=_scaled(alt.X, "low", x, ends, grid=True), x2="high:Q")]
    layers = layers if drawn else []
    layers += [_marks(base, found).encode(x=across, tooltip=_tooltip(shown, {"value": x}))]
    if line is not None:
        layers.append(alt.Chart(_of([{"value": line}])).mark_rule(color=GREY).encode(x=across))
    most = max((len(groups) for groups in beside.values()), default=1)
    height = max(ROW_HEIGHT * most + 8, LINE_HEIGHT * (1 + max((name.count("\n") for name in names), default=0)) + 4)
    return alt.layer(*layers).properties(height=max(height * len(names), 40))


def lines(
    rows: Sequence[Row], x: Axis, y: Axis, *, line: float | None = None, dots: bool = True, context: bool = False,
    curve: str = "linear",
) -> alt.LayerChart | alt.FacetChart:  # fmt: skip
    """Draw a line for each `group`; where rows have a `panel`, a small chart for each.

    Args:
        rows: With `x`, `y`, `group`; where there is an interval `low` and `high`, drawn as a band; `panel`; and
            `marked` where a circle is drawn around the point.
        x: The axis across.
        y: The axis upwards.
        line: Where a horizontal line stands, as at a ratio of 1.
        dots: Whether each point is drawn, too.
        context: Whether each panel shows the lines of all others in grey.
        curve: Vega's name of how points are joined.
    """
    import altair as alt

    rows = [row for row in rows if x.shows(row["x"]) and y.shows(row["y"])]
    rows = [_wrapped(_within(row, y)) for row in rows]
    found = looks(row["group"] for row in rows)
    panels = list(dict.fromkeys(row["panel"] for row in rows if "panel" in row))
    ends = [row.get(key) for row in rows for key in ("y", "low", "high")] + ([line] if line else [])
    if panels:
        x, y = (replace(axis, title=textwrap.fill(axis.title, PANEL_WIDTH)) for axis in (x, y))
    across, up = _scaled(alt.X, "x", x, [row["x"] for row in rows]), _scaled(alt.Y, "y", y, ends, grid=True)
    base = alt.Chart().encode(x=across, y=up, **_group(found))
    layers: list[Any] = []
    if context:
        others = alt.Chart(_of([{key: row[key] for key in ("x", "y")} | {"of": row["panel"]} for row in rows]))
        layers.append(
            others.mark_line(color=GREY, opacity=0.35, strokeWidth=0.8, interpolate=curve).encode(
                x=across, y=up, detail="of:N"
            )
        )
    if any("low" in row for row in rows):
        layers.append(base.mark_area(opacity=0.2).encode(y=_scaled(alt.Y, "low", y, ends, grid=True), y2="high:Q"))
    layers.append(base.mark_line(strokeWidth=1.5, interpolate=curve).encode(strokeDash=_dash(found, not dots)))
    tooltip = _tooltip(rows, {"x": x, "y": y})
    if dots:
        layers.append(_marks(base, found).encode(tooltip=tooltip))
    else:
        layers.append(base.mark_point(opacity=0, size=60).encode(tooltip=tooltip).properties(name=POINTER))
    if any(row.get("marked") for row in rows):
        marked = base.transform_filter("datum.marked").encode(tooltip=tooltip)
        layers.append(marked.mark_point(size=60, filled=False, strokeWidth=2, shape="circle"))
    if line is not None:
        layers.append(alt.Chart(_of([{"y": line}])).mark_rule(color=GREY).encode(y=up))
    drawn = alt.layer(*layers, data=_of(rows))
    return (
        _in_panels(drawn.properties(height=PANEL_HEIGHT), panels) if panels else drawn.properties(height=CHART_HEIGHT)
    )


def plane(rows: Sequence[Row], curves: Sequence[Row], x: Axis, y: Axis, minimum: tuple[float, float]) -> alt.FacetChart:
    """Draw the way of each `panel` on a plane, over grey curves, with its start and its end.

    Args:
        rows: With `x`, `y`, `step`, `group` and `panel`, in the order of the steps.
        curves: With `x`, `y`, `curve` and `step`: what is the same in each panel, such as level sets.
        x: The axis across.
        y: The axis upwards.
        minimum: Where a cross stands.
    """
    import altair as alt

    panels, found = list(dict.fromkeys(row["panel"] for row in rows)), looks(row["group"] for row in rows)
    across, up = _scaled(alt.X, "x", x, x.ends), _scaled(alt.Y, "y", y, y.ends)
    base = alt.Chart().encode(x=across, y=up, **_group(found))
    level = alt.Chart(_of(curves)).mark_line(color=GREY, strokeWidth=0.7, opacity=0.7)
    ends = base.transform_filter("datum.end != null")
    shapes = alt.Shape("end:N", title=None).scale(domain=["start", "end"], range=["square", "circle"])
    drawn = alt.layer(
        level.encode(x=across, y=up, detail="curve:N", order="step:Q"),
        alt.Chart(_of([{"x": minimum[0], "y": minimum[1]}]))
        .mark_point(shape="cross", size=50, angle=45, filled=True, color=GREY)
        .encode(x=across, y=up),
        base.mark_line(strokeWidth=1.2).encode(order="step:Q"),
        ends.mark_point(filled=True, size=45).encode(
            shape=shapes, tooltip=[*_tooltip(rows, {"x": x, "y": y}), alt.Tooltip("step:Q")]
        ),
        data=_of(rows),
    )
    return _in_panels(drawn.properties(height=150), panels)


def _in_panels(drawn: alt.LayerChart, panels: Sequence[str]) -> alt.FacetChart:
    import altair as alt

    header = alt.Header(labelExpr="split(datum.label, '\\n')")
    facet = alt.Facet("panel:N", title=None, sort=list(panels), header=header)
    return drawn.facet(facet, columns=3).properties(usermeta={"panels": len(panels)})


def _named(row: Row) -> dict[str, Any]:
    return {**row, "name": textwrap.fill(row["name"], NAME_WIDTH, max_lines=2, placeholder=" …")}


def _wrapped(row: Row) -> Row:
    if "panel" not in row:
        return row
    return {**row, "panel": textwrap.fill(row["panel"], PANEL_WIDTH, max_lines=2, placeholder=" …")}


def _within(row: Row, axis: Axis) -> Row:
    """Return the row with an interval that the axis can show."""
    if "low" not in row:
        return row
    low, high = row["low"], row["high"]
    return {**row, "low": low if axis.shows(low) else row["y"], "high": high if axis.shows(high) else row["y"]}


def _of(rows: Iterable[Row]) -> alt.InlineData:
    import altair as alt

    return alt.InlineData(values=list(rows))


def _scaled(channel: Any, field: str, axis: Axis, values: Iterable[Any], grid: bool = False) -> Any:
    import altair as alt

    domain = axis.domain(values)
    ticks = axis.ticks(domain)
    title = axis.title.split("\n") if "\n" in axis.title else axis.title
    shown = channel(f"{field}:Q", title=title).scale(type="log" if axis.log else "linear", domain=domain, nice=False)
    return shown.axis(labelExpr=axis.label, values=alt.Undefined if ticks is None else ticks, grid=grid)


def _group(found: Mapping[str, Look]) -> dict[str, Any]:
    """Return the encoding of groups by colour; of a single group there is no legend."""
    import altair as alt

    legend = _legend(found)
    scale = alt.Scale(domain=list(found), range=[look.colour for look in found.values()])
    return {"color": alt.Color("group:N", scale=scale, legend=legend)}


def _legend(found: Mapping[str, Look]) -> Any:
    import altair as alt

    return alt.Legend(title=None) if len(found) > 1 else None


def _dash(found: Mapping[str, Look], shown: bool) -> Any:
    """Return the encoding of groups by dashes.

    Args:
        found: The looks of the groups.
        shown: Whether the legend shows them. Where it shows points, dashes would break their outlines.
    """
    import altair as alt

    # Vega-Lite merges legends of equal domains, one that is turned off too: then this one has another order.
    names = list(found) if shown else list(found)[::-1]
    scale = alt.Scale(domain=names, range=[list(found[name].dash) for name in names])
    return alt.StrokeDash("group:N", scale=scale, legend=_legend(found) if shown else None)


def _marks(base: Any, found: Mapping[str, Look]) -> Any:
    """Return the points, each group's in its shape; hollow ones are larger, so that they show one that is within."""
    import altair as alt

    if len(found) == 1:
        (look,) = found.values()
        one = {"shape": look.shape, "size": look.size, "fill": look.colour if look.filled else "transparent"}
        return base.mark_point(strokeWidth=1.5, opacity=1, **one)
    names, legend = list(found), _legend(found)
    shape = alt.Shape("group:N", legend=legend).scale(domain=names, range=[look.shape for look in found.values()])
    size = alt.Size("group:O", legend=legend).scale(domain=names, range=[look.size for look in found.values()])
    fill = alt.Fill("group:N", legend=legend).scale(
        domain=names, range=[look.colour if look.filled else "transparent" for look in found.values()]
    )
    return base.mark_point(strokeWidth=1.5, opacity=1).encode(shape=shape, size=size, fill=fill)


def _tooltip(rows: Sequence[Row], axes: Mapping[str, Axis]) -> list[Any]:
    import altair as alt

    there = {key for row in rows for key in row}
    words = [alt.Tooltip(f"{name}:N", title=name) for name in TOOLTIPS if name in there]
    return words + [
        alt.Tooltip(f"{name}:Q", title=axis.title.replace("\n", " "), format=",.4~g") for name, axis in axes.items()
    ]

"""Charts, as PNG and SVG. matplotlib is loaded only when one is drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Figure:
    """A chart: draw(axes) draws it on matplotlib axes."""

    name: str
    caption: str
    draw: Callable[[Any], None]


# Okabe and Ito's colours, which people with any colour vision can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def canvas(figure: Figure) -> Any:
    """Return the chart as a matplotlib figure."""
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas  # not pyplot: no window, no global state

    mpl.rcParams["svg.hashsalt"] = "jaxopt_study"  # the same records give the same file
    drawn = Canvas(figsize=(7, 4.2), layout="constrained")
    axes = drawn.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    figure.draw(axes)
    return drawn


def save(figure: Figure, folder: Path) -> None:
    """Write NAME.png and NAME.svg into `folder`."""
    drawn = canvas(figure)
    drawn.savefig(folder / f"{figure.name}.png", dpi=160)
    drawn.savefig(folder / f"{figure.name}.svg", metadata={"Date": None})

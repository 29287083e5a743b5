"""The ways of some optimizers on two surfaces, from one start: what a record keeps of them, and the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from jaxopt_study.backends import Backend
from jaxopt_study.backends.numpy import surfaces
from jaxopt_study.bench import record
from jaxopt_study.bench.record import Record
from jaxopt_study.data.workload import Array
from jaxopt_study.report.figure import COLOURS, Figure

MODULE = "surfaces"
"""The backend's module of surfaces; only JAX has it."""
PREFIX = "way on "
OPTIMIZERS = ("sgd", "momentum", "rmsprop", "adam", "lion")
STARTS = {"quadratic": (-1.6, 0.9), "rosenbrock": (-1.2, 1.0)}
"""The surfaces that are drawn, and where the ways begin."""
BOXES = {"quadratic": ((-1.8, 0.6), (-1.0, 1.0)), "rosenbrock": ((-1.8, 1.8), (-0.6, 2.2))}
"""What is drawn of x and of y."""


def ways(backend: Backend, optimizer: Any, rates: Mapping[str, float], steps: int) -> dict[str, Array]:
    """Return all points of the run on each surface: (steps + 1, 2).

    Args:
        backend: JAX's, which has the surfaces.
        optimizer: A function of the learning rate.
        rates: Surface -> the learning rate.
        steps: Steps of each run.
    """
    module, load = getattr(backend, MODULE), backend.runtime.from_numpy
    chosen = {name: module.SURFACES[name] for name in rates}
    starts = {name: load(np.array(STARTS[name])) for name in rates}
    found = module.paths(chosen, optimizer, steps)(starts, module.keys(0, 1)[0], load(np.array([*rates.values()])))
    return {f"{PREFIX}{name}": backend.runtime.to_numpy(found[name])[place] for place, name in enumerate(rates)}


def figures(records: Sequence[Record]) -> list[Figure]:
    """Return one figure for each surface; the records are those with ways."""
    found = []
    for name in STARTS:
        mine = [(r.subject, record.unpack(r.value[PREFIX + name])) for r in records if PREFIX + name in r.value]
        mine = sorted(mine, key=lambda pair: OPTIMIZERS.index(pair[0]))
        if mine:
            words = (
                f"The way of each optimizer on the {name} surface, at its best learning rate of the grid: the one with "
                "the most successes, and the least where several have. Circle: the start; dots: the ends; cross: the "
                "minimum."
            )
            found.append(Figure(f"ranking_way_{name}", words, partial(_draw, name=name, mine=mine)))
    return found


def _draw(axes: Any, name: str, mine: Sequence[tuple[str, Array]]) -> None:
    (left, right), (low, high) = BOXES[name]
    x, y = np.meshgrid(np.linspace(left, right, 200), np.linspace(low, high, 200))
    height = np.log10(surfaces.SURFACES[name](x, y) + 1e-3)
    axes.contour(x, y, height, levels=12, colors="0.8", linewidths=0.8, linestyles="solid")
    for (optimizer, way), colour in zip(mine, COLOURS, strict=False):
        axes.plot(*way.T, color=colour, linewidth=0.9, marker=".", markersize=2, label=optimizer)
        axes.plot(*way[-1], "o", color=colour, markersize=5)
    axes.plot(*STARTS[name], "o", color="black", markersize=6, fillstyle="none")
    axes.plot(*MINIMA[name], "x", color="black", markersize=8)
    axes.set(xlim=(left, right), ylim=(low, high), xlabel="x", ylabel="y")
    axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))


MINIMA = {"quadratic": (0.0, 0.0), "rosenbrock": (1.0, 1.0)}

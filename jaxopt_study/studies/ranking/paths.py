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
from jaxopt_study.report import charts
from jaxopt_study.report.axes import Axis
from jaxopt_study.report.figures import Figure
from jaxopt_study.report.looks import LABELS

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
                "the most successes, and the least where several have. Square: the start; circle: the end; cross: the "
                "minimum. Grey: where the surface is equally high."
            )
            x, y = (Axis(axis, ends=ends) for axis, ends in zip("xy", BOXES[name], strict=True))
            drawn = partial(charts.plane, _ways(mine, name), _level_sets(name), x, y, MINIMA[name])
            found.append(Figure(f"ranking_way_{name}", f"Ways on a surface: {name}", words, drawn))
    return found


def _ways(mine: Sequence[tuple[str, Array]], name: str) -> list[dict[str, Any]]:
    found = []
    for optimizer, way in mine:
        for step in _kept(way, name):
            end = "start" if step == 0 else "end" if step == len(way) - 1 else None
            found.append(_point(way[step], int(step)) | {"panel": optimizer, "group": LABELS["jax"], "end": end})
    return found


def _level_sets(name: str) -> list[dict[str, Any]]:
    """Return the curves within the box; one that leaves it ends there, and begins again."""
    angles, found = np.linspace(0, 2 * np.pi, 2000), []
    for level, height in enumerate(LEVELS):
        curve = np.stack(surfaces.LEVEL_SETS[name](height, angles), axis=1)
        inside = _inside(curve, name)
        part = np.cumsum(np.r_[True, inside[1:] != inside[:-1]])
        found += [
            _point(curve[step], int(step)) | {"curve": f"{level} {part[step]}"} for step in _kept(curve, name, 60)
        ]
    return found


def _kept(way: Array, name: str, finest: int = 300) -> Array:
    """Return which points are drawn: those within the box, nearer than 1 / `finest` of it as one; the last always."""
    scale = np.array([high - low for low, high in BOXES[name]]) / finest
    cells = np.floor(way / scale)
    moved = np.r_[True, np.any(cells[1:] != cells[:-1], axis=1)]
    moved[-1] = True
    kept: Array = np.flatnonzero(moved & _inside(way, name))
    return kept


def _inside(points: Array, name: str) -> Array:
    low, high = np.array(BOXES[name]).T
    inside: Array = np.all((points >= low) & (points <= high), axis=1)
    return inside


def _point(place: Array, step: int) -> dict[str, Any]:
    return {"x": float(f"{place[0]:.4g}"), "y": float(f"{place[1]:.4g}"), "step": step}


LEVELS = tuple(float(level) for level in np.geomspace(1e-2, 1e3, 11))
"""Heights at which the surfaces are cut."""
MINIMA = {"quadratic": (0.0, 0.0), "rosenbrock": (1.0, 1.0)}

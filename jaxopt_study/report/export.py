"""Records and tables in the formats of others' tools."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jaxopt_study.bench.record import Record
from jaxopt_study.report import frames, latex
from jaxopt_study.report.table import Table

PYPERF, TABLES = "pyperf.json", "tables"
FORMATS = {
    "pyperf": ("pyperf",),
    "csv": ("pandas",),
    "parquet": ("pandas", "pyarrow"),
    "latex": ("pandas", "jinja2"),
}
"""Format -> the packages that write it."""


@dataclass(frozen=True)
class Part:
    """A part of a run, as it is exported.

    Attributes:
        name: The name of its files, without an ending.
        rows: What it says, as numbers; where there are none, the tables' own text is taken.
        tables: The tables that a reader is shown of it.
    """

    name: str
    rows: Sequence[Mapping[str, Any]]
    tables: Sequence[Table]


def missing(name: str) -> str:
    """Return what to install for a format, or nothing."""
    if all(find_spec(package) for package in FORMATS[name]):
        return ""
    return f"python -m pip install 'jaxopt_study[{'pyperf' if name == 'pyperf' else 'data'}]'"


def write(formats: Iterable[str], folder: Path, parts: Sequence[Part]) -> None:
    """Write every part into FOLDER/tables: one file of numbers each as csv or parquet, each table as latex.

    Args:
        formats: Of `FORMATS`; `pyperf` has a function of its own.
        folder: The run's folder; files from before are replaced.
        parts: What is written.
    """
    for writer in (WRITERS[name] for name in formats if name in WRITERS):
        (folder / TABLES).mkdir(exist_ok=True)
        for part in parts:
            writer(folder / TABLES, part)


def pyperf(records: Sequence[Record], folder: Path) -> Path:
    """Write pyperf.json into the folder: seconds per step, one benchmark a case, its name the case's key.

    `pyperf stats`, `pyperf hist` and `pyperf compare_to` read it. Cases without a time are not written.

    Args:
        records: Those whose times may be shown.
        folder: The run's folder; a file from before is replaced.
    """
    import pyperf as tool  # an extra: it is asked for by name

    benchmarks = []
    for r in records:
        metadata = {"name": r.case.key, "loops": r.sample_laps, "inner_loops": r.steps}
        benchmarks.append(
            tool.Benchmark([tool.Run(r.step_seconds.tolist(), metadata=metadata, collect_metadata=False)])
        )
    path = folder / PYPERF
    tool.BenchmarkSuite(benchmarks).dump(str(path), replace=True)
    return path


def _csv(folder: Path, part: Part) -> None:
    for name, rows in _rows_of(part):
        frames.frame(rows).to_csv(folder / f"{name}.csv", index=False)


def _parquet(folder: Path, part: Part) -> None:
    for name, rows in _rows_of(part):
        frames.frame(rows).to_parquet(folder / f"{name}.parquet", engine="pyarrow", index=False)


def _latex(folder: Path, part: Part) -> None:
    for name, table in _numbered(part):
        (folder / f"{name}.tex").write_text(latex.latex(table, name), encoding="utf-8")


WRITERS: dict[str, Callable[[Path, Part], None]] = {"csv": _csv, "parquet": _parquet, "latex": _latex}


def _rows_of(part: Part) -> Iterator[tuple[str, Sequence[Mapping[str, Any]]]]:
    if part.rows:
        yield part.name, part.rows
        return
    for name, table in _numbered(part):
        yield name, [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def _numbered(part: Part) -> Iterator[tuple[str, Table]]:
    for number, table in enumerate(part.tables, 1):
        yield part.name if len(part.tables) == 1 else f"{part.name}_{number}", table

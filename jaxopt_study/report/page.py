"""The page of a run: report.md, beside its figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxopt_study.report import table as tables
from jaxopt_study.report.figures import Figure
from jaxopt_study.report.table import Table

REPORT = "report.md"


def write(
    folder: Path,
    sentences: Sequence[str],
    sections: Sequence[tuple[str, Iterable[Table], Iterable[Figure]]],
    environment: Mapping[str, Any],
) -> None:
    """Write report.md into `folder`, which holds the figures.

    Args:
        folder: The run's folder.
        sentences: What the run came to.
        sections: (question, tables, figures) of each.
        environment: Where it was run.
    """
    facts = "".join(f"- {tables.in_markdown(words)}\n" for words in sentences)
    parts = ["# jaxopt_study: what was run, what agreed, what it took\n", facts]
    for question, section_tables, figures in sections:
        parts.append(f"# {question}\n")
        parts += [tables.markdown(table) for table in section_tables]
        captions = [(figure.name, tables.in_markdown(figure.caption)) for figure in figures]
        parts += [f"![{caption}]({name}.png)\n\n{caption}\n" for name, caption in captions]
    parts.append(tables.markdown(environment_table(environment)))
    (folder / REPORT).write_text("\n".join(parts), encoding="utf-8", errors="replace")  # a path may be any bytes


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

"""Records in the formats of others' tools."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jaxopt_study.bench.record import Record

PYPERF = "pyperf.json"
FORMATS = {"pyperf": "pyperf"}
"""Format -> the package that writes it."""


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

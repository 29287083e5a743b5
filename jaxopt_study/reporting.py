"""The command `report`: reports drawn from the records of runs, of one alone or of several side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cyclopts
from cyclopts import Parameter

from jaxopt_study import compare
from jaxopt_study.config import Config, ConfigError
from jaxopt_study.config.options import Switch

HELP = """Draw the report of a run again from its records, or set several runs
side by side. Nothing is measured.

Of one run, also of one that was cut off, the report is written into its folder.

Several runs are compared with the first one, case by case: what differs around
them, the time of a step in each, the ratio, what became slower beyond noise.
`report A B` says of B what `report B --against A` says. Nothing is written
without --out.

    jaxopt-study report runs/2026-11-22T12-00-00
    jaxopt-study report runs/before runs/after --fail-on-slower 10
    jaxopt-study report runs/mine --export latex csv

Exit status:
0    all values agree
1    a value disagrees, a case failed or there is no record (of several runs: in
     the last one), or --fail-on-slower found a case
2    the command line is wrong
"""

app = cyclopts.App(name="jaxopt-study report", help=HELP, help_format="plaintext", version_flags=())


@app.default
def report(
    *folders: Annotated[Path, Parameter(negative=())],
    out: Path | None = None,
    against: Path | None = None,
    fail_on_slower: float | None = None,
    export: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=(), show_default=False)] = (),
    verbose: Switch = False,
    json: Switch = False,
) -> int:
    """Draw the reports.

    Args:
        folders: The folders of the runs.
        out: The folder to write, which must be new or empty. Default: the run's own; of several runs, none.
        against: The folder of a run to compare one run with.
        fail_on_slower: Exit with status 1 where a case became slower by more than this many percent, in the last run
            against the first, or in the run against --against.
        export: csv, parquet or latex: all tables, in the folder tables. pyperf: the times, as pyperf.json.
        verbose: Show all tables in full, with what their columns mean.
        json: Print the summary as JSON on standard output, and nothing else there.
    """
    if not folders:
        raise ConfigError("report needs the folder of a run, as in: report runs/2026-11-22T12-00-00")
    return compare.compare(
        Config(
            report=folders,
            out=out,
            against=against,
            fail_on_slower=fail_on_slower,
            export=export,
            verbose=verbose,
            json=json,
        )
    )


def main(arguments: list[str]) -> int:
    """Run the command; return its exit status."""
    return compare.main(arguments, app)

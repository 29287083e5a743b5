"""`python -m jaxopt_study.parity FIRST.npz SECOND.npz`: where two recorded trajectories first differ."""

from __future__ import annotations

import argparse
import os
import sys
from io import TextIOWrapper

from jaxopt_study.parity.locate import locate
from jaxopt_study.parity.trees import shown


def main(arguments: list[str] | None = None) -> int:
    """Compare two files; return 0 where they are the same, 1 where they differ, 2 where they cannot be compared."""
    parser = argparse.ArgumentParser(prog="python -m jaxopt_study.parity", description=__doc__)
    parser.add_argument("first", help="a .npz file: each leaf an array with the steps as first axis")
    parser.add_argument("second", help="the other one")
    parser.add_argument("--steps", type=int, help="compare this many steps; all by default")
    parser.add_argument(
        "--tolerance",
        type=float,
        help="largest difference allowed in any leaf; from each leaf's own size, movement and type by default",
    )
    options = parser.parse_args(arguments)
    try:
        report = locate(options.first, options.second, steps=options.steps, tolerance=options.tolerance)
    except (ValueError, OSError) as error:
        print(f"error: {shown(str(error))}", file=sys.stderr)
        return 2
    print(report)
    return int(not report.same)


def run(arguments: list[str] | None = None) -> int:
    """Run the command line; its reader may know ASCII alone, and may go before the end."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        try:
            return main(arguments)
        finally:
            print(end="", flush=True)
    except OSError as error:
        # Python flushes standard output once more as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            print(f"error: standard output: {error.strerror}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(run())

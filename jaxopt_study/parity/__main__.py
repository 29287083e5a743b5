"""`python -m jaxopt_study.parity FIRST.npz SECOND.npz`: where two recorded trajectories part."""

from __future__ import annotations

import argparse
import sys

from jaxopt_study.parity.locate import locate


def main(arguments: list[str] | None = None) -> int:
    """Compare two files; return 0 where they are the same, 1 where they part, 2 where they cannot be compared."""
    parser = argparse.ArgumentParser(prog="python -m jaxopt_study.parity", description=__doc__)
    parser.add_argument("first", help="a .npz file: each leaf an array with the steps as first axis")
    parser.add_argument("second", help="the other one")
    parser.add_argument("--steps", type=int, help="compare this many steps; all by default")
    parser.add_argument("--tolerance", type=float, help="largest difference allowed; 4096 units in the last place")
    options = parser.parse_args(arguments)
    try:
        report = locate(options.first, options.second, steps=options.steps, tolerance=options.tolerance)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(report)
    return int(not report.same)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m jaxopt_study` and the command `jaxopt-study`: what `python -m jaxopt_study.compare` does."""

from __future__ import annotations

import sys

from jaxopt_study import terminal


def main() -> int:
    """Run the command line; return its exit status."""
    terminal.exit_on_signals()
    from jaxopt_study import compare  # takes a third of a second, in which Ctrl-C would show Python's traceback

    return compare.main()


if __name__ == "__main__":
    sys.exit(main())

"""`python -m jaxopt_study.port checkpoint.pt out/`: a checkpoint of PyTorch for flax and optax, and back."""

from __future__ import annotations

import sys

from jaxopt_study import terminal
from jaxopt_study.port.arguments import parser


def main(arguments: list[str] | None = None) -> int:
    """Read the arguments, and port; a signal ends it at once."""
    terminal.exit_on_signals()
    given = parser().parse_intermixed_args(arguments)
    from jaxopt_study.port import command  # both frameworks: seconds

    return command.main(given)


if __name__ == "__main__":
    sys.exit(terminal.serve(main))

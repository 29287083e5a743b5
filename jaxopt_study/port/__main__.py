"""`python -m jaxopt_study.port checkpoint.pt out/`: a checkpoint of PyTorch for flax and optax, and back."""

from __future__ import annotations

import sys

from jaxopt_study import terminal
from jaxopt_study.port.arguments import parser


def run() -> int:
    """Run the command line; its reader may know ASCII alone, and may go before the end."""
    terminal.exit_on_signals()
    terminal.write_any_character()
    try:
        try:
            given = parser().parse_intermixed_args()
            from jaxopt_study.port.command import main  # both frameworks: seconds

            return main(given)
        finally:  # also of --help, which ends by SystemExit
            terminal.flush(sys.stdout)
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            terminal.say(f"error: standard output: {error.strerror}")
        return 1


if __name__ == "__main__":
    sys.exit(run())

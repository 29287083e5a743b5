"""`python -m jaxopt_study.port checkpoint.pt out/`: a checkpoint of PyTorch for flax and optax, and back."""

from __future__ import annotations

import sys

from jaxopt_study import terminal


def run() -> int:
    """Run the command line; its reader may know ASCII alone, and may go before the end."""
    terminal.exit_on_signals()
    terminal.write_any_character()
    from jaxopt_study.port.command import main  # both frameworks: seconds, in which a signal may come

    try:
        try:
            return main()
        finally:
            terminal.flush(sys.stdout)
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            terminal.say(f"error: standard output: {error.strerror}")
        return 1


if __name__ == "__main__":
    sys.exit(run())

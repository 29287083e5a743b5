"""`python -m jaxopt_study` and the command `jaxopt-study`: all commands of the project under one name.

Each loads what it needs when it is asked for.
"""

from __future__ import annotations

import sys
from typing import Annotated

from jaxopt_study import terminal

if __name__ == "__main__":
    # The imports below take a moment, in which Ctrl-C would show Python's traceback.
    terminal.exit_on_signals()

import cyclopts
from cyclopts import Parameter

from jaxopt_study import __version__

Words = Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]

HELP = """Compare optimizers and Hessians in JAX and in PyTorch.

Each command has a --help of its own. Without a command, it is `compare`.
"""

app = cyclopts.App(
    name="jaxopt-study", help=HELP, version=__version__, help_format="plaintext", suppress_keyboard_interrupt=False
)


COMMANDS = ("compare", "dictionary", "parity", "port", "report")


def _command(name: str) -> cyclopts.App:
    """Return a command whose words are read by its own parser, --help and --version too."""
    return cyclopts.App(name=name, help_flags=(), version_flags=(), help_format="plaintext")


app.command(_compare := _command("compare"))
app.command(_dictionary := _command("dictionary"))
app.command(_parity := _command("parity"))
app.command(_port := _command("port"))
app.command(_report := _command("report"))


@app.default
def without_command(*words: Words) -> int:
    """Run `compare`, unless the first word is meant as a command."""
    from jaxopt_study.studies import STUDIES

    if words and not words[0].startswith("-") and words[0] not in STUDIES:
        terminal.say(f"error: {words[0]!r} is no command: choose from {', '.join(COMMANDS)}")
        return 2
    return compare(*words)


@_compare.default
def compare(*words: Words) -> int:
    """Run the experiments in both frameworks, check that they agree, and time them."""
    from jaxopt_study import compare as command

    return command.main(list(words))


@_dictionary.default
def dictionary(*words: Words) -> int:
    """Say what an optimizer, scheduler, clipping or initializer of torch is in JAX."""
    from jaxopt_study.dictionary.__main__ import main as command

    return terminal.serve(lambda: command(list(words)))


@_parity.default
def parity(*words: Words) -> int:
    """Say where two recorded trainings first differ, and why."""
    from jaxopt_study.parity.__main__ import run

    return run(list(words))


@_port.default
def port(*words: Words) -> int:
    """Write a PyTorch checkpoint as flax variables and optax state, and back."""
    from jaxopt_study.port.__main__ import main as command

    return terminal.serve(lambda: command(list(words)))


@_report.default
def report(*words: Words) -> int:
    """Draw reports again from records, also of a run that was cut off, and set several runs side by side."""
    from jaxopt_study import reporting as command

    return command.main(list(words))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    terminal.exit_on_signals()
    words = sys.argv[1:] if arguments is None else arguments
    # Each command serves its own output; this is for the help and the version of all.
    return terminal.serve(lambda: app(words, exit_on_error=False, print_error=False, result_action="return_value") or 0)


if __name__ == "__main__":
    sys.exit(main())

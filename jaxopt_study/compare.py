"""The command line, `python -m jaxopt_study.compare`, and `run(config)` for Python users."""

from __future__ import annotations

from jaxopt_study import terminal

if __name__ == "__main__":
    # The imports below take a third of a second, in which Ctrl-C would show Python's traceback.
    terminal.exit_on_signals()

import json
import shlex
import sys
import textwrap
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import fields, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cyclopts

from jaxopt_study import __version__, folders, plugin, redraw, register, session, user_code
from jaxopt_study.bench.case import PROFILES
from jaxopt_study.bench.timing import process_age
from jaxopt_study.config import (
    DEVICES,
    DTYPES,
    FRAMEWORKS,
    Config,
    ConfigError,
    check,
    connect,
    read_data,
    spelling,
)
from jaxopt_study.data.workloads import WORKLOADS
from jaxopt_study.measuring import Progress
from jaxopt_study.outcome import Outcome
from jaxopt_study.progress import Bar, terminal_console
from jaxopt_study.report import screen
from jaxopt_study.report import table as text
from jaxopt_study.report.table import show
from jaxopt_study.session import Interrupted
from jaxopt_study.studies import STUDIES
from jaxopt_study.studies.registry import OPTIMIZERS
from jaxopt_study.studies.steps import source

__all__ = ["Config", "ConfigError", "Outcome", "compare_steps", "main", "run"]

HELP = """Run the notebook's experiments in JAX and in PyTorch, check that they agree, and time them.

Exit status:
0    all values agree
1    a value disagrees, or something failed
2    the command line is wrong
130  the run was stopped
"""

app = cyclopts.App(
    name="python -m jaxopt_study.compare",
    help=HELP,
    version=__version__,
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
)


def silent(words: str, done: int, samples: int) -> None:
    """Show no progress."""
    del words, done, samples


def run(config: Config = Config(), progress: Progress | None = None) -> Outcome:  # noqa: B008 - frozen
    """Run what `config` asks for, and return what came of it.

    Args:
        config: What to run.
        progress: Called with (words, samples done since the last call, samples in all). By default, a notebook shows a
            line every 15 seconds, and a script shows nothing.

    Raises:
        ConfigError: What is asked for cannot be done; nothing was written.
        session.Interrupted: The run was stopped; what was recorded is kept.
    """
    if progress is None:
        with Bar() if terminal_console().is_jupyter else nullcontext(silent) as default:
            return run(config, default)
    if config.plugin is None and (mine := _registered(config)):
        with TemporaryDirectory() as temporary:
            written = Path(temporary) / f"plugin{user_code.PICKLED}"
            written.write_bytes(mine)
            return run(replace(config, plugin=str(written)), progress)
    if config.report:
        return redraw.report(config)
    given = read_data(config)
    plan = check(config, given)
    beside = redraw.beside(config)
    if config.resume is not None:
        if config.out is not None:
            raise ConfigError(f"--out {config.out} cannot be given with --resume {config.resume}")
        folder = folders.old("--resume", Path(config.resume))
    else:
        stamp = f"{datetime.now():%Y-%m-%dT%H-%M-%S}"
        folder = folders.new(Path("runs") / stamp if config.out is None else Path(config.out))
    tell = progress.tell if isinstance(progress, Bar) else lambda _: None
    resumed, pool = config.resume is not None, connect(config, plan)
    return session.run(plan, folder, resumed, progress, beside, given, pool, tell)


def _registered(config: Config) -> bytes:
    """Return what this process registered, ready to be sent to others; nothing if `config` uses none of it."""
    entries = register.registered().entries
    used = {"model": [config.model], "loss": [config.loss], "optimizer": config.optimizers}
    if not any(name in entries[kind] for kind, names in used.items() for name in names):
        return b""
    try:
        return plugin.pickled(register.registered())
    except user_code.UserCodeError as error:
        raise ConfigError(str(error)) from None


def compare_steps(
    jax_step: Callable[[], Any] | None = None,
    torch_step: Callable[[], Any] | None = None,
    *,
    progress: Progress | None = None,
    **options: Any,
) -> Outcome:
    """Compare a training step of yours in JAX with the one in PyTorch, or one of them with its own ways to loop.

    Each function takes nothing and returns a dict: `state`, `step` (state, batch) -> (state, loss), `batches` (a list
    of NumPy arrays, the same for both) and `params` (state) -> names and arrays. It runs in a process of its own.

    Args:
        jax_step: The function for JAX.
        torch_step: The function for PyTorch.
        progress: As in `run`.
        options: The other fields of `Config`, such as `dtype`, `device`, `profile` or `out`.

    Raises:
        ConfigError: The steps cannot be compared; nothing was written.
    """
    given = {"jax": jax_step, "torch": torch_step}
    functions = {framework: function for framework, function in given.items() if function is not None}
    if not functions:
        raise ConfigError("compare_steps needs jax_step, torch_step or both")
    try:
        content = user_code.pickled(functions, source.FUNCTIONS)
    except user_code.UserCodeError as error:
        raise ConfigError(str(error)) from None
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"steps{user_code.PICKLED}"
        path.write_bytes(content)
        return run(Config(experiment=path, **options), progress)


@app.default
def compare(config: Config = Config()) -> int:  # noqa: B008 - frozen
    """Do what the command line says; return the exit status."""
    if config.list:
        print(choices())
        return 0
    if config.new_experiment is not None:
        print(new_experiment(config.new_experiment))
        return 0
    with Bar() as progress:
        outcome = run(config, progress)
    if config.json:
        print(json.dumps(outcome.summary, indent=2, allow_nan=False))
        return outcome.status
    console = terminal_console()
    for table in outcome.tables if config.verbose else ():
        show(table, console)
    screen.show(outcome.screen, console, config.verbose)
    if outcome.summary["folder"] is not None:
        took = "" if config.report else f"Took {text.seconds(process_age())}. "
        where = f"{took}Report, figures and records: {outcome.folder}"
        console.print(where, markup=False, emoji=False, highlight=False, soft_wrap=True)
    return outcome.status


def new_experiment(path: Path) -> str:
    """Write a file for `--experiment`; return what to do next.

    Raises:
        ConfigError: There is such a file, or it cannot be written.
    """
    if path.suffix != ".py":
        raise ConfigError(f"--new-experiment {path}: the name must end in .py")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(source.TEMPLATE.read_text(encoding="utf-8"))
    except FileExistsError:
        raise ConfigError(f"--new-experiment {path} exists already") from None
    except OSError as error:
        raise ConfigError(f"--new-experiment {path} cannot be written: {error.strerror}") from None
    return f"Wrote {path}. Run it by:\n  python -m jaxopt_study.compare --experiment {shlex.quote(str(path))}"


def choices() -> str:
    """Return what can be run, in lines of at most 80 columns."""
    lines = [
        line for name, study in STUDIES.items() for line in _wrapped(f"studies     {name:12} {study.question}", 25)
    ]
    for option, names in (
        ("optimizers", OPTIMIZERS),
        ("frameworks", FRAMEWORKS),
        ("workloads", WORKLOADS),
        ("profiles", PROFILES),
        ("dtypes", DTYPES),
        ("devices", DEVICES),
    ):
        lines += _wrapped(f"{option:11} {', '.join(names)}", 12)
    return "\n".join(lines)


def _wrapped(line: str, indent: int) -> list[str]:
    return textwrap.wrap(line, 80, subsequent_indent=" " * indent, break_on_hyphens=False)


def main(arguments: list[str] | None = None, application: cyclopts.App | None = None) -> int:
    """Run the command line of `compare`, or of another application that ends in it; return its exit status."""
    terminal.write_any_character()
    with terminal.stop_on_signals():
        status = _status(sys.argv[1:] if arguments is None else arguments, app if application is None else application)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            terminal.flush(stream)
    return status


def _status(arguments: list[str], application: cyclopts.App) -> int:
    """Run the command line; whatever ends it early is one line, or two, on standard error."""
    try:
        spelling.check(arguments, STUDIES if application is app else None)
        console = terminal_console()
        status = application(
            arguments, console=console, exit_on_error=False, print_error=False, result_action="return_value"
        )
        terminal.flush(sys.stdout)
    except cyclopts.UnknownOptionError as error:
        names = [name for argument in error.argument_collection for name in argument.names]
        terminal.say(f"error: {terminal.visible(spelling.unknown(error.token.keyword or error.token.value, names))}")
        return 2
    except (cyclopts.CycloptsError, ConfigError) as error:
        terminal.say(f"error: {' '.join(str(error).split())}")
        return 2
    except Interrupted as interrupted:
        how = _go_on(arguments, interrupted.folder)
        terminal.say(f"{interrupted}; what was recorded is kept. Go on by:\n  {how}")
        return interrupted.status
    except KeyboardInterrupt:
        terminal.say("stopped before anything was recorded")
        return terminal.STOPPED
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # then whoever read standard output has gone
            terminal.say(f"error: {error.strerror or error}")
        return 1
    return status or 0


def _go_on(arguments: list[str], folder: Path) -> str:
    """Return the command that finishes the run in `folder`: the same options, but for where to write."""
    command, bound, _ = app.parse_args(arguments, exit_on_error=False, print_error=False)
    config = bound.arguments.get("config", Config())
    config = replace(config, out=None, resume=folder)
    words = ["python", "-m", "jaxopt_study.compare"]
    for field in fields(Config):
        value = getattr(config, field.name)
        if value != field.default:
            words += [f"--{field.name.replace('_', '-')}", *_words(value)]
    del command
    return shlex.join(words)


def _words(value: Any) -> list[str]:
    if value is True:
        return []
    return [str(item) for item in value] if isinstance(value, tuple) else [str(value)]


if __name__ == "__main__":
    sys.exit(main())

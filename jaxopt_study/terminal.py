"""What a command owes its terminal: whatever it writes can be written, and a signal ends it in one line.

The command imports this module first, so it loads little.
"""

from __future__ import annotations

import argparse
import codecs
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, TextIO

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

LONGEST = 200
"""Characters of a complaint about a command line."""
STOPPED = 130
"""The exit status of a command that a signal ended, as a shell gives it after Ctrl-C."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, the end of a batch system's time, the end of the terminal."""

ASCII = {"µ": "u", "²": "^2", "±": "+-", "…": "...", "─": "-"}
"""What is written where an encoding lacks a character; of others, a question mark."""

_signals: list[int] = []
"""The signals that came since `stop_on_signals`."""


class Stop(KeyboardInterrupt):
    """A signal asked for the end.

    Python ends a process by SIGINT, whatever its status is, once a plain KeyboardInterrupt passed through code that was
    executed from text.
    """


def exit_on_signals() -> None:
    """Let a signal end the process at once, in one line: nothing is loaded yet that could do better."""
    _handle(_exit)


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Let the first signal raise `Stop` here; a second one ends the process at once."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    hook = sys.unraisablehook
    # Where Python cannot raise it, as while it deletes an object, it comes with the next progress: see `check_stop`.
    sys.unraisablehook = lambda dropped: None if dropped.exc_type is Stop else hook(dropped)
    _handle(_stop)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        _signals.clear()
        for number, handler in before.items():
            signal.signal(number, handler)


def check_stop() -> None:
    """Raise `Stop` if a signal came.

    It was raised then, but Cython drops exceptions in a part of an import, and Python does while it deletes an object.
    """
    if _signals:
        raise Stop


def write_any_character() -> None:
    """Let standard output and error take characters that their encodings lack, and file names of any bytes."""
    codecs.register_error("in ascii", _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # it is None where the shell closed it
            stream.reconfigure(errors="in ascii")


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line."""

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        """Write the help; argparse's own method says nothing where that fails."""
        print(self.format_help(), end="", file=file)

    def error(self, message: str) -> NoReturn:
        """End with the status 2."""
        words = visible(message)
        say(f"error: {words if len(words) <= LONGEST else words[:LONGEST] + '...'}; see --help")
        raise SystemExit(2)


def say(words: str) -> None:
    """Write a line to standard error, if anything takes it."""
    with suppress(OSError):  # a full device, or a terminal that is gone
        if sys.stderr is not None:
            print(words, file=sys.stderr, flush=True)


def visible(text: str) -> str:
    """Return a text of a user's file on one line, its control characters escaped: they could command a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def counted(number: int, one: str, more: str = "") -> str:
    """Return a number with its noun: `1 case`, `2 cases`.

    Args:
        number: How many.
        one: The noun of one.
        more: The noun of none and of several, where it is not `one` with an s.
    """
    return f"{number:,} {one if number == 1 else more or f'{one}s'}"


def serve(command: Callable[[], int]) -> int:
    """Run a command line and return its status; its reader may know ASCII alone, and may go before the end."""
    write_any_character()
    try:
        try:
            return command()
        finally:  # also of --help, which ends by SystemExit
            flush(sys.stdout)
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            say(f"error: standard output: {error.strerror}")
        return 1


def flush(stream: TextIO | None) -> None:
    """Write out what standard output or error holds back.

    Raises:
        OSError: It cannot be written. It is given up, or Python would try again as it ends, and say so at length.
    """
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise


def _in_ascii(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character, end = error.object[error.start], error.start + 1
    if "\udc80" <= character <= "\udcff":  # a byte of a file's name, as Python keeps it
        return bytes([ord(character) - 0xDC00]), end
    return ASCII.get(character, "?"), end


def _handle(handler: Callable[[int, FrameType | None], None]) -> None:
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP, and a shell's background job Ctrl-C
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    del frame
    _signals.append(number)
    _handle(_exit)
    raise Stop


def _exit(number: int, frame: FrameType | None) -> None:
    del number, frame
    with suppress(OSError):
        os.write(2, b"stopped\n")
    os._exit(STOPPED)

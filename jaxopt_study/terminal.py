"""What a command owes its terminal: whatever it writes can be written."""

from __future__ import annotations

import codecs
import os
import sys
from contextlib import suppress
from io import TextIOWrapper

ASCII = {"µ": "u", "²": "^2", "±": "+-", "…": "...", "─": "-"}
"""What is written where an encoding lacks a character; of others, a question mark."""


def write_any_character() -> None:
    """Let standard output and error take characters that their encodings lack, and file names of any bytes."""
    codecs.register_error("in ascii", _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # it is None where the shell closed it
            stream.reconfigure(errors="in ascii")


def say(words: str) -> None:
    """Write a line to standard error, if anything takes it."""
    with suppress(OSError):  # a full device, or a terminal that is gone
        if sys.stderr is not None:
            print(words, file=sys.stderr, flush=True)


def flush() -> None:
    """Write out what standard output holds back.

    Raises:
        OSError: It cannot be written. It is given up, or Python would try again as it ends, and say so at length.
    """
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def _in_ascii(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character, end = error.object[error.start], error.start + 1
    if "\udc80" <= character <= "\udcff":  # a byte of a file's name, as Python keeps it
        return bytes([ord(character) - 0xDC00]), end
    return ASCII.get(character, "?"), end

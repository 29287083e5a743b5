"""`python -m jaxopt_study.dictionary RMSprop lr=0.01 momentum=0.9`: what a torch.optim optimizer is in optax."""

from __future__ import annotations

import argparse
import ast
import re
import sys
from typing import Any

from jaxopt_study import terminal
from jaxopt_study.dictionary.options import IMPLEMENTATION, OPTIONS, DictionaryError, short
from jaxopt_study.dictionary.rules import translate

LONGEST = 300
"""Characters of a value that are read; a longer one is a mistake, and Python's parser may not end it in time."""


def main(arguments: list[str] | None = None) -> int:
    """Print a translation; return 0, or 2 where torch has no such configuration."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxopt_study.dictionary",
        description="Say what a torch.optim optimizer is in optax, as code to paste.",
        epilog=f"classes: {', '.join(OPTIONS)}",
    )
    parser.add_argument(
        "name", nargs="?", help="a class of torch.optim, or a call of it in quotes; all are listed without"
    )
    parser.add_argument("options", nargs="*", metavar="OPTION=VALUE", help="what differs from torch's defaults")
    parser.add_argument("--schedule", action="store_true", help="with a learning rate that changes: schedule(step)")
    given = parser.parse_intermixed_args(arguments)
    try:
        print(_listing() if given.name is None else _answer(given.name, given.options, given.schedule))
    except DictionaryError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _answer(name: str, options: list[str], schedule: bool) -> str:
    if "(" in name:
        if options:
            raise DictionaryError(f"{short(name)} has its options already: {short(options[0])} cannot be given")
        return str(translate(*_call(name), "schedule" if schedule else ""))
    given = dict(_option(name, word) for word in options)
    if len(given) < len(options):
        names = [word.partition("=")[0] for word in options]
        raise DictionaryError(f"{max(names, key=names.count)} is given more than once")
    return str(translate(name, given, "schedule" if schedule else ""))


def _call(text: str) -> tuple[str, dict[str, Any]]:
    """Read a call as it stands in a script, `torch.optim.AdamW(params, lr=1e-3)`: return the class and its options."""
    wrong = DictionaryError(f"{short(text)} is no call of literals: write it as AdamW(lr=1e-3)")
    if len(text) > LONGEST:
        raise wrong
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or len(call.args) > 1 or None in (k.arg for k in call.keywords):
            raise wrong
        options = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords if k.arg != "params"}
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise wrong from None
    if any(map(_underflows, re.findall(r"[\d.]+[eE]-\d+", text))):
        raise DictionaryError(f"{text} has a number below the smallest that can be held")
    return ast.unparse(call.func).removeprefix("torch.").removeprefix("optim."), options


def _option(name: str, word: str) -> tuple[str, Any]:
    option, equals, value = word.partition("=")
    if not equals:
        raise DictionaryError(f"{short(word)} is no option: write OPTION=VALUE, as lr=0.01")
    return option, _value(name, option, value)


def _value(name: str, option: str, text: str) -> Any:
    """Read a value: a Python literal, numbers with commas between, or a word."""
    if len(text) > LONGEST:
        raise DictionaryError(f"the value of {option} has {len(text)} characters: at most {LONGEST} are read")
    if any(map(_underflows, text.split(","))):
        raise DictionaryError(f"{option}={text} is below the smallest number that can be held")
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        lowered = {"true": True, "false": False, "none": None}
        if text.lower() in lowered:
            return lowered[text.lower()]
    if option in OPTIONS.get(name, {}) and isinstance(OPTIONS[name][option][0], int | float):
        try:
            return float(text)  # nan, inf and the like
        except ValueError:
            return text
    return text


def _underflows(number: str) -> bool:
    """Say whether a number that is not 0 would be read as 0."""
    try:
        return float(number) == 0 and bool(re.search("[1-9]", number.lower().partition("e")[0]))
    except ValueError:
        return False


def _listing() -> str:
    lines = [
        f"{name:11} {' '.join(f'{option}={default!r}' for option, (default, _) in options.items())}"
        for name, options in OPTIONS.items()
    ]
    return "\n".join([*lines, f"any         {' '.join(IMPLEMENTATION)}: torch's choice of code, not of mathematics"])


def run() -> int:
    """Run the command line; its reader may know ASCII alone, and may go before the end."""
    terminal.write_any_character()
    try:
        try:
            return main()
        finally:  # also of --help, which ends by SystemExit
            terminal.flush(sys.stdout)
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            terminal.say(f"error: standard output: {error.strerror}")
        return 1


if __name__ == "__main__":
    sys.exit(run())

"""`python -m jaxopt_study.dictionary RMSprop lr=0.01 momentum=0.9`: what a torch.optim optimizer is in optax."""

from __future__ import annotations

import sys
from typing import Any

from jaxopt_study import terminal
from jaxopt_study.dictionary.allowed import REQUIRED, DictionaryError, Table, short
from jaxopt_study.dictionary.calls import value
from jaxopt_study.dictionary.from_optax import to_torch
from jaxopt_study.dictionary.named import AROUND, translate
from jaxopt_study.dictionary.options import IMPLEMENTATION, OPTIONS


def main(arguments: list[str] | None = None) -> int:
    """Print a translation; return 0, or 2 where torch has no such configuration."""
    parser = terminal.Parser(
        prog="python -m jaxopt_study.dictionary",
        description="Say what an optimizer, scheduler, clipping or initializer of torch is in JAX, as code to paste.",
        epilog=f"classes: {', '.join(OPTIONS)}",
    )
    parser.add_argument(
        "name", nargs="?", help="a class or function of torch, or a call of it in quotes; all are listed without"
    )
    parser.add_argument("options", nargs="*", metavar="OPTION=VALUE", help="what differs from torch's defaults")
    parser.add_argument("--schedule", action="store_true", help="with a learning rate that changes: schedule(step)")
    given = parser.parse_intermixed_args(arguments)
    try:
        print(_listing() if given.name is None else _answer(given.name, given.options, given.schedule))
    except DictionaryError as error:
        terminal.say(f"error: {terminal.visible(str(error))}")
        return 2
    return 0


def _answer(name: str, words: list[str], schedule: bool) -> str:
    options = dict(map(_option, words))
    if len(options) < len(words):
        names = [word.partition("=")[0] for word in words]
        raise DictionaryError(f"{max(names, key=names.count)} is given more than once")
    if name.startswith("optax."):
        if schedule:
            raise DictionaryError(f"{short(name)} is in optax already: --schedule is for an optimizer of torch")
        return str(to_torch(name, **options))
    return str(translate(name, options, "schedule" if schedule else ""))


def _option(word: str) -> tuple[str, Any]:
    option, equals, text = word.partition("=")
    if not equals:
        raise DictionaryError(f"{short(word)} is no option: write OPTION=VALUE, as lr=0.01")
    return option, value(option, text)


def _listing() -> str:
    lines = [_line(name, table) for name, table in OPTIONS.items()]
    lines.append(f"any         {' '.join(IMPLEMENTATION)}: torch's choice of code, not of mathematics")
    for kind, (names, _) in AROUND.items():
        lines += ["", kind, *(_line(name, table) for name, table in names.items())]
    return "\n".join(lines)


def _line(name: str, table: Table) -> str:
    options = (option + ("=" if default is REQUIRED else f"={default!r}") for option, (default, _) in table.items())
    return f"{name:11} {' '.join(options)}"


if __name__ == "__main__":
    sys.exit(terminal.serve(main))

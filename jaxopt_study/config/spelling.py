"""What people type who know other tools, and what it is here: said in one line before the command line is read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import fields
from itertools import pairwise

from jaxopt_study.config.options import DTYPES, Config
from jaxopt_study.config.values import ConfigError

OPTIONS = {
    "--lr": "--learning-rate",
    "--rate": "--learning-rate",
    "--bs": "--batch-size",
    "--dataset": "--workload",
    "--output": "--out",
    "--format json": "--json",
    "--output-format json": "--json",
    "--cuda": "--device gpu",
    "--gpu": "--device gpu",
    "--quick": "--profile smoke",
    "--fast": "--profile smoke",
    "--device cuda": "--device gpu",
    "--dtype double": "--dtype float64",
    "--dtype float": "--dtype float32",
    "--dtype single": "--dtype float32",
}
"""What is typed, an option or an option with its value -> what it is here."""
SEVERAL = tuple(f"--{field.name}" for field in fields(Config) if isinstance(field.default, tuple))
"""Options that take several values, which the library takes for given where there is none."""
NARROW = ("bfloat16", "bf16", "float16", "fp16", "half")
"""Types for which no bound was measured."""


def check(arguments: Sequence[str], studies: Iterable[str] | None = None) -> None:
    """Look for what is known to be written in another way here.

    Args:
        arguments: The command line.
        studies: The names of the studies, where the command line has options alone.

    Raises:
        ConfigError: Something is; the line says how it is written.
    """
    if studies is not None and arguments and not arguments[0].startswith("-"):
        _refuse_word(arguments, list(studies))
    for option, following in pairwise([*arguments, "--"]):
        if option in SEVERAL and following.startswith("--"):
            raise ConfigError(f"{option} needs at least one value; see --help")
    words = [word for argument in arguments for word in argument.split("=", 1)]
    for option, value in pairwise([*words, ""]):
        value = value.partition(":")[0]  # cuda:0
        for typed in (f"{option} {value}", option):
            if typed in OPTIONS:
                raise ConfigError(f"{typed} is {OPTIONS[typed]} here; see --help")
        if option == "--dtype" and value in NARROW:
            raise ConfigError(f"--dtype {value}: choose from {', '.join(DTYPES)}; of other types no bound was measured")


def unknown(option: str, options: Iterable[str]) -> str:
    """Return what is said of an option that there is not, with the nearest one if any is near."""
    by_name = {other.lstrip("-"): other for other in options}  # the dashes alone would make short names near
    near = difflib.get_close_matches(option.lstrip("-").lower(), by_name, n=1)
    return f"unknown option {option}" + (f": did you mean {by_name[near[0]]}?" if near else "; see --help")


def _refuse_word(arguments: Sequence[str], studies: list[str]) -> None:
    """Refuse a command line that begins with a word: it has options alone."""
    word = arguments[0]
    near = difflib.get_close_matches(word.lower(), studies, n=1)
    if not near:
        raise ConfigError(f"{word!r} is no option: options begin with --; see --help")
    named = [name for name in arguments if name in studies] or near
    raise ConfigError(f"a study is asked for by --studies: did you mean --studies {' '.join(named)}?")

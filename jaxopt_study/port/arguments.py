"""The command line's arguments; it loads no framework, so that help and mistakes are answered at once."""

from __future__ import annotations

import argparse
from pathlib import Path

from jaxopt_study import terminal


def parser() -> argparse.ArgumentParser:
    """Return the parser of `python -m jaxopt_study.port`."""
    made = terminal.Parser(
        prog="python -m jaxopt_study.port",
        description="Write a PyTorch checkpoint as flax variables and optax state, in orbax's format. Names and "
        "shapes tell what is a kernel, a scale or an embedding: read the table that is printed. With --like, write "
        "such a folder back.",
    )
    made.add_argument("source", type=Path, help="a file that torch.save wrote; with --like, a folder of this command")
    made.add_argument("out", type=Path, help="the folder to write; with --like, the file")
    made.add_argument("--optimizer", metavar="CLASS", help="the torch.optim class that wrote the optimizer's state")
    made.add_argument("--steps", type=_steps, help="steps made, where the optimizer's class does not count them")
    for name, words in (
        ("embedding", "is an embedding"),
        ("linear", "is a linear layer without bias"),
        ("transposed", "is a transposed convolution"),
    ):
        made.add_argument(f"--{name}", metavar="MODULE", action="append", default=[], help=f"this module {words}")
    made.add_argument(
        "--flattened",
        metavar="MODULE=C,H,W",
        action="append",
        default=[],
        type=_image,
        help="this linear layer follows a flattened image of C channels, height H and width W",
    )
    words = "write back: as this checkpoint, with the folder's parameters and state"
    made.add_argument("--like", type=Path, metavar="CHECKPOINT", help=words)
    return made


def _steps(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 0")
    return int(text)


def _image(text: str) -> tuple[str, tuple[int, ...]]:
    module, _, sizes = text.partition("=")
    if not all(size.isdecimal() and int(size) for size in sizes.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r} is not MODULE=C,H,W, as fc=16,7,7")
    return module, tuple(map(int, sizes.split(",")))

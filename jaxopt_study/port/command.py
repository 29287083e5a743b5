"""The command line of a port: from files to files, with a table of what was read as what."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
import torch

from jaxopt_study import dictionary
from jaxopt_study.dictionary import DictionaryError, LiveTranslation
from jaxopt_study.port.files import Checkpoint, optimizer_of, read
from jaxopt_study.port.layouts import CONV, DENSE, FLATTENED, Shape
from jaxopt_study.port.leaves import Leaf, Matching, match, short
from jaxopt_study.port.optax_state import to_optax_state
from jaxopt_study.port.params import shapes_of, to_flax_params, to_torch_params
from jaxopt_study.port.template import Kinds, template_of
from jaxopt_study.port.torch_state import to_torch_state_dict

PARAMS, STATE, CODE = "params", "optimizer_state", "optimizer.py"
"""What is written, in a folder."""


def main(arguments: list[str] | None = None) -> int:
    """Port a checkpoint; return 0, or 2 where it cannot be ported."""
    parser = _parser()
    given = parser.parse_intermixed_args(arguments)
    jax.config.update("jax_enable_x64", True)  # else float64 would be rounded
    try:
        said = _back(given) if given.like else _there(given)
    except (DictionaryError, OSError) as error:
        words = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else error
        print(f"error: {words}", file=sys.stderr)
        return 2
    print(said)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jaxopt_study.port",
        description="Write a PyTorch checkpoint as flax variables and optax state, in orbax's format; or, with --like, "
        "write them back.",
    )
    parser.add_argument("source", type=Path, help="a file that torch.save wrote; with --like, a folder of this command")
    parser.add_argument("out", type=Path, help="the folder to write; with --like, the file")
    parser.add_argument("--optimizer", metavar="CLASS", help="the torch.optim class that wrote the optimizer's state")
    parser.add_argument("--steps", type=int, help="steps made, where the optimizer's class does not count them")
    for name, words in (
        ("embedding", "is an embedding"),
        ("linear", "is a linear layer without bias"),
        ("transposed", "is a transposed convolution"),
    ):
        parser.add_argument(f"--{name}", metavar="MODULE", action="append", default=[], help=f"this module {words}")
    parser.add_argument(
        "--flattened",
        metavar="MODULE=C,H,W",
        action="append",
        default=[],
        type=_image,
        help="this linear layer follows a flattened image of C channels, height H and width W",
    )
    parser.add_argument("--like", type=Path, metavar="CHECKPOINT", help="write back, as this checkpoint was written")
    return parser


def _image(text: str) -> tuple[str, Shape]:
    module, _, sizes = text.partition("=")
    try:
        return module, tuple(int(size) for size in sizes.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not MODULE=C,H,W, as fc=16,7,7") from None


def _there(given: argparse.Namespace) -> str:
    if given.out.exists() and (not given.out.is_dir() or any(given.out.iterdir())):
        raise DictionaryError(f"{given.out} exists, and is no empty folder")
    checkpoint = read(given.source)
    template, matching = _template(given, checkpoint)
    variables = to_flax_params(checkpoint.model, template, matching)
    leaves = list(match(template, shapes_of(checkpoint.model), matching).values())
    translation, state = None, None
    if checkpoint.optimizer is not None and given.optimizer:
        optimizer, translation = _translated(given, checkpoint)
        params = variables["params"]
        start = translation.transformation().init(params)
        steps = checkpoint.steps if given.steps is None else given.steps
        state = to_optax_state(optimizer, start, params, matching, steps=steps)
    given.out.mkdir(parents=True, exist_ok=True)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save((given.out / PARAMS).absolute(), variables)
        if state is not None:
            checkpointer.save((given.out / STATE).absolute(), state)
    if translation is not None:
        (given.out / CODE).write_text(f"{translation}\n", encoding="utf-8")
    return "\n".join([*_table(leaves), "", *_doubts(leaves), *_words(given, checkpoint, translation)])


def _back(given: argparse.Namespace) -> str:
    if given.out.exists():
        raise DictionaryError(f"{given.out} exists")
    checkpoint = read(given.like)
    template, matching = _template(given, checkpoint)
    with ocp.StandardCheckpointer() as checkpointer:
        variables = _restored(checkpointer, given.source / PARAMS, template)
        written: dict[str, Any] = {"model": to_torch_params(variables, checkpoint.model, matching)}
        if checkpoint.optimizer is not None and given.optimizer:
            optimizer, translation = _translated(given, checkpoint)
            start = translation.transformation().init(variables["params"])
            state = _restored(checkpointer, given.source / STATE, start)
            made = to_torch_state_dict(state, optimizer, variables["params"], matching)
            written["optimizer"] = made | {"param_groups": checkpoint.optimizer["param_groups"]}
    part = given.out.with_name(f"{given.out.name}.part")  # a file is there whole, or not at all
    torch.save(written, part)
    part.replace(given.out)
    return f"wrote {given.out}: {' and '.join(written)}; learning rates are those of {given.like}"


def _restored(checkpointer: ocp.StandardCheckpointer, path: Path, template: Any) -> Any:
    if not path.is_dir():
        raise DictionaryError(f"{path}: there is no such folder")
    try:
        return checkpointer.restore(path.absolute(), template)
    except (ValueError, KeyError, TypeError) as error:
        words = str(error).splitlines()[0]
        raise DictionaryError(f"{path} does not fit the checkpoint: {words}") from None


def _template(given: argparse.Namespace, checkpoint: Checkpoint) -> tuple[Any, Matching]:
    kinds = Kinds(given.embedding, given.linear, given.transposed)
    return template_of(checkpoint.model, kinds), Matching(flattened=dict(given.flattened), transposed=given.transposed)


def _translated(given: argparse.Namespace, checkpoint: Checkpoint) -> tuple[torch.optim.Optimizer, LiveTranslation]:
    optimizer = optimizer_of(given.optimizer, checkpoint)
    translation = dictionary.translate(optimizer)
    assert isinstance(translation, LiveTranslation)
    return optimizer, translation


def _table(leaves: Sequence[Leaf]) -> list[str]:
    """Return what each leaf was read from, and how."""
    rows = [("flax", "PyTorch", "layout")]
    for leaf in leaves:
        sides = (f"{leaf.path} {leaf.layout.flax_shape}", f"{leaf.name} {leaf.layout.torch_shape}")
        rows.append((*sides, leaf.layout.kind))
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return [f"{row[0]:{widths[0]}}  {row[1]:{widths[1]}}  {row[2]}" for row in rows]


def _doubts(leaves: Sequence[Leaf]) -> list[str]:
    """Return what shapes alone do not say."""
    lines, kinds = [], {leaf.layout.kind for leaf in leaves}
    if {CONV, DENSE} <= kinds and FLATTENED not in kinds:
        lines.append(
            "if a linear layer follows a flattened image, give --flattened MODULE=C,H,W: flax flattens (H, W, C)"
        )
    square = [leaf.name for leaf in leaves if leaf.layout.kind == CONV and len(set(leaf.layout.torch_shape[:2])) == 1]
    if square:
        lines.append(f"taken for convolutions, not transposed ones (else give --transposed MODULE): {short(square)}")
    return lines


def _words(given: argparse.Namespace, checkpoint: Checkpoint, translation: LiveTranslation | None) -> list[str]:
    lines = [f"wrote {given.out / PARAMS}: flax variables, for orbax.checkpoint.StandardCheckpointer().restore(path)"]
    if translation is not None:
        lines += [
            f"wrote {given.out / CODE}: the optimizer ({translation.status})",
            f"wrote {given.out / STATE}: its state, for .restore(path, optimizer.init(params))",
        ]
    elif checkpoint.optimizer is not None:
        lines += ["the optimizer's state is left out: give --optimizer with the class that wrote it, such as AdamW"]
    if checkpoint.steps is not None:
        lines += [f"its scheduler, at step {checkpoint.steps}, is left out: a checkpoint does not say its class"]
    if checkpoint.optimizer is not None and translation is not None and _unnamed(checkpoint.optimizer):
        lines += ["the optimizer names no parameters: they were taken to be the model's, in the model's order"]
    return lines


def _unnamed(optimizer: Any) -> bool:
    return not all("param_names" in group for group in optimizer["param_groups"])

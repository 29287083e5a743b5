"""The command line of a port: from files to files, with a table of what was read as what."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import jax
import torch

from jaxopt_study import dictionary, terminal
from jaxopt_study.dictionary import DictionaryError, LiveTranslation
from jaxopt_study.dictionary.leaves import FROZEN
from jaxopt_study.port import folder
from jaxopt_study.port.counts import COUNTLESS
from jaxopt_study.port.files import Checkpoint, in_one_line, read, write
from jaxopt_study.port.folder import CODE, PARAMS, STATE, Said, restored
from jaxopt_study.port.layouts import CONV, DENSE
from jaxopt_study.port.leaves import match
from jaxopt_study.port.matching import Leaf, Matching, short
from jaxopt_study.port.optax_state import to_optax_state
from jaxopt_study.port.params import shapes_of, to_flax_params, to_torch_params
from jaxopt_study.port.revived import optimizer_of
from jaxopt_study.port.template import template_of
from jaxopt_study.port.torch_state import to_torch_state_dict


def main(given: argparse.Namespace) -> int:
    """Port a checkpoint; return 0, or 2 where it cannot be ported."""
    jax.config.update("jax_enable_x64", True)  # else float64 would be rounded
    try:
        said = _back(given) if given.like else _there(given)
    except (DictionaryError, OSError) as error:
        words = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
        terminal.say(f"error: {terminal.visible(words)}")
        return 2
    print(said)
    return 0


def _there(given: argparse.Namespace) -> str:
    if given.out.exists() and (not given.out.is_dir() or any(given.out.iterdir())):
        raise DictionaryError(f"{given.out} exists, and is no empty folder")
    checkpoint = read(given.source)
    said = _said(given)
    template, matching = _template(said, checkpoint)
    variables = to_flax_params(checkpoint.model, template, matching)
    leaves = _leaves(template, checkpoint, matching)
    translation, state = None, None
    if given.optimizer:
        params = variables["params"]
        # A scheduler may step once per epoch: it says nothing where the optimizer counts itself.
        steps = checkpoint.steps if given.steps is None and given.optimizer in COUNTLESS else given.steps
        with in_one_line("the checkpoint's optimizer"):
            optimizer, translation = _translated(given, checkpoint)
            state = to_optax_state(optimizer, translation.transformation().init(params), params, matching, steps=steps)
    folder.write(given.out, variables, state, None if translation is None else str(translation), said)
    return "\n".join([*_table(leaves), "", *_doubts(leaves), *_words(given, checkpoint, translation)])


def _back(given: argparse.Namespace) -> str:
    if given.out.exists():
        raise DictionaryError(f"{given.out} exists")
    checkpoint = read(given.like)
    kept = folder.said(given.source)
    said = _said(given) if kept is None else _said(given).within(kept, given.source)
    template, matching = _template(said, checkpoint)
    optimizer, made = None, None
    variables = restored(given.source / PARAMS, template)
    model = to_torch_params(variables, checkpoint.model, matching)
    if given.optimizer:
        with in_one_line("the checkpoint's optimizer"):
            optimizer, translation = _translated(given, checkpoint)
        start = translation.transformation().init(variables["params"])
        state = restored(given.source / STATE, start)
        made = to_torch_state_dict(state, optimizer, variables["params"], matching)
        made["param_groups"] = (checkpoint.optimizer or {})["param_groups"]
    write(given.out, checkpoint, model, made)
    rest = "all else, learning rates too," if optimizer is not None else "all else, the optimizer's state too,"
    doubts = _doubts(_leaves(template, checkpoint, matching)) if kept is None else []
    return "\n".join([*doubts, f"wrote {given.out} with the folder's parameters; {rest} is that of {given.like}"])


def _said(given: argparse.Namespace) -> Said:
    return Said(given.embedding, given.linear, given.transposed, dict(given.flattened))


def _template(said: Said, checkpoint: Checkpoint) -> tuple[Any, Matching]:
    return template_of(checkpoint.model, said), Matching(flattened=said.flattened, transposed=said.transposed)


def _leaves(template: Any, checkpoint: Checkpoint, matching: Matching) -> list[Leaf]:
    return list(match(template, shapes_of(checkpoint.model), matching).values())


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
        rows.append((terminal.visible(sides[0]), terminal.visible(sides[1]), leaf.layout.kind))
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return [f"{row[0]:{widths[0]}}  {row[1]:{widths[1]}}  {row[2]}" for row in rows]


def _doubts(leaves: Sequence[Leaf]) -> list[str]:
    """Return what shapes alone do not say."""
    lines, kinds = [], {leaf.layout.kind for leaf in leaves}
    dense = [leaf.name for leaf in leaves if leaf.layout.kind == DENSE]
    if {CONV, DENSE} <= kinds:
        lines.append(
            "if one of these follows a flattened image, give --flattened MODULE=C,H,W, since flax flattens (H, W, C): "
            + terminal.visible(short(dense))
        )
    square = [leaf.name for leaf in leaves if leaf.layout.kind == CONV and len(set(leaf.layout.torch_shape[:2])) == 1]
    if square:
        lines.append(
            "taken for convolutions, not transposed ones (else give --transposed MODULE): "
            + terminal.visible(short(square))
        )
    return lines


def _words(given: argparse.Namespace, checkpoint: Checkpoint, translation: LiveTranslation | None) -> list[str]:
    lines = [f"wrote {given.out / PARAMS}: flax variables, for orbax.checkpoint.StandardCheckpointer().restore(path)"]
    tied = [f"{name} is {own}" for name, own in checkpoint.aliases.items() if not name.endswith(own)]
    if tied:
        lines.insert(0, f"tied weights are written once: {terminal.visible(short(tied))}")
    if checkpoint.steps is not None:
        lines += [f"its scheduler, at step {checkpoint.steps}, is left out: a checkpoint does not say its class"]
    if checkpoint.optimizer is None:
        return lines
    if translation is None:
        return [*lines, "the optimizer's state is left out: give --optimizer with the class that wrote it, as AdamW"]
    lines += [
        f"wrote {given.out / CODE}: the optimizer ({translation.status})",
        f"wrote {given.out / STATE}: its state, for .restore(path, optimizer.init(params))",
    ]
    groups = checkpoint.optimizer["param_groups"]
    if not all("param_names" in group for group in groups):
        lines += ["the optimizer names no parameters: they were taken to be the model's, in the model's order"]
    if given.optimizer in ("Adam", "AdamW") and not all("decoupled_weight_decay" in group for group in groups):
        lines += [f"nothing says whether {given.optimizer} wrote it: an older Adam and AdamW look alike"]
    frozen = translation.names.get(FROZEN, ())
    if frozen:
        lines += [f"frozen, since the optimizer keeps nothing of them: {terminal.visible(short(frozen))}"]
    return lines

"""A user's own choices: data, plugin, model, loss, optimizers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from jaxopt_study import plugin, user_code
from jaxopt_study.config.options import Config
from jaxopt_study.config.values import ConfigError, one_of, separated, some_of, whole
from jaxopt_study.data import files
from jaxopt_study.data.given import DataError, Given, arrays
from jaxopt_study.data.workload import LOSSES
from jaxopt_study.data.workloads import WORKLOADS, training_rows
from jaxopt_study.dictionary import DictionaryError
from jaxopt_study.register import KINDS
from jaxopt_study.studies.own import chosen, spelled
from jaxopt_study.studies.ranking import points
from jaxopt_study.studies.registry import OPTIMIZERS
from jaxopt_study.terminal import counted

__all__ = ["batch_size", "of_the_user", "read_data"]

BUILT_IN = {"model": ("linear", "mlp", "cnn"), "loss": LOSSES, "optimizer": OPTIMIZERS}
"""Names that a plugin may not take."""
OF_DATA = {
    "target": "a built-in workload has its own targets",
    "standardize": "of the built-in workloads breast-cancer-standardized, diabetes and wine are standardized already",
}
"""Options for the user's own data -> what a built-in workload has instead."""


def read_data(config: Config) -> Given | None:
    """Return the user's own data, if `config` names some.

    Raises:
        ConfigError: They cannot be read, or not trained on.
    """
    if config.data is None:
        for option, words in OF_DATA.items():
            if getattr(config, option):
                raise ConfigError(f"--{option} is for --data: {words}")
        return None
    if config.workload != Config.workload:
        raise ConfigError(f"--workload {config.workload} and --data cannot both be given")
    try:
        if isinstance(config.data, str | os.PathLike):
            return files.read(Path(config.data), config.target)
        if not (isinstance(config.data, tuple | list) and len(config.data) == 2):
            raise ConfigError(f"data of type {type(config.data).__name__} are neither a path nor a pair (X, y)")
        return arrays(*config.data)
    except DataError as error:
        name = config.data if isinstance(config.data, str | os.PathLike) else "(X, y)"
        raise ConfigError(f"--data {name}: {error}") from None


def _rows_per_step(config: Config, given: Given | None) -> int:
    default = 1 if given is None else given.batch_size
    return whole("--batch-size", default if config.batch_size is None else config.batch_size)


def batch_size(config: Config, given: Given | None) -> int:
    """Return the rows of a training step."""
    size = _rows_per_step(config, given)
    if size > 1 and size > (rows := given.training_rows if given else training_rows(config.workload)):
        raise ConfigError(f"--batch-size {size} is more than the {counted(rows, 'row')} for training")
    return size


def of_the_user(config: Config, given: Given | None) -> dict[str, Any]:
    """Return what a plan says of optimizers, and of a user's own plugin, model, loss and data."""
    source = _plugin(config)
    found: dict[str, Any] = {"plugin": source[0], "plugin_digest": source[1]}
    found["optimizers"] = _optimizers(config, source)
    registered = plugin.load(*source).entries
    if config.loss is not None:
        if not registered["loss"]:
            raise ConfigError(f"--loss {config.loss} is for a --plugin that registers it")
        found["loss"] = one_of("loss", config.loss, registered["loss"])
    if given is not None:
        largest, most = float(np.abs(given.inputs).max()), float(np.finfo(config.dtype).max)
        if largest > most:
            raise ConfigError(f"--data {given.name} holds {largest:g}, which is more than {config.dtype} can hold")
        found |= {"standardized": config.standardize}
    elif config.model is None and config.loss is None:
        return found | _traits(config)
    rows = given or WORKLOADS[config.workload](0, 1)
    try:
        found |= chosen.choices(rows, config.model, found.get("loss", ""), config.standardize, source)
    except DataError as error:
        raise ConfigError(f"--model {config.model or 'linear'}: {error}") from None
    return found | {"native": found["native"] and _rows_per_step(config, given) == 1}


def _traits(config: Config) -> dict[str, bool]:
    """Return what a plan says of a built-in training; of the notebook's it is known unread."""
    found = {"native": True, "linear": True}
    if config.workload != Config.workload:
        workload = WORKLOADS[config.workload](0, 1)
        found = chosen.traits(workload.network, workload.loss)
    return found | {"native": found["native"] and _rows_per_step(config, None) == 1}


def _plugin(config: Config) -> tuple[str, str]:
    """Return the plugin and the digest of its file, after it was run."""
    if config.plugin is None:
        return "", ""
    try:
        source = str(config.plugin), user_code.digest(plugin.place(str(config.plugin)))
        plugin.load(*source)
    except user_code.UserCodeError as error:
        raise ConfigError(f"--plugin {config.plugin}: {error}") from None
    words = " or ".join(f"register.{kind}" for kind in KINDS)
    if not any(plugin.load(*source).entries.values()):
        raise ConfigError(f"--plugin {config.plugin} registers nothing: call {words} in it")
    for kind, names in BUILT_IN.items():
        if clash := [name for name in plugin.load(*source).entries[kind] if name in names]:
            raise ConfigError(f"--plugin {config.plugin}: {clash[0]!r} is the name of a built-in {kind}")
    return source


def _optimizers(config: Config, source: tuple[str, str]) -> tuple[str, ...]:
    """Return the names of the optimizers: rows of the table, registered ones, or calls of classes of `torch.optim`."""
    registered = plugin.load(*source).entries["optimizer"]
    names = separated(config.optimizers)
    for name in names:
        call = registered[name].makers.get("torch") if name in registered else name
        if isinstance(call, str) and "(" in call:
            try:
                spelled.check(call, config.learning_rate)
            except DictionaryError as error:
                raise ConfigError(f"--optimizers {name}: {error}") from None
    plain = [name for name in names if "(" not in name]
    if plain or not names:
        alone = separated(config.studies) == ["ranking"]  # it has more than the others
        some_of("optimizer", plain, dict.fromkeys((*OPTIMIZERS, *(points.OPTIMIZERS if alone else ()), *registered)))
    return tuple(dict.fromkeys(names))

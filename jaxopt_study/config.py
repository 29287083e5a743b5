"""What a user asks for, and the plan that comes of it once it is checked."""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from cyclopts import Parameter, Token

from jaxopt_study import plugin, user_code
from jaxopt_study.bench.case import PROFILES, Plan
from jaxopt_study.bench.engine import at_its_place
from jaxopt_study.bench.environment import cores_at_hand
from jaxopt_study.data import files
from jaxopt_study.data.given import DataError, Given, arrays
from jaxopt_study.data.workloads import WORKLOADS, training_rows
from jaxopt_study.dictionary import DictionaryError
from jaxopt_study.report.export import FORMATS
from jaxopt_study.studies import EVERY, MAIN_JOB, STUDIES
from jaxopt_study.studies.own import chosen, spelled
from jaxopt_study.studies.registry import NOTEBOOK, OPTIMIZERS
from jaxopt_study.studies.steps import source

FRAMEWORKS = ("jax", "torch")
DTYPES = ("float32", "float64")
DEVICES = ("cpu", "gpu")
STEPS = ("steps",)
ELSEWHERE = (
    *("studies", "optimizers", "workload", "epochs", "learning_rate", "seed"),
    *("data", "target", "model", "loss", "plugin", "batch_size", "standardize"),
)
"""Options that a user's own file decides."""
INSTALL = {"jax": "python -m pip install jax flax optax", "torch": "python -m pip install 'torch>=2.11,<2.14'"}
IMPORTS = {"jax": ("jax", "flax", "optax"), "torch": ("torch",)}

REFUSED = {
    "JAX_DISABLE_JIT": "every compiled loop would be timed uncompiled",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "every compiled loop would be timed without XLA's optimizations",
    "JAX_DEBUG_NANS": "JAX would look for NaN in every result while it is timed",
    "JAX_DEBUG_INFS": "JAX would look for infinities in every result while it is timed",
    "JAX_CHECK_TRACER_LEAKS": "JAX would trace its functions again while they are timed",
    "JAX_ENABLE_CHECKS": "JAX would make checks of its own code while it is timed",
}
"""Variables of the environment that make JAX's times meaningless. What would do so to `torch.compile` costs only the
methods that are compiled: see `torch_reference.runtime.compiled`."""
ON = ("y", "yes", "t", "true", "on", "1")
"""The values that JAX takes for true, in either case."""


def _whole(_hint: Any, tokens: Sequence[Token]) -> int:
    """Read a whole number; the library's own reading would round 1.5."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"{tokens[0].value!r} is not a whole number") from None


def _path(_hint: Any, tokens: Sequence[Token]) -> Path:
    """Read a path; from Python, the same option takes arrays too."""
    return Path(tokens[0].value)


Names = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())]
Whole = Annotated[int, Parameter(converter=_whole)]
Switch = Annotated[bool, Parameter(negative=())]


class ConfigError(ValueError):
    """What was asked for cannot be done; the message is one line that names the value and what is allowed."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Config:
    """What to run, and how. Several names are separated by spaces or commas."""

    studies: Annotated[Names, Parameter(show_default=False)] = ()
    """The studies to run, each in full. Without this option the main job runs several in short. See --list."""
    optimizers: Names = NOTEBOOK
    """The optimizers to train with: see --list; a call in torch, "AdamW(weight_decay=0.1)"; or those of --plugin."""
    frameworks: Names = FRAMEWORKS
    """The frameworks to run: jax, torch or both."""
    workload: str = "digits-linear"
    """The data and the network that are trained. See --list."""
    data: Annotated[Any, Parameter(converter=_path)] = None
    """Your data instead: a .csv or .parquet file with --target, or a .npz file with X and y. In Python also (X, y)."""
    target: str | None = None
    """The column of --data to predict: classes (text, or whole numbers of at most 100 values) or numbers."""
    model: str | None = None
    """The network: linear (the default of --data), mlp:64,32 (hidden widths, ReLU), cnn:28x28 (height x width), or one
    that --plugin registers."""
    loss: str | None = None
    """A loss that --plugin registers. Default: cross-entropy for classes, squared error for numbers."""
    plugin: str | None = None
    """Your own models, losses and optimizers: a Python file or module that registers them. See docs/plugin.md."""
    standardize: Switch = False
    """Shift and scale each column of --data to mean 0 and deviation 1; the targets of a regression too."""
    batch_size: Annotated[int | None, Parameter(converter=_whole)] = None
    """The rows of a training step. Default: 1, as in the notebook; 32 with --data."""
    profile: Literal["smoke", "default", "full"] = "default"
    """How much is measured: smoke takes seconds, default under a minute, full several minutes."""
    dtype: Literal["float32", "float64"] = "float32"
    """The floating point type of all frameworks."""
    device: Literal["cpu", "gpu"] = "cpu"
    """The device to run on."""
    threads: Annotated[int | None, Parameter(converter=_whole)] = None
    """The number of CPU cores that a framework may use. Default: 1 on a CPU; all with a GPU, to feed it and compile."""
    seed: Whole = 0
    """The seed of the initial parameters."""
    epochs: Annotated[int | None, Parameter(converter=_whole)] = None
    """Epochs of training. Default: 15; 2 with --profile smoke."""
    learning_rate: float = 1e-3
    """The learning rate of every optimizer."""
    repeats: Annotated[int | None, Parameter(converter=_whole)] = None
    """Samples per case. Default: 13; 4 with --profile smoke, 58 with --profile full."""
    experiment: Path | None = None
    """Your own training steps: a Python file with `jax_step`, `torch_step` or both. They are checked, then timed."""
    new_experiment: Path | None = None
    """Write a file for --experiment, ready to run, and exit."""
    out: Path | None = None
    """The folder to write, which must be new or empty. Default: runs/<date and time>."""
    resume: Path | None = None
    """The folder of an interrupted run, which is finished. Give the options that it was started with."""
    against: Path | None = None
    """The folder of another run. This run is compared with it, case by case; what changed around them is listed."""
    fail_on_slower: float | None = None
    """With --against: exit with status 1 where a case became slower by more than this many percent."""
    export: Literal["pyperf"] | None = None
    """Another format for the times: pyperf.json, for `pyperf stats` and `pyperf compare_to`."""
    json: Switch = False
    """Print the summary as JSON on standard output, and nothing else there."""
    list: Switch = False
    """List what can be run, and exit."""


def read_data(config: Config) -> Given | None:
    """Return the user's own data, if `config` names some.

    Raises:
        ConfigError: They cannot be read, or not trained on.
    """
    if config.data is None:
        for option in ("target", "standardize"):
            if getattr(config, option):
                raise ConfigError(f"--{option} is for --data: a built-in workload has its own")
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


def check(config: Config, given: Given | None = None) -> Plan:
    """Return the plan that `config` asks for.

    Args:
        config: What was asked for.
        given: What `read_data` returned of it; read here if not given.

    Raises:
        ConfigError: A value is not allowed.
    """
    given = read_data(config) if given is None else given
    profile = PROFILES[_known("profile", config.profile, PROFILES)]
    own = config.experiment is not None
    plan = Plan(
        studies=STEPS if own else _all_known("study", config.studies, STUDIES) if config.studies else MAIN_JOB,
        overview=not (config.studies or own),
        workload=_known("workload", config.workload, WORKLOADS) if given is None else given.name,
        batch_size=_batch_size(config, given),
        optimizers=(),
        frameworks=_given(config) if own else _all_known("framework", config.frameworks, FRAMEWORKS),
        profile=config.profile,
        dtype=_known("dtype", config.dtype, DTYPES),
        device=_known("device", config.device, DEVICES),
        threads=_count("--threads", _threads(config.device) if config.threads is None else config.threads),
        seed=_count("--seed", config.seed, least=0, most=2**63),
        epochs=_count("--epochs", profile.epochs if config.epochs is None else config.epochs),
        learning_rate=_positive("--learning-rate", config.learning_rate),
        repeats=_count("--repeats", profile.repeats if config.repeats is None else config.repeats),
        experiment=str(config.experiment or ""),
        experiment_digest="" if config.experiment is None else user_code.digest(config.experiment),
    )
    plan = replace(plan, **_of_the_user(config, given))
    if config.fail_on_slower is not None:
        _positive("--fail-on-slower", config.fail_on_slower)
        if config.against is None:
            raise ConfigError("--fail-on-slower needs the folder of another run: --against DIR")
    at_hand = len(cores_at_hand())
    if plan.threads > at_hand:
        raise ConfigError(f"--threads {plan.threads} is more than the {at_hand} cores at hand")
    if plan.learning_rate > float(np.finfo(plan.dtype).max):
        raise ConfigError(f"--learning-rate {plan.learning_rate:g} is more than {plan.dtype} can hold")
    for name in plan.studies:
        if not _has_cases(name, plan) and config.studies:
            raise ConfigError(f"nothing to run: the study {name} has no case for {', '.join(plan.frameworks)}")
    if "jax" in plan.frameworks:
        _refuse_variables()
    _installed(plan.frameworks)
    if config.export is not None and find_spec(FORMATS[_known("export", config.export, FORMATS)]) is None:
        raise ConfigError(
            f"--export {config.export} needs a package that is not installed: python -m pip install {config.export}"
        )
    return plan


def _rows_per_step(config: Config, given: Given | None) -> int:
    default = 1 if given is None else given.batch_size
    return _count("--batch-size", default if config.batch_size is None else config.batch_size)


def _batch_size(config: Config, given: Given | None) -> int:
    size = _rows_per_step(config, given)
    if size > 1 and size > (rows := given.training_rows if given else training_rows(config.workload)):
        raise ConfigError(f"--batch-size {size} is more than the {rows} rows for training")
    return size


def _of_the_user(config: Config, given: Given | None) -> dict[str, Any]:
    """Return what a plan says of optimizers, and of a user's own plugin, model, loss and data."""
    source = _plugin(config)
    found: dict[str, Any] = {"plugin": source[0], "plugin_digest": source[1]}
    found["optimizers"] = _optimizers(config, source)
    registered = plugin.load(*source).entries
    if config.loss is not None:
        if not registered["loss"]:
            raise ConfigError(f"--loss {config.loss} is for a --plugin that registers it")
        found["loss"] = _known("loss", config.loss, registered["loss"])
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
    return source


def _optimizers(config: Config, source: tuple[str, str]) -> tuple[str, ...]:
    """Return the names of the optimizers: rows of the table, registered ones, or calls of classes of `torch.optim`."""
    registered = plugin.load(*source).entries["optimizer"]
    clash = [name for name in registered if name in OPTIMIZERS]
    if clash:
        raise ConfigError(f"--plugin {config.plugin}: {clash[0]!r} is the name of a built-in optimizer")
    names = _separated(config.optimizers)
    for name in names:
        call = registered[name].makers.get("torch") if name in registered else name
        if isinstance(call, str) and "(" in call:
            try:
                spelled.check(call, config.learning_rate)
            except DictionaryError as error:
                raise ConfigError(f"--optimizers {name}: {error}") from None
    plain = [name for name in names if "(" not in name]
    if plain or not names:
        _all_known("optimizer", plain, (*OPTIMIZERS, *registered))
    return tuple(dict.fromkeys(names))


def _given(config: Config) -> tuple[str, ...]:
    """Return the frameworks of the user's file; refuse options that say nothing to it."""
    for field in fields(Config):
        if field.name in ELSEWHERE and getattr(config, field.name) != field.default:
            option = f"--{field.name.replace('_', '-')}"
            raise ConfigError(f"{option} says nothing to --experiment {config.experiment}: write it in that file")
    try:
        found = source.frameworks(Path(config.experiment or ""))
    except user_code.UserCodeError as error:
        raise ConfigError(f"--experiment {error}") from None
    asked = _all_known("framework", config.frameworks, FRAMEWORKS)
    chosen = tuple(name for name in asked if name in found)
    if not chosen:
        raise ConfigError(f"--experiment {config.experiment} has no {source.FUNCTIONS[asked[0]]}")
    return chosen


def _has_cases(study: str, plan: Plan) -> bool:
    try:
        return bool(EVERY[study].groups(plan))
    except Exception as error:
        raise ConfigError(f"the study {study} cannot say what to run: {at_its_place(error)}") from None


def _threads(device: str) -> int:
    """Return how many cores a framework has where nothing is said."""
    return 1 if device == "cpu" else len(cores_at_hand())


def _refuse_variables() -> None:
    for name, reason in REFUSED.items():
        value = os.environ.get(name, "")
        if value.lower() in ON:
            raise ConfigError(f"{name}={value} is set: {reason}; unset it")


def _installed(frameworks: Sequence[str]) -> None:
    for framework in frameworks:
        missing = [module for module in IMPORTS[framework] if find_spec(module) is None]
        if missing:
            others = [name for name in FRAMEWORKS if name != framework]
            raise ConfigError(
                f"{missing[0]} is not installed: install it by {INSTALL[framework]}, "
                f"or go without it by --frameworks {' '.join(others)}"
            )


def _all_known(kind: str, names: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """Return the names without repetition, commas taken apart."""
    parts = _separated(names)
    if not parts:
        raise ConfigError(f"no {kind} given: choose from {', '.join(known)}")
    return tuple(dict.fromkeys(_known(kind, part, known) for part in parts))


def _separated(names: Iterable[str]) -> list[str]:
    """Return the names, commas taken apart but for those in brackets."""
    names = (names,) if isinstance(names, str) else names
    return [part.strip() for name in names for part in re.split(r",(?![^(]*\))", str(name)) if part.strip()]


def _known(kind: str, name: str, known: Iterable[str]) -> str:
    if name in (choices := list(known)):
        return name
    near = difflib.get_close_matches(str(name).lower(), choices, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"unknown {kind} {name!r}: choose from {', '.join(choices)}{hint}")


def _count(option: str, value: int, least: int = 1, most: int = 10**6) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{option} {value!r} is not a whole number of at least {least}")
    if value > most:
        raise ConfigError(f"{option} {value!r} is more than {most}")
    return value


def _positive(option: str, value: float) -> float:
    if not (isinstance(value, int | float) and math.isfinite(value) and value > 0):
        raise ConfigError(f"{option} {value!r} is not a positive and finite number")
    return float(value)

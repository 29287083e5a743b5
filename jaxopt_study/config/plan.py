"""The plan that comes of a user's options, once they are checked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from jaxopt_study import user_code
from jaxopt_study.bench.case import PROFILES, Plan
from jaxopt_study.bench.engine import at_its_place
from jaxopt_study.bench.environment import cores_at_hand
from jaxopt_study.config.choices import batch_size, of_the_user, read_data
from jaxopt_study.config.options import DEVICES, DTYPES, FRAMEWORKS, Config
from jaxopt_study.config.values import ConfigError, one_of, positive, some_of, whole
from jaxopt_study.data.given import Given
from jaxopt_study.data.workloads import WORKLOADS
from jaxopt_study.report import export
from jaxopt_study.studies import EVERY, MAIN_JOB, STUDIES
from jaxopt_study.studies.steps import side, source
from jaxopt_study.terminal import counted

__all__ = ["check", "check_beside", "formats"]

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


def check(config: Config, given: Given | None = None) -> Plan:
    """Return the plan that `config` asks for.

    Args:
        config: What was asked for.
        given: What `read_data` returned of it; read here if not given.

    Raises:
        ConfigError: A value is not allowed.
    """
    given = read_data(config) if given is None else given
    profile = PROFILES[one_of("profile", config.profile, PROFILES)]
    own = config.experiment is not None
    plan = Plan(
        studies=STEPS if own else some_of("study", config.studies, STUDIES) if config.studies else MAIN_JOB,
        overview=not (config.studies or own),
        workload=one_of("workload", config.workload, WORKLOADS) if given is None else given.name,
        batch_size=batch_size(config, given),
        optimizers=(),
        frameworks=_given(config) if own else some_of("framework", config.frameworks, FRAMEWORKS),
        profile=config.profile,
        dtype=one_of("dtype", config.dtype, DTYPES),
        device=one_of("device", config.device, DEVICES),
        threads=whole("--threads", _threads(config.device) if config.threads is None else config.threads),
        seed=whole("--seed", config.seed, least=0, most=2**63),
        epochs=whole("--epochs", profile.epochs if config.epochs is None else config.epochs),
        learning_rate=positive("--learning-rate", config.learning_rate),
        repeats=whole("--repeats", profile.repeats if config.repeats is None else config.repeats),
        experiment=str(config.experiment or ""),
        experiment_digest="" if config.experiment is None else user_code.digest(config.experiment),
    )
    plan = replace(plan, **of_the_user(config, given))
    at_hand = len(cores_at_hand())
    if plan.threads > at_hand:
        raise ConfigError(f"--threads {plan.threads} is more than the {counted(at_hand, 'core')} at hand")
    if plan.learning_rate > float(np.finfo(plan.dtype).max):
        raise ConfigError(f"--learning-rate {plan.learning_rate:g} is more than {plan.dtype} can hold")
    for name in plan.studies:
        if not _has_cases(name, plan) and config.studies:
            raise ConfigError(f"nothing to run: the study {name} has no case for {', '.join(plan.frameworks)}")
    if "jax" in plan.frameworks:
        _refuse_variables()
    _installed(plan.frameworks)
    check_beside(config)
    return plan


def check_beside(config: Config) -> None:
    """Look at the options for what is made beside a report.

    Raises:
        ConfigError: A value is not allowed.
    """
    if config.fail_on_slower is not None:
        positive("--fail-on-slower", config.fail_on_slower)
        if config.against is None and len(config.report) < 2:
            raise ConfigError("--fail-on-slower needs another run: --against DIR, or a second folder to report")
    for name in formats(config):
        if command := export.missing(name):
            raise ConfigError(f"--export {name} needs a package that is not installed: {command}")


def formats(config: Config) -> tuple[str, ...]:
    """Return the formats that are asked for."""
    return some_of("format", config.export, export.FORMATS) if config.export else ()


def _given(config: Config) -> tuple[str, ...]:
    """Return the frameworks of the user's file; refuse options that say nothing to it."""
    for field in fields(Config):
        if field.name in ELSEWHERE and getattr(config, field.name) != field.default:
            option = f"--{field.name.replace('_', '-')}"
            words = f"that file says what is trained, and a run has {side.STEPS} steps"
            raise ConfigError(f"{option} says nothing to --experiment {config.experiment}: {words}")
    try:
        found = source.frameworks(Path(config.experiment or ""))
    except user_code.UserCodeError as error:
        raise ConfigError(f"--experiment {error}") from None
    asked = some_of("framework", config.frameworks, FRAMEWORKS)
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

"""The command that asks for a plan, so that a reader can run it again."""

from __future__ import annotations

import shlex
from typing import Any

from jaxopt_study.bench.case import PROFILES, Plan
from jaxopt_study.config.options import Config

NAMED = ("optimizers", "frameworks", "workload", "profile", "dtype", "device", "seed", "learning_rate")
"""Settings that are options of the same name, with a default."""


def command(plan: Plan) -> str:
    """Return the command line; where the user gave data, a placeholder stands for their file."""
    asked: dict[str, Any] = {} if plan.overview or plan.experiment else {"studies": plan.studies}
    asked |= {name: getattr(plan, name) for name in NAMED if getattr(plan, name) != getattr(Config, name)}
    usual = PROFILES.get(plan.profile)
    if usual is not None:
        asked |= {
            name: getattr(plan, name) for name in ("epochs", "repeats") if getattr(plan, name) != getattr(usual, name)
        }
    asked |= {name: getattr(plan, name) for name in ("plugin", "model", "loss") if getattr(plan, name)}
    if plan.built_in:
        asked["workload"] = plan.built_in
    elif plan.data:
        asked.pop("workload", None)
        asked |= {"data": "FILE", "target": "COLUMN"} | ({"standardize": ()} if plan.standardized else {})
    if plan.batch_size != (32 if plan.data and not plan.built_in else 1):
        asked["batch_size"] = plan.batch_size
    if plan.device == "cpu" and plan.threads != 1:
        asked["threads"] = plan.threads
    if plan.experiment:
        of_file = ("optimizers", "workload", "epochs", "learning_rate", "seed", "batch_size")
        asked = {name: value for name, value in asked.items() if name not in of_file} | {"experiment": plan.experiment}
    words = ["python", "-m", "jaxopt_study.compare"]
    for name, value in asked.items():
        words += [f"--{name.replace('_', '-')}", *(map(str, value) if isinstance(value, tuple) else [str(value)])]
    return shlex.join(words)

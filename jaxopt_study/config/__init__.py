"""What a user asks for, and the plan that comes of it once it is checked."""

from __future__ import annotations

from jaxopt_study.config import spelling
from jaxopt_study.config.choices import read_data
from jaxopt_study.config.commands import command
from jaxopt_study.config.engines import connect
from jaxopt_study.config.options import DEVICES, DTYPES, FRAMEWORKS, Config
from jaxopt_study.config.plan import check, check_beside, formats
from jaxopt_study.config.values import ConfigError

__all__ = [
    "DEVICES",
    "DTYPES",
    "FRAMEWORKS",
    "Config",
    "ConfigError",
    "check",
    "check_beside",
    "command",
    "connect",
    "formats",
    "read_data",
    "spelling",
]

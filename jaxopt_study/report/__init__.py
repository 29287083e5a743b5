"""Showing records to people: tables, charts, one page. It reads records only, so that a report can be drawn again.

from jaxopt_study.report import figure
figure("runs/2026-11-29T10-00-00", "loops_ratio", column=True).save("ratio.pdf")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxopt_study.drawing import figure

__all__ = ["figure"]


def __getattr__(name: str) -> Any:
    if name == "figure":  # it reads a run by what lies above this package
        return import_module("jaxopt_study.drawing").figure
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

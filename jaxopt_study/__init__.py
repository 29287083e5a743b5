"""Optimizers and Hessians in JAX and in PyTorch: values are compared before any time is shown.

`backends.jax` and `torch_reference` are twins: the same modules in JAX and in PyTorch.

    from jaxopt_study import Config, compare_steps, locate, minimize, register, run, translate

Importing this package loads no framework; `minimize` loads JAX, and `translate` neither.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxopt_study import register
    from jaxopt_study.compare import Config, compare_steps, run
    from jaxopt_study.dictionary import translate
    from jaxopt_study.newton import minimize
    from jaxopt_study.parity import locate

__version__ = "0.1.0"

__all__ = ["Config", "compare_steps", "locate", "minimize", "register", "run", "translate"]

PLACES = {
    "Config": "compare",
    "compare_steps": "compare",
    "locate": "parity",
    "minimize": "newton",
    "run": "compare",
    "translate": "dictionary",
}


def __getattr__(name: str) -> Any:
    if name == "register":
        return import_module(f"{__name__}.register")
    if name in PLACES:
        return getattr(import_module(f"{__name__}.{PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])

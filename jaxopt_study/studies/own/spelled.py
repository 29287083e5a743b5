"""An optimizer by its call in torch, `AdamW(weight_decay=0.1)`: in PyTorch as it stands, in JAX by the dictionary."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from jaxopt_study import dictionary
from jaxopt_study.backends import Backend
from jaxopt_study.dictionary import DictionaryError, named
from jaxopt_study.dictionary.calls import read
from jaxopt_study.dictionary.options import OPTIONS
from jaxopt_study.dictionary.translation import APPROXIMATE, Translation

__all__ = ["by_rate", "check", "default_rate", "make"]

OTHERS = {
    "LBFGS": "it computes the loss several times per step, which these studies do not do",
    "SparseAdam": "it is for sparse gradients, which these studies do not have",
}
"""Classes of `torch.optim` that cannot be trained with here, and why."""


def check(call: str, learning_rate: float) -> None:
    """Check that a call is that of an optimizer which these studies can train with.

    Raises:
        DictionaryError: torch.optim has no such class or option, or it cannot be translated.
    """
    name, options = _read(call, learning_rate)
    if name in OTHERS:
        raise DictionaryError(f"{name} cannot be used here: {OTHERS[name]}")
    dictionary.translate(name, **options)


def make(backend: Backend, framework: str, call: str, learning_rate: float) -> Any:
    """Return the optimizer for a backend; the call's own `lr` goes before the run's learning rate.

    Raises:
        NotImplementedError: In JAX, where the dictionary has no exact translation.
    """
    name, options = _read(call, learning_rate)
    if framework == "jax":
        translation = named.translate(name, options)
        _check_exact(call, translation)
        return translation.transformation()
    learning_rate = options.pop("lr")
    return backend.registered.optimizer(_of_torch(backend, name, options), learning_rate)


def by_rate(backend: Backend, framework: str, call: str) -> Callable[[Any], Any]:
    """Return the function of the learning rate that makes the optimizer for a backend; the call's own `lr` is left out.

    In JAX the learning rate may be a traced number: the dictionary takes it as a schedule.

    Raises:
        NotImplementedError: In JAX, where the dictionary has no exact translation.
    """
    name, options = _read(call, 0.0)
    del options["lr"]
    if framework == "jax":
        translation = named.translate(name, options, "schedule")
        _check_exact(call, translation)
        return lambda rate: translation.transformation(schedule=lambda _: rate)
    return partial(backend.registered.optimizer, _of_torch(backend, name, options))


def default_rate(call: str, otherwise: float | None) -> float:
    """Return the call's own `lr`; where it has none, `otherwise`, or the default of `torch.optim` if that is None."""
    table = OPTIONS[read(call).name]
    given = read(call).by_name(table)
    return float(given.get("lr", table["lr"][0] if otherwise is None else otherwise))


def _check_exact(call: str, translation: Translation) -> None:
    if translation.status == APPROXIMATE:
        raise NotImplementedError(f"optax has no exact translation of {call}: {translation.condition}")


def _of_torch(backend: Backend, name: str, options: dict[str, Any]) -> Any:
    return getattr(backend.registered, "named")(name, options)  # noqa: B009 - PyTorch's alone


def _read(call: str, learning_rate: float) -> tuple[str, dict[str, Any]]:
    """Return the class and its options."""
    found = read(call)
    if found.name not in OPTIONS:
        named.table_of(found.name)  # which says what may have been meant
        raise DictionaryError(f"{found.name} is no optimizer")
    return found.name, {"lr": learning_rate} | found.by_name(OPTIONS[found.name])

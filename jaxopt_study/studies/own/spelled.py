"""An optimizer by its call in torch, `AdamW(weight_decay=0.1)`: in PyTorch as it stands, in JAX by the dictionary."""

from __future__ import annotations

from typing import Any

from jaxopt_study import dictionary
from jaxopt_study.backends import Backend
from jaxopt_study.dictionary import DictionaryError
from jaxopt_study.dictionary.calls import read
from jaxopt_study.dictionary.named import table_of
from jaxopt_study.dictionary.options import OPTIONS
from jaxopt_study.dictionary.translation import APPROXIMATE

__all__ = ["check", "make"]

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
        translation = dictionary.translate(name, **options)
        if translation.status == APPROXIMATE:
            raise NotImplementedError(f"optax has no exact translation of {call}: {translation.condition}")
        return translation.transformation()
    learning_rate = options.pop("lr")
    named = getattr(backend.registered, "named")  # noqa: B009 - PyTorch's alone
    return backend.registered.optimizer(named(name, options), learning_rate)


def _read(call: str, learning_rate: float) -> tuple[str, dict[str, Any]]:
    """Return the class and its options."""
    found = read(call)
    if found.name not in OPTIONS:
        table_of(found.name)  # which says what may have been meant
        raise DictionaryError(f"{found.name} is no optimizer")
    return found.name, {"lr": learning_rate} | found.by_name(OPTIONS[found.name])

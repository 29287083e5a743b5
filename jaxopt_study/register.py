"""Register models, losses and optimizers of your own, each for JAX, PyTorch or both.

A file for `--plugin` calls these functions; so may a notebook before `run`:

    from jaxopt_study import register

    def jax_net():
        from my_models_flax import Net
        return Net()

    def torch_net():
        from my_models_torch import Net
        return Net()

    register.model("net", jax=jax_net, torch=torch_net)

Import a framework inside a function, and not above it: each framework has a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

__all__ = ["KINDS", "Entry", "Registry", "collecting", "loss", "model", "optimizer", "registered"]

KINDS = ("model", "loss", "optimizer")
NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Entry:
    """What is registered under a name.

    Attributes:
        makers: Framework -> the user's function; of an optimizer in PyTorch, also its call as text.
        names: Of a model, what its names do not say: `modules` and `flattened`, see `model`.
    """

    makers: Mapping[str, Any]
    names: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass
class Registry:
    """The entries by kind and name.

    Attributes:
        again: Whether a name may be registered again, as when a notebook's cell is run again.
    """

    again: bool
    entries: dict[str, dict[str, Entry]] = field(default_factory=lambda: {kind: {} for kind in KINDS})

    def add(self, kind: str, name: str, makers: Mapping[str, Any], **names: Mapping[str, Any]) -> None:
        """Add an entry.

        Raises:
            ValueError: The name is none, or is taken, or there is no function.
        """
        if not (isinstance(name, str) and name.replace("-", "_").isidentifier()):
            raise ValueError(f"{name!r} is no name for a {kind}: use letters, digits, - and _, and begin with a letter")
        if name in self.entries[kind] and not self.again:
            raise ValueError(f"the {kind} {name!r} is registered twice")
        given = {framework: maker for framework, maker in makers.items() if maker is not None}
        if not given:
            raise ValueError(f"the {kind} {name!r} needs jax=, torch= or both")
        for framework, maker in given.items():
            if not callable(maker) and not (kind == "optimizer" and framework == "torch" and isinstance(maker, str)):
                raise TypeError(f"the {kind} {name!r}: {framework}= is no function but a {type(maker).__name__}")
        self.entries[kind][name] = Entry(given, names)


_here = Registry(again=True)
_current = [_here]


def model(
    name: str,
    jax: Callable[..., Any] | None = None,
    torch: Callable[..., Any] | None = None,
    modules: Mapping[str, str] = NOTHING,
    flattened: Mapping[str, tuple[int, ...]] = NOTHING,
) -> None:
    """Register a model, to be trained by `--model NAME`.

    It gets inputs of shape (batch, features), floating point, and returns (batch, outputs): an output for each class,
    or one for a regression. A dropout must be off. It may have no state but its parameters.

    Args:
        name: Its name.
        jax: jax() returns a flax linen module; it is called as module.apply({"params": params}, inputs).
        torch: torch() returns a `torch.nn.Module`.
        modules: flax's path of a module, and PyTorch's, where they differ: {"Dense_0": "fc1"}.
        flattened: Of a linear layer after a flattened image, by PyTorch's name, the image's (channels, height, width):
            PyTorch flattens channels first, flax channels last.
    """
    if not (isinstance(modules, Mapping) and all(isinstance(word, str) for pair in modules.items() for word in pair)):
        raise TypeError(f"the model {name!r}: modules={modules!r} is no dict of flax's paths and PyTorch's")
    if not (isinstance(flattened, Mapping) and all(_is_image(shape) for shape in flattened.values())):
        raise TypeError(
            f"the model {name!r}: flattened={flattened!r} is no dict of names and (channels, height, width)"
        )
    _current[-1].add("model", name, {"jax": jax, "torch": torch}, modules=modules, flattened=flattened)


def _is_image(shape: Any) -> bool:
    return isinstance(shape, tuple | list) and all(isinstance(side, int) and side > 0 for side in shape)


def loss(name: str, jax: Callable[..., Any] | None = None, torch: Callable[..., Any] | None = None) -> None:
    """Register a loss, to be minimized by `--loss NAME`.

    Args:
        name: Its name.
        jax: jax(outputs, targets) returns the mean loss of a batch, a scalar. Outputs are (batch, outputs), and
            targets (batch,): the numbers of classes, or numbers of a regression.
        torch: The same in PyTorch.
    """
    _current[-1].add("loss", name, {"jax": jax, "torch": torch})


def optimizer(name: str, jax: Callable[..., Any] | None = None, torch: Callable[..., Any] | str | None = None) -> None:
    """Register an optimizer, to be used by `--optimizers NAME`.

    Args:
        name: Its name.
        jax: jax(learning_rate) returns an `optax.GradientTransformation`, as `optax.lion` does.
        torch: torch(params, lr=learning_rate) returns a `torch.optim.Optimizer`, as its classes do; or a call as text,
            "AdamW(weight_decay=0.1)". Without `jax`, the dictionary translates such a call.
    """
    _current[-1].add("optimizer", name, {"jax": jax, "torch": torch})


def registered() -> Registry:
    """Return what was registered in this process, outside a plugin."""
    return _here


@contextmanager
def collecting() -> Iterator[Registry]:
    """Collect what is registered in the block, and nothing else; a name may be registered once."""
    _current.append(Registry(again=False))
    try:
        yield _current[-1]
    finally:
        _current.pop()

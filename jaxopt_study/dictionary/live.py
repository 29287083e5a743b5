"""From a live torch.optim object to optax: its groups, its options, and what cannot be carried over.

torch is not imported: the object's own attributes say everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxopt_study.dictionary.build import build, map_with_path
from jaxopt_study.dictionary.options import IMPLEMENTATION, OPTIONS, DictionaryError
from jaxopt_study.dictionary.rules import translate
from jaxopt_study.dictionary.translation import STATUSES, Translation, show

# What a group holds beside options.
GROUP_KEYS = ("params", "param_names", "initial_lr", "swa_lr", "max_lr", "min_lr", "max_momentum", "base_momentum")
LEAF_NAMES = {"kernel": "weight", "embedding": "weight", "scale": "weight"}
"""flax's names of leaves, and PyTorch's."""


@dataclass(frozen=True)
class LiveTranslation:
    """A live torch.optim object in optax.

    Attributes:
        groups: The translation of each parameter group.
        names: The names of each group's parameters, where the object was made from named parameters.
        notes: What is not carried over, and why.
        schedule: What the name `schedule` means in the expression.
        labels: Which leaf is in which group, as `optax.partition` takes it: a tree of the parameters' structure, or a
            function from parameters to one, with the labels "0", "1", ...; needed for several groups without names.
    """

    groups: tuple[Translation, ...]
    names: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    schedule: Callable[[Any], Any] | None = field(default=None, repr=False)
    labels: Any = field(default=None, repr=False)

    def __str__(self) -> str:
        return show(self.expression, self.groups, self.notes)

    @property
    def expression(self) -> str:
        """The code; for several groups, `labels` in it says which leaf is in which."""
        if len(self.groups) == 1:
            return self.groups[0].expression
        parts = [f'    "{number}": {_indent(group.expression)},\n' for number, group in enumerate(self.groups)]
        return "optax.partition(\n    {\n" + "".join(f"    {part}" for part in parts) + "    },\n    labels,\n)"

    @property
    def status(self) -> str:
        """The least exact class of the groups."""
        return max((group.status for group in self.groups), key=STATUSES.index)

    @property
    def reason(self) -> str:
        """Why the optax function of the same name differs."""
        return self.groups[0].reason

    def transformation(self) -> Any:
        """Return the `optax.GradientTransformation`.

        Raises:
            DictionaryError: There are several groups, and nothing says which leaf is in which.
        """
        return build(self.expression, self.schedule, self._labels())

    def _labels(self) -> Any:
        if len(self.groups) == 1 or self.labels is not None:
            return self.labels
        if not any(self.names):
            raise DictionaryError(
                f"{len(self.groups)} groups: say which leaf is in which by labels=, a tree or a function as for "
                'optax.partition with the labels "0", "1", ..., or make the torch optimizer from named_parameters()'
            )
        return _by_name({name: str(number) for number, names in enumerate(self.names) for name in names})


def translate_live(optimizer: Any, schedule: Callable[[Any], Any] | None = None, labels: Any = None) -> LiveTranslation:
    """Return what a live torch.optim object is in optax.

    Args:
        optimizer: The object; only its attributes are read.
        schedule: The learning rate after so many steps, instead of the one the object has now; for one group.
        labels: See `LiveTranslation`.

    Raises:
        DictionaryError: It is no torch.optim optimizer, or one that is not in the dictionary.
    """
    name = type(optimizer).__name__
    groups = getattr(optimizer, "param_groups", None)
    if not isinstance(groups, list) or not groups:
        raise DictionaryError(f"{name} is no torch.optim optimizer: it has no parameter groups")
    if name not in OPTIONS:
        parents = [kind.__name__ for kind in type(optimizer).__mro__[1:] if kind.__name__ in OPTIONS]
        hint = f"; it derives from {parents[0]}, but may change its rule" if parents else ""
        raise DictionaryError(f"{name} is not in the dictionary: choose from {', '.join(OPTIONS)}{hint}")
    if schedule is not None and len(groups) > 1:
        raise DictionaryError(f"one schedule for {len(groups)} groups: translate them one by one")
    code = "schedule" if schedule is not None else ""
    made = tuple(translate(name, _options(name, group), code) for group in groups)
    names = tuple(tuple(group.get("param_names", ())) for group in groups)
    return LiveTranslation(made, names, tuple(_notes(optimizer, groups, schedule)), schedule, labels)


def _options(name: str, group: Mapping[str, Any]) -> dict[str, Any]:
    options = {key: _plain(value) for key, value in group.items() if key not in (*GROUP_KEYS, *IMPLEMENTATION)}
    if name == "AdamW":
        options.pop("decoupled_weight_decay", None)  # AdamW is Adam with this set
    if name == "LBFGS" and options.get("max_eval") == options["max_iter"] * 5 // 4:
        options["max_eval"] = None
    return options


def _plain(value: Any) -> Any:
    """Return numbers for tensors of one element, tuples for lists."""
    if isinstance(value, tuple | list):
        return tuple(_plain(item) for item in value)
    return value.item() if hasattr(value, "item") else value


def _notes(optimizer: Any, groups: list[Mapping[str, Any]], schedule: Any) -> list[str]:
    """Say what is not carried over."""
    notes = []
    if getattr(optimizer, "state", None):
        notes.append("its state (moments, steps made) is not carried over: the transformation begins at step 0")
    if schedule is None and any("initial_lr" in group for group in groups):
        notes.append(
            "a learning rate scheduler is at work: the learning rate is the one of this moment; give schedule=, a "
            "function of the number of steps made"
        )
    hooks = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
    if any(getattr(optimizer, hook, None) for hook in hooks):
        notes.append("its step hooks are functions of torch and are not carried over")
    chosen = sorted({key for group in groups for key in IMPLEMENTATION if group.get(key)})
    if chosen:
        notes.append(f"{', '.join(chosen)}: torch's choice of code; the mathematics is the same, rounding is not")
    return notes


def _by_name(groups: Mapping[str, str]) -> Callable[[Any], Any]:
    """Return the function that labels the leaves of a tree by PyTorch's names of them."""

    def label(path: Any, _leaf: Any) -> str:
        words = [str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in path]
        name = ".".join([*words[:-1], LEAF_NAMES.get(words[-1], words[-1])])
        for candidate in (".".join(words), name):
            if candidate in groups:
                return groups[candidate]
        raise DictionaryError(f"no group has a parameter {name}: they have {', '.join(groups)}")

    def labels(params: Any) -> Any:
        return map_with_path(label, params)

    return labels


def _indent(expression: str) -> str:
    return expression.replace("\n", "\n        ")

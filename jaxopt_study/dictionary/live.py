"""From a live torch.optim object to optax: its groups, its options, and what cannot be carried over.

torch is not imported: the attributes of the object, and of the model whose parameters it has, say everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxopt_study.dictionary.allowed import DictionaryError
from jaxopt_study.dictionary.around import Around, around
from jaxopt_study.dictionary.build import build
from jaxopt_study.dictionary.leaves import FROZEN, NONE, Groups, Modules, labels_by_name, names_of, trainable
from jaxopt_study.dictionary.limits import limits_of, notes_of
from jaxopt_study.dictionary.options import IMPLEMENTATION, OPTIONS, complete
from jaxopt_study.dictionary.rules import from_complete
from jaxopt_study.dictionary.schedules import translate_schedule
from jaxopt_study.dictionary.translation import STATUSES, Translation, indented, show

# What a group holds beside options.
GROUP_KEYS = ("params", "param_names", "initial_lr", "swa_lr", "max_lr", "min_lr", "max_momentum", "base_momentum")


@dataclass(frozen=True)
class LiveTranslation:
    """A live torch.optim object in optax.

    Attributes:
        groups: The translation of each parameter group.
        names: For each label of a group ("0", "1", ...) and of frozen parameters the names of the parameters that
            have it, as far as they are known.
        limits: (status, words) of what holds of the object as a whole, beside the statuses of its groups.
        notes: What is not carried over, and why.
        schedules: What the names of schedules mean in the expression: a function, or code for one.
        labels: Which leaf is in which group, as `optax.partition` takes it: a tree of the parameters' structure, or a
            function from parameters to one, with the labels "0", "1", ... of the groups and "frozen" of what stays as
            it is; needed for several groups without names.
        modules: flax's path of a module, and PyTorch's, where they differ.
        around: What stands around the optimizer: clipping, accumulation.
    """

    groups: tuple[Translation, ...]
    names: Mapping[str, tuple[str, ...]]
    limits: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    schedules: Mapping[str, Callable[[Any], Any] | str] = field(default_factory=dict, repr=False)
    labels: Any = field(default=None, repr=False)
    modules: Modules = field(default_factory=dict)
    around: Around = field(default_factory=Around)

    def __str__(self) -> str:
        notes = [f"the whole is {self.status}: {words}" for _, words in self.limits]
        notes += [f"not carried over: {note}" for note in self.notes]
        values = {name: value for name, value in self.schedules.items() if isinstance(value, str)}
        if self._partitioned:
            values["labels"] = self._labels_code()
        return show(self.expression, self.groups, notes, values)

    @property
    def _partitioned(self) -> bool:
        return len(self.groups) > 1 or bool(self.names.get(FROZEN)) or self.labels is not None

    @property
    def expression(self) -> str:
        """The code; for several groups, `labels` in it says which leaf is in which."""
        parts = {str(number): group.expression for number, group in enumerate(self.groups)}
        if self.names.get(FROZEN) or self.labels is not None:
            parts[FROZEN] = "optax.set_to_zero()"
        lines = "".join(f'        "{label}": {indented(code, 8)},\n' for label, code in parts.items())
        optimizer = f"optax.partition(\n    {{\n{lines}    }},\n    labels,\n)" if self._partitioned else parts["0"]
        return self.around.code(optimizer, FROZEN in parts)

    @property
    def status(self) -> str:
        """The least exact of the groups' statuses and of what holds of the whole."""
        statuses = [group.status for group in self.groups] + [status for status, _ in self.limits]
        return max(statuses, key=STATUSES.index)

    @property
    def reason(self) -> str:
        """Why the optax function of the same name differs."""
        return self.groups[0].reason

    @property
    def condition(self) -> str:
        """Under what conditions it is exact, or why it is not."""
        return "; ".join(filter(None, [*(group.condition for group in self.groups), *(w for _, w in self.limits)]))

    def transformation(self) -> Any:
        """Return the `optax.GradientTransformation`.

        Raises:
            DictionaryError: There are several groups, and nothing says which leaf is in which.
        """
        schedules = {n: build(value) if isinstance(value, str) else value for n, value in self.schedules.items()}
        return build(self.expression, labels=self._labels(), trainable=trainable, **schedules)

    def _labels(self) -> Any:
        if not self._partitioned or self.labels is not None:
            return self.labels
        if not any(self.names.values()):
            raise DictionaryError(
                f"{len(self.groups)} groups: say which leaf is in which by model=, by labels=, a tree or a function as "
                'for optax.partition with the labels "0", "1", ..., or make the torch optimizer from named_parameters()'
            )
        return labels_by_name(self.names, self.modules)

    def _labels_code(self) -> str:
        if self.labels is not None or not any(self.names.values()):
            return f"None  # put here which leaf has which label, of {', '.join(self.names)}: see optax.partition"
        lines = "".join(f'    "{label}": {list(names)!r},\n' for label, names in self.names.items() if names)
        modules = f", modules={dict(self.modules)!r}" if self.modules else ""
        return f"labels_by_name({{\n{lines}}}{modules})"


def translate_live(
    optimizer: Any,
    schedule: Callable[[Any], Any] | Sequence[Callable[[Any], Any]] | None = None,
    labels: Any = None,
    model: Any = None,
    scheduler: Any = None,
    modules: Modules | None = None,
    every: int = 1,
    clip: Any = None,
    accumulate: int = 1,
    loss_divided: bool = False,
) -> LiveTranslation:
    """Return what a live torch.optim object is in optax.

    Args:
        optimizer: The object; only its attributes are read.
        schedule: The learning rate after so many steps, instead of the one the object has now; of several groups a
            list of functions, one per group.
        labels: See `LiveTranslation`.
        model: The `torch.nn.Module` whose parameters it has: it names them, ties included, and says which ones torch
            leaves as they are, since they need no gradient or were not given to the optimizer.
        modules: flax's path of a module, and PyTorch's, where they differ: {"Dense_0": "0"}.
        scheduler: Its scheduler, of `torch.optim.lr_scheduler`, instead of `schedule`; `scheduler.step()` must follow
            each `optimizer.step()`. The functions of the steps made begin at its step 0. ReduceLROnPlateau leaves no
            trace in the optimizer: a rate that it moves is taken for a constant.
        every: After how many optimizer steps `scheduler.step()` follows: the steps of an epoch, if once per epoch.
        clip: The clipping between `backward()` and `step()`, as torch's call of it, "clip_grad_norm_(params, 1.0)", or
            as its translation; several in a list. It takes all groups together.
        accumulate: After how many `backward()` one `optimizer.step()` follows; torch adds their gradients up. The
            schedule counts optimizer steps.
        loss_divided: Whether torch divides the loss by `accumulate`, and JAX does not.

    Raises:
        DictionaryError: It is no torch.optim optimizer, one that is not in the dictionary, or one of complex
            parameters; or the scheduler is of another optimizer, or cannot be translated.
    """
    if isinstance(optimizer, type):
        raise DictionaryError(f"{optimizer.__name__} is a class: give its name, or an optimizer that was made of it")
    kind, groups = type(optimizer), getattr(optimizer, "param_groups", None)
    if not isinstance(groups, list) or not groups:
        raise DictionaryError(f"{kind.__name__} is no torch.optim optimizer: it has no parameter groups")
    _check_class(kind)
    if any(getattr(p, "is_complex", bool)() for group in groups for p in group["params"]):
        raise DictionaryError(
            "complex parameters: torch takes them as pairs of real numbers, optax does not; translate the optimizer "
            "of torch.view_as_real of them"
        )
    name, schedules = kind.__name__, _schedules(optimizer, groups, schedule, scheduler, every)
    beside = around(optimizer, groups, clip, accumulate, loss_divided)
    names_of_schedules = list(schedules) or [""] * len(groups)
    made = tuple(
        from_complete(_name(name, group), complete(_name(name, group), _options(optimizer, name, group)), code)
        for group, code in zip(groups, names_of_schedules, strict=True)
    )
    names = names_of(groups, model)
    limits = limits_of(optimizer, groups, bool(names.get(FROZEN)) or labels is not None, schedules, scheduler, every)
    limits += tuple(beside.limits(groups, model))
    notes = notes_of(optimizer, groups, names.get(FROZEN, ()), scheduler)
    return LiveTranslation(made, names, limits, notes, schedules, labels, modules or NONE, beside)


def _schedules(
    optimizer: Any, groups: Groups, schedule: Any, scheduler: Any, every: int
) -> dict[str, Callable[[Any], Any] | str]:
    """Return what the name of each group's schedule means, if there are schedules."""
    names = ["schedule"] if len(groups) == 1 else [f"schedule{number}" for number in range(len(groups))]
    if scheduler is not None:
        if schedule is not None:
            raise DictionaryError("schedule= cannot be given with scheduler=: the scheduler is translated to one")
        if getattr(scheduler, "optimizer", None) is not optimizer:
            raise DictionaryError("scheduler is not the optimizer's: give the one that was made for it")
        return {name: translate_schedule(scheduler, number, every) for number, name in enumerate(names)}
    if every != 1:
        raise DictionaryError("every= says how often a scheduler steps: give scheduler= too")
    if schedule is None:
        return {}
    functions = list(schedule) if isinstance(schedule, list | tuple) else [schedule]
    if len(functions) != len(groups):
        raise DictionaryError(f"schedule= has {len(functions)} of {len(groups)} functions: give a list, one per group")
    if not all(map(callable, functions)):
        raise DictionaryError("schedule= is no function: give one from the number of steps made to the learning rate")
    return dict(zip(names, functions, strict=True))


def _check_class(kind: type) -> None:
    """Refuse what is not torch's own class: another package's Adam may have another rule."""
    if kind.__name__ in OPTIONS and _is_torchs(kind):
        return
    parents = [k.__name__ for k in kind.__mro__[1:] if k.__name__ in OPTIONS and _is_torchs(k)]
    hint = f"; it derives from {parents[0]}, but may change its rule" if parents else ""
    if kind.__name__ in OPTIONS:
        raise DictionaryError(f"{kind.__name__} is of {kind.__module__}, not torch.optim's: its rule may differ{hint}")
    raise DictionaryError(f"{kind.__name__} is not in the dictionary: choose from {', '.join(OPTIONS)}{hint}")


def _is_torchs(kind: type) -> bool:
    return f"{kind.__module__}.".startswith("torch.optim.")


def _name(name: str, group: Mapping[str, Any]) -> str:
    """Return the class whose rule a group follows: AdamW is Adam with an option set, which a group may unset."""
    return "Adam" if name == "AdamW" and not group.get("decoupled_weight_decay", True) else name


def _options(optimizer: Any, name: str, group: Mapping[str, Any]) -> dict[str, Any]:
    options = {key: value for key, value in group.items() if key not in (*GROUP_KEYS, *IMPLEMENTATION)}
    if _name(name, group) == "AdamW":
        options.pop("decoupled_weight_decay", None)
    if name == "Adagrad":  # torch begins every group with the value of its constructor
        start = "initial_accumulator_value"
        options[start] = optimizer.defaults.get(start, options[start])
    if name == "LBFGS" and options.get("max_eval") == options["max_iter"] * 5 // 4:
        options["max_eval"] = None
    return options

"""From a live torch.optim object to optax: its groups, its options, and what cannot be carried over.

torch is not imported: the attributes of the object, and of the model whose parameters it has, say everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxopt_study.dictionary.build import build
from jaxopt_study.dictionary.leaves import FROZEN, Groups, labels_by_name, names_of
from jaxopt_study.dictionary.options import IMPLEMENTATION, OPTIONS, DictionaryError, complete
from jaxopt_study.dictionary.rules import from_complete
from jaxopt_study.dictionary.schedules import translate_schedule
from jaxopt_study.dictionary.translation import APPROXIMATE, CONDITIONS, STATUSES, Translation, show

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
            function from parameters to one, with the labels "0", "1", ...; needed for several groups without names.
    """

    groups: tuple[Translation, ...]
    names: Mapping[str, tuple[str, ...]]
    limits: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    schedules: Mapping[str, Callable[[Any], Any] | str] = field(default_factory=dict, repr=False)
    labels: Any = field(default=None, repr=False)

    def __str__(self) -> str:
        notes = [f"{status}: {words}" for status, words in self.limits]
        notes += [f"not carried over: {note}" for note in self.notes]
        values = {name: value for name, value in self.schedules.items() if isinstance(value, str)}
        if self._partitioned:
            values["labels"] = self._labels_code()
        return show(self.expression, self.groups, notes, values)

    @property
    def _partitioned(self) -> bool:
        return len(self.groups) > 1 or bool(self.names.get(FROZEN))

    @property
    def expression(self) -> str:
        """The code; for several groups, `labels` in it says which leaf is in which."""
        parts = {str(number): group.expression for number, group in enumerate(self.groups)}
        if self.names.get(FROZEN):
            parts[FROZEN] = "optax.set_to_zero()"
        if not self._partitioned:
            return parts["0"]
        lines = "".join(f'        "{label}": {_indent(code)},\n' for label, code in parts.items())
        return f"optax.partition(\n    {{\n{lines}    }},\n    labels,\n)"

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
        return build(self.expression, labels=self._labels(), **schedules)

    def _labels(self) -> Any:
        if not self._partitioned or self.labels is not None:
            return self.labels
        if not any(self.names.values()):
            raise DictionaryError(
                f"{len(self.groups)} groups: say which leaf is in which by model=, by labels=, a tree or a function as "
                'for optax.partition with the labels "0", "1", ..., or make the torch optimizer from named_parameters()'
            )
        return labels_by_name(self.names)

    def _labels_code(self) -> str:
        if self.labels is not None or not any(self.names.values()):
            return f"None  # put here which leaf has which label, of {', '.join(self.names)}: see optax.partition"
        lines = "".join(f'    "{label}": {list(names)!r},\n' for label, names in self.names.items() if names)
        return f"labels_by_name({{\n{lines}}})"


def translate_live(
    optimizer: Any,
    schedule: Callable[[Any], Any] | None = None,
    labels: Any = None,
    model: Any = None,
    scheduler: Any = None,
) -> LiveTranslation:
    """Return what a live torch.optim object is in optax.

    Args:
        optimizer: The object; only its attributes are read.
        schedule: The learning rate after so many steps, instead of the one the object has now; for one group.
        labels: See `LiveTranslation`.
        model: The `torch.nn.Module` whose parameters it has: it names them, ties included, and says which ones torch
            leaves as they are, since they need no gradient or were not given to the optimizer.
        scheduler: Its scheduler, of `torch.optim.lr_scheduler`, instead of `schedule`; `scheduler.step()` must follow
            each `optimizer.step()`. The functions of the steps made begin at its step 0.

    Raises:
        DictionaryError: It is no torch.optim optimizer, one that is not in the dictionary, or one of complex
            parameters; or the scheduler is of another optimizer, or cannot be translated.
    """
    kind, groups = type(optimizer), getattr(optimizer, "param_groups", None)
    if not isinstance(groups, list) or not groups:
        raise DictionaryError(f"{kind.__name__} is no torch.optim optimizer: it has no parameter groups")
    _check_class(kind)
    if any(getattr(p, "is_complex", bool)() for group in groups for p in group["params"]):
        raise DictionaryError(
            "complex parameters: torch takes them as pairs of real numbers, optax does not; translate the optimizer "
            "of torch.view_as_real of them"
        )
    name, schedules = kind.__name__, _schedules(optimizer, groups, schedule, scheduler)
    names_of_schedules = list(schedules) or [""] * len(groups)
    made = tuple(
        from_complete(name, complete(name, _options(name, group)), code)
        for group, code in zip(groups, names_of_schedules, strict=True)
    )
    names = names_of(groups, model)
    limits = _limits(optimizer, groups, scheduled=bool(schedules), known=bool(names.get(FROZEN)))
    notes = _notes(optimizer, groups)
    if getattr(scheduler, "last_epoch", 0) > 0:
        notes.append(f"the scheduler's place, step {scheduler.last_epoch}: the schedule begins at step 0")
    return LiveTranslation(made, names, tuple(limits), tuple(notes), schedules, labels)


def _schedules(
    optimizer: Any, groups: Groups, schedule: Callable[[Any], Any] | None, scheduler: Any
) -> dict[str, Callable[[Any], Any] | str]:
    """Return what the name of each group's schedule means, if there are schedules."""
    if scheduler is None:
        if schedule is not None and len(groups) > 1:
            raise DictionaryError(
                f"one schedule for {len(groups)} groups: give scheduler=, or translate them one by one"
            )
        return {} if schedule is None else {"schedule": schedule}
    if schedule is not None:
        raise DictionaryError("schedule= cannot be given with scheduler=: it is what the scheduler is translated to")
    if getattr(scheduler, "optimizer", None) is not optimizer:
        raise DictionaryError("scheduler is not the optimizer's: give the one that was made for it")
    many = len(groups) > 1
    return {f"schedule{g if many else ''}": translate_schedule(scheduler, g) for g in range(len(groups))}


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


def _options(name: str, group: Mapping[str, Any]) -> dict[str, Any]:
    options = {key: value for key, value in group.items() if key not in (*GROUP_KEYS, *IMPLEMENTATION)}
    if name == "AdamW":
        options.pop("decoupled_weight_decay", None)  # AdamW is Adam with this set
    if name == "LBFGS" and options.get("max_eval") == options["max_iter"] * 5 // 4:
        options["max_eval"] = None
    return options


def _limits(optimizer: Any, groups: Groups, scheduled: bool, known: bool) -> list[tuple[str, str]]:
    """Return (status, words) of what makes the whole less than exact."""
    found = []
    leaves = [p for group in groups for p in group["params"]]
    if any(key in group for group in groups for key in ("max_momentum", "base_momentum")):
        found.append((APPROXIMATE, "its scheduler moves momentum or betas too: here they stay those of this moment"))
    if not scheduled and any("initial_lr" in group for group in groups):
        words = "while the learning rate stays that of this moment: a scheduler is at work; give scheduler="
        found.append((CONDITIONS, words))
    frozen = sum(not getattr(p, "requires_grad", True) for p in leaves)
    if frozen and not known:
        words = f"if the {frozen} parameters with requires_grad=False are not given to it"
        found.append((CONDITIONS, f"{words}: torch leaves them as they are; give model=, and they are named"))
    if _misses_gradients(optimizer, [p for p in leaves if getattr(p, "requires_grad", True)]):
        words = "if each parameter has a gradient in each step: here some had none, and torch leaves those as they are"
        found.append((CONDITIONS, words))
    if any("float16" in str(getattr(p, "dtype", "")) for p in leaves):
        words = "to within rounding, which in 16 bits is up to 1 part in 256 of a parameter per step"
        found.append((CONDITIONS, words))
    return found


def _misses_gradients(optimizer: Any, leaves: Sequence[Any]) -> bool:
    """Say whether some parameters have a gradient, or a state, and others have none, or made fewer steps."""
    state = getattr(optimizer, "state", {})
    one_for_all = any("n_iter" in s for s in state.values())  # L-BFGS has it in the first parameter's place
    steps = set() if one_for_all else {_steps(state.get(p, {})) for p in leaves}
    return len({getattr(p, "grad", None) is None for p in leaves}) > 1 or len(steps) > 1


def _steps(state: Mapping[str, Any]) -> float:
    """Return the steps that a parameter made; where its state does not say so, 1 if it has one."""
    return float(state.get("step", bool(state)))


def _notes(optimizer: Any, groups: Groups) -> list[str]:
    """Say what is not carried over."""
    notes = []
    if any(_steps(state) for state in getattr(optimizer, "state", {}).values()):
        notes.append("its state (moments, steps made) is not carried over: the transformation begins at step 0")
    hooks = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
    if any(getattr(optimizer, hook, None) for hook in hooks):
        notes.append("its step hooks are functions of torch and are not carried over")
    chosen = sorted({key for group in groups for key in IMPLEMENTATION if group.get(key)})
    if chosen:
        notes.append(f"{', '.join(chosen)}: torch's choice of code; the mathematics is the same, rounding is not")
    return notes


def _indent(expression: str) -> str:
    return expression.replace("\n", "\n        ")

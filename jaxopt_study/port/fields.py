"""What each torch.optim class keeps of a parameter, and under which names optax keeps it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import optax
from optax.transforms import PartitionState

from jaxopt_study.dictionary import DictionaryError
from jaxopt_study.dictionary.leaves import FROZEN
from jaxopt_study.port.arrays import to_numpy
from jaxopt_study.port.layouts import DENSE, FLATTENED, SAME
from jaxopt_study.port.members import Member

MOMENTS = {"mu": "exp_avg", "nu": "exp_avg_sq"}

FIELDS: Mapping[str, Mapping[str, str]] = {
    "ASGD": {},
    "Adadelta": {"e_g": "square_avg", "e_x": "acc_delta"},
    "Adafactor": {"rows": "row_var", "columns": "col_var"},
    "Adagrad": {"nu": "sum"},
    "Adam": {**MOMENTS, "nu_max": "max_exp_avg_sq"},
    "AdamW": {**MOMENTS, "nu_max": "max_exp_avg_sq"},
    "Adamax": {"mu": "exp_avg", "nu": "exp_inf"},
    "LBFGS": dict.fromkeys(("gradient", "step", "gradients", "steps", "pairs", "scale"), ""),
    "Muon": {"buffer": "momentum_buffer"},
    "NAdam": {**MOMENTS, "product": "mu_product"},
    "RAdam": MOMENTS,
    "RMSprop": {"mu": "grad_avg", "nu": "square_avg", "trace": "momentum_buffer"},
    "Rprop": {"before": "prev", "sizes": "step_size"},
    "SGD": {"trace": "momentum_buffer"},
    "SparseAdam": MOMENTS,
}
"""For each class the fields of optax's states, and torch's keys of them; LBFGS keeps them for all parameters at once.

All but `SCALARS` and LBFGS's are trees of the parameters."""
SCALARS = ("product",)
"""Fields that are one number for a group, where torch keeps one for each parameter."""
ON = {"nu_max": "amsgrad", "trace": "momentum", "RMSprop mu": "centered"}
"""Fields that are there only if this option is set."""
COUNTS = ("count", "gradient_step")
"""Fields that count the steps made."""
PART = "mini_step"
"""How many gradients `optax.MultiSteps` has added up for the next step."""
KEPT = ("hyperparams", "acc_grads", "skip_state")
"""Fields that the next step computes, and what `optax.MultiSteps` has between two steps."""
INNER = ("inner_state", "inner_states", "inner_opt_state", "hyperparams_states")
"""Fields that hold further states."""
KEEPING: Mapping[str, tuple[str, ...]] = {"Adafactor": (SAME, DENSE, FLATTENED), "Muon": (SAME,)}
"""Classes whose rule depends on the layout, and the layouts in which it stays the same."""

Visit = Callable[[str, str, Any], Any]
"""visit(label, field, value): what becomes of a field of a state; `label` is that of its group."""
Fields = dict[str, dict[str, Any]]
"""Of each group, by its label, the fields of its state: a number, or arrays by `keystr` of their paths."""


def map_state(visit: Visit, state: Any, label: str = "0") -> Any:
    """Return an optax state with each of its fields changed, of all the states that it is made of.

    Args:
        visit: Called for each field but those that hold further states.
        state: The state of a transformation.
        label: The label of the group that it belongs to.

    Raises:
        DictionaryError: It is no state of optax.
    """
    if isinstance(state, PartitionState):
        inner = {name: map_state(visit, one, name) for name, one in state.inner_states.items()}
        return state._replace(inner_states=inner)
    if not isinstance(state, tuple):
        words = "is no state of optax: give what transformation.init(params) returned, or a state that update made"
        raise DictionaryError(f"a {type(state).__name__} {words}")
    if isinstance(state, optax.GradientTransformation):
        raise DictionaryError("the transformation is no state: give transformation.init(params)")
    names = getattr(state, "_fields", None)
    if names is None:
        return tuple(map_state(visit, one, label) for one in state)

    def field(name: str, value: Any) -> Any:
        if name in INNER and isinstance(value, dict):
            return {key: map_state(visit, one, label) for key, one in value.items()}
        if name in INNER:
            return map_state(visit, value, label)
        return value if name in KEPT else visit(label, name, value)

    return type(state)(*map(field, names, state))


def read(state: Any, kind: str, groups: Sequence[Mapping[str, Any]], params: Any) -> Fields:
    """Return the fields of an optax state.

    Args:
        state: The state.
        kind: The torch class that it is of.
        groups: `param_groups` of the torch optimizer.
        params: The tree of parameters that the state was made for.

    Raises:
        DictionaryError: It is not the state of this optimizer's translation, or was made for another tree.
    """
    keys = {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)}
    found: Fields = {label: {} for label in (*map(str, range(len(groups))), FROZEN)}

    def visit(label: str, field: str, value: Any) -> Any:
        if label not in found:
            raise DictionaryError(f"the state has a group {label!r}: it must be a translation's, of {', '.join(found)}")
        new = to_numpy(value) if hasattr(value, "dtype") else _by_path(value, field, keys)
        old = found[label].setdefault(field, new)
        if old is not new and (field != "count" or old != new):
            raise DictionaryError(f"the optax state has {field} twice for group {label}: give the translation's alone")
        return value

    map_state(visit, state)
    for number, group in enumerate(groups):
        has = found[str(number)].keys() - {*COUNTS, PART}
        expected = {field for field in FIELDS[kind] if _is_on(kind, field, group)}
        if has != expected:
            more, less = ", ".join(sorted(has - expected)), ", ".join(sorted(expected - has))
            words = " and ".join(filter(None, (more and f"has {more}", less and f"lacks {less}")))
            raise DictionaryError(
                f"the optax state of group {number} is not of torch's {kind} with these options: it {words}"
            )
    return found


def _is_on(kind: str, field: str, group: Mapping[str, Any]) -> bool:
    option = ON.get(f"{kind} {field}", ON.get(field))
    return option is None or bool(group.get(option))


def _by_path(tree: Any, field: str, keys: set[str]) -> dict[str, Any]:
    found = {jax.tree_util.keystr(path): to_numpy(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    other = sorted(found.keys() - keys)
    if other:
        raise DictionaryError(f"{field} has a leaf {other[0]}, and params has none there: it is of another tree")
    return found


def key_of(kind: str, field: str, member: Member) -> str:
    """Return torch's key of a field for a parameter."""
    if kind == "Adafactor" and len(member.layout.torch_shape) < 2:
        return "variance"
    if kind == "Adafactor" and member.layout.kind != SAME:  # the rows of a transpose are columns
        return {"rows": "col_var", "columns": "row_var"}[field]
    return FIELDS[kind][field]


def check_layouts(kind: str, members: Mapping[str, Member]) -> None:
    """Refuse parameters whose layout changes the rule itself.

    Raises:
        DictionaryError: There is such a one.
    """
    allowed = KEEPING.get(kind)
    wrong = [member.name for member in members.values() if allowed and member.layout.kind not in allowed]
    if wrong:
        raise DictionaryError(
            f"{kind} depends on how {wrong[0]} lies, and flax holds it in another way: its state cannot be carried"
        )

"""What each torch.optim class keeps of a parameter, and under which names optax keeps it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import optax

from jaxopt_study.dictionary import DictionaryError
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
    "Muon": {"buffer": "momentum_buffer"},
    "NAdam": MOMENTS,
    "RAdam": MOMENTS,
    "RMSprop": {"mu": "grad_avg", "nu": "square_avg", "trace": "momentum_buffer"},
    "Rprop": {"before": "prev", "sizes": "step_size"},
    "SGD": {"trace": "momentum_buffer"},
    "SparseAdam": MOMENTS,
}
"""For each class the fields of optax's states that are trees of the parameters, and torch's keys of them.

LBFGS keeps one vector for all parameters: see `lbfgs`."""
SCALARS: Mapping[str, Mapping[str, str]] = {"NAdam": {"product": "mu_product"}}
"""Fields that are one number for a group, where torch keeps one for each parameter."""
KEPT = ("hyperparams", "gradient_step", "acc_grads", "skip_state")
"""Fields that the next step computes anew, and those of `optax.MultiSteps`, which torch's optimizer does not have."""
PART = "mini_step"
"""How many gradients `optax.MultiSteps` has added up for the next step."""
INNER = ("inner_state", "inner_states", "inner_opt_state", "hyperparams_states")
"""Fields that hold further states."""

KEEPING: Mapping[str, tuple[str, ...]] = {"Adafactor": (SAME, DENSE, FLATTENED), "Muon": (SAME,)}
"""Classes whose rule depends on the layout, and the layouts in which it stays the same."""

Visit = Callable[[str, str, Any], Any]
"""visit(label, field, value): what becomes of a field of a state; `label` is that of its group."""


def map_state(visit: Visit, state: Any, label: str = "0") -> Any:
    """Return an optax state with each of its fields changed, of all the states that it is made of.

    Args:
        visit: Called for each field but those that hold further states.
        state: The state of a transformation.
        label: The label of the group that it belongs to.
    """
    if isinstance(state, optax.transforms.PartitionState):
        inner = {name: map_state(visit, one, name) for name, one in state.inner_states.items()}
        return state._replace(inner_states=inner)
    if isinstance(state, dict):
        return {name: map_state(visit, one, label) for name, one in state.items()}
    if not isinstance(state, tuple):
        return state
    names = getattr(state, "_fields", None)
    if names is None:
        return tuple(map_state(visit, one, label) for one in state)

    def field(name: str, value: Any) -> Any:
        if name in INNER:
            return map_state(visit, value, label)
        return value if name in KEPT else visit(label, name, value)

    return type(state)(*map(field, names, state))


def key_of(kind: str, field: str, member: Member) -> str:
    """Return torch's key of a field for a parameter.

    Raises:
        DictionaryError: torch's class keeps no such thing.
    """
    if field not in FIELDS.get(kind, {}):
        raise DictionaryError(f"the optax state has {field}, and torch's {kind} keeps no such thing")
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

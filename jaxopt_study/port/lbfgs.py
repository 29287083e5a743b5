"""L-BFGS's state: torch keeps one vector for all parameters, and so does our transform, in another order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import torch

from jaxopt_study.port.arrays import to_jax, to_numpy
from jaxopt_study.port.fields import Visit
from jaxopt_study.port.layouts import Array
from jaxopt_study.port.members import Member


def reader(optimizer: torch.optim.Optimizer, members: Mapping[str, Member], params: Any) -> Visit:
    """Return what fills a new state: visit(label, field, value)."""
    state: Mapping[str, Any] = next(iter(optimizer.state.values()), {})  # all is in the first parameter's place
    order = _order(members, params)
    pairs = len(state.get("old_dirs", ()))

    def vector(value: Any) -> Array:
        return _to_flax(to_numpy(value), optimizer, order)

    def history(value: Sequence[Any], old: jax.Array) -> Array:
        rows = np.zeros(old.shape, old.dtype)
        if pairs:
            rows[-pairs:] = [vector(row) for row in value]
        return rows

    def visit(_label: str, field: str, old: jax.Array) -> jax.Array:
        if not state.get("n_iter"):
            return old
        made = {
            "gradient": lambda: vector(state["prev_flat_grad"]),
            "step": lambda: vector(state["d"] * state["t"]),
            "gradients": lambda: history(state["old_dirs"], old),
            "steps": lambda: history(state["old_stps"], old),
            "pairs": lambda: np.asarray(pairs, old.dtype),
            "scale": lambda: to_numpy(torch.as_tensor(state["H_diag"], dtype=state["d"].dtype)),
        }
        return to_jax(made[field](), old.dtype)

    return visit


def written(
    fields: Mapping[str, Array], optimizer: torch.optim.Optimizer, members: Mapping[str, Member], params: Any
) -> dict[str, Any]:
    """Return torch's state from the fields of the transform's."""
    order, pairs = _order(members, params), int(fields["pairs"])
    kind = next(iter(members.values())).tensor.dtype

    def vector(value: Array) -> torch.Tensor:
        return torch.from_numpy(_to_torch(value, optimizer, order)).to(kind)

    gradients, steps = fields["gradients"], fields["steps"]
    size = len(gradients)
    old_dirs, old_stps = ([vector(row) for row in rows[size - pairs :]] for rows in (gradients, steps))
    return {
        "func_evals": int(fields["count"]),
        "n_iter": int(fields["count"]),
        "d": vector(fields["step"]),  # torch needs the product of the direction and its length alone
        "t": 1.0,
        "old_dirs": old_dirs,
        "old_stps": old_stps,
        "ro": [1.0 / y.dot(s) for y, s in zip(old_dirs, old_stps, strict=True)],
        "H_diag": torch.tensor(float(fields["scale"]), dtype=kind),
        "prev_flat_grad": vector(fields["gradient"]),
        "prev_loss": float("nan"),  # it is compared only after another evaluation
        "al": [None] * size,
    }


def _order(members: Mapping[str, Member], params: Any) -> list[Member]:
    """Return the members in the order of the tree's leaves, without those that torch leaves as they are."""
    keys = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    return [members[key] for key in keys if key in members and members[key].tensor.requires_grad]


def _to_flax(flat: Array, optimizer: torch.optim.Optimizer, order: Sequence[Member]) -> Array:
    parts = _split(flat, optimizer)
    return np.concatenate([m.layout.to_flax(parts[m.index].reshape(m.layout.torch_shape)).ravel() for m in order])


def _to_torch(flat: Array, optimizer: torch.optim.Optimizer, order: Sequence[Member]) -> Array:
    ends = np.cumsum([m.tensor.numel() for m in order])[:-1]
    params = optimizer.param_groups[0]["params"]
    parts = {index: np.zeros(p.numel(), flat.dtype) for index, p in enumerate(params)}
    for member, part in zip(order, np.split(flat, ends), strict=True):
        parts[member.index] = member.layout.to_torch(part.reshape(member.layout.flax_shape)).ravel()
    return np.concatenate([parts[index] for index in range(len(params))])


def _split(flat: Array, optimizer: torch.optim.Optimizer) -> list[Array]:
    sizes = [p.numel() for p in optimizer.param_groups[0]["params"]]
    return np.split(flat, np.cumsum(sizes)[:-1])

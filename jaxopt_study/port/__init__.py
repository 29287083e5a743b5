"""Port a training between PyTorch and JAX: parameters, optimizer and its state, both ways.

    params = to_flax_params(model, jax.eval_shape(flax_model.init, key, inputs)["params"])
    rule = dictionary.translate(optimizer, model=model, scheduler=scheduler).transformation()
    state = to_optax_state(optimizer, rule.init(params), params, model=model, scheduler=scheduler)

and the training goes on in JAX where PyTorch stopped. Back:

    model.load_state_dict(to_torch_params(params, model))
    advance(scheduler, steps)
    optimizer.load_state_dict(to_torch_state_dict(state, optimizer, params, model=model, scheduler=scheduler))

`docs/porting.md` is a whole example. From the shell: `python -m jaxopt_study.port checkpoint.pt out/`.

Using one of its names loads both frameworks; importing it does not, so that the command answers at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxopt_study.port.matching import Matching
    from jaxopt_study.port.optax_state import to_optax_state
    from jaxopt_study.port.params import to_flax_params, to_torch_params
    from jaxopt_study.port.torch_state import advance, to_torch_state_dict

__all__ = ["Matching", "advance", "to_flax_params", "to_optax_state", "to_torch_params", "to_torch_state_dict"]

PLACES = {
    "Matching": "matching",
    "advance": "torch_state",
    "to_flax_params": "params",
    "to_optax_state": "optax_state",
    "to_torch_params": "params",
    "to_torch_state_dict": "torch_state",
}


def __getattr__(name: str) -> Any:
    if name in PLACES:
        return getattr(import_module(f"{__name__}.{PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Port a training between PyTorch and JAX: parameters, optimizer and its state, both ways.

    params = to_flax_params(model, jax.eval_shape(flax_model.init, key, inputs))
    rule = dictionary.translate(optimizer, model=model, scheduler=scheduler).transformation()
    state = to_optax_state(optimizer, rule.init(params), params, model=model, scheduler=scheduler)

and the training goes on in JAX where PyTorch stopped. Back:

    model.load_state_dict(to_torch_params(params, model))
    advance(scheduler, steps)
    optimizer.load_state_dict(to_torch_state_dict(state, optimizer, params, model=model))

Importing it loads both frameworks. From the shell: `python -m jaxopt_study.port checkpoint.pt out/`.
"""

from jaxopt_study.port.leaves import Matching
from jaxopt_study.port.optax_state import to_optax_state
from jaxopt_study.port.params import to_flax_params, to_torch_params
from jaxopt_study.port.torch_state import advance, to_torch_state_dict

__all__ = ["Matching", "advance", "to_flax_params", "to_optax_state", "to_torch_params", "to_torch_state_dict"]

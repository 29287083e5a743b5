"""A user's model and optimizer in flax and optax: make them, check them, draw parameters, convert them.

Parameters of a user's model are leaves by the names that flax has for them: `Dense_0/kernel`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import numpy.typing as npt
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxopt_study.backends.jax import runtime
from jaxopt_study.backends.jax.models import predict

__all__ = ["draw", "maker", "model", "optimizer", "outputs", "params_from_numpy", "params_to_numpy"]

Leaves = Mapping[str, npt.NDArray[Any]]


def maker(makers: Mapping[str, Any]) -> Any:
    """Return the user's function for this framework.

    Raises:
        NotImplementedError: There is none.
    """
    if "jax" not in makers:
        raise NotImplementedError("it is registered for PyTorch alone")
    return makers["jax"]


def model(make: Callable[[], Any]) -> nn.Module:
    """Return the flax linen module that a user's function makes.

    Raises:
        TypeError: It makes something else.
    """
    made = make()
    if not isinstance(made, nn.Module):
        raise TypeError(f"jax= made a {type(made).__name__}, and not a flax linen module")
    return made


def draw(make: Callable[[], Any], seed: int, inputs: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """Return initial parameters, drawn by the module itself.

    Args:
        make: The user's function.
        seed: The seed of flax's key.
        inputs: Rows of inputs, (batch, features).

    Raises:
        ValueError: The module has state beside its parameters, or none.
    """
    variables = jax.jit(model(make).init)(jax.random.key(seed), runtime.from_numpy(inputs))
    others = sorted(set(variables) - {"params"})
    if others:
        raise ValueError(f"it has {', '.join(others)} beside its params, as batch normalization does; use --experiment")
    if not jax.tree.leaves(variables):
        raise ValueError("it has no parameters")
    return params_to_numpy(variables["params"])


def outputs(model: nn.Module, params: Any, inputs: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return what a user's model returns for rows of inputs, (batch, features)."""
    return np.asarray(jax.jit(predict(model))(params, runtime.from_numpy(inputs)))


def params_from_numpy(leaves: Leaves) -> Any:
    """Return the parameters of a user's model on the device, from leaves by flax's names."""
    return unflatten_dict({name: runtime.from_numpy(leaf) for name, leaf in leaves.items()}, sep="/")


def params_to_numpy(params: Any) -> dict[str, npt.NDArray[Any]]:
    """Return the parameters of a user's model as NumPy arrays, by flax's names."""
    return {name: np.array(leaf) for name, leaf in flatten_dict(params, sep="/").items()}


def optimizer(make: Callable[[float], Any], learning_rate: float) -> optax.GradientTransformation:
    """Return the optimizer that a user's function makes.

    Raises:
        TypeError: It makes something else.
    """
    made = make(learning_rate)
    if not isinstance(made, optax.GradientTransformation):  # one that takes extra arguments is a subclass
        hint = ": give its .gradient_transformation()" if hasattr(made, "gradient_transformation") else ""
        raise TypeError(f"jax= made a {type(made).__name__}, and not an optax.GradientTransformation{hint}")
    return made

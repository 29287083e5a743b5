"""A user's model and optimizer in flax and optax: make them, check them, draw parameters, convert them.

Parameters of a user's model are leaves by the names that flax has for them: `Dense_0/kernel`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxopt_study.backends.jax import runtime
from jaxopt_study.backends.jax.models import predict

__all__ = ["check_by_rate", "draw", "maker", "model", "optimizer", "outputs", "params_from_numpy", "params_to_numpy"]

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


def check_by_rate(make: Callable[[Any], optax.GradientTransformation], params: Any) -> None:
    """Check that an optimizer can be made anew for the learning rate of each step.

    Two steps are made at two learning rates, which are traced, with gradients of one.

    Args:
        make: The function of the learning rate.
        params: The parameters of a model.

    Raises:
        NotImplementedError: It cannot; the words say why.
    """

    def two_steps(rate: Any) -> Any:
        rule = make(rate)
        gradient = jax.tree.map(jnp.ones_like, params)
        begun = rule.init(params)
        updates, state = rule.update(gradient, begun, params)
        return begun, (updates, rule.update(gradient, state, params)[0])

    compiled, dtype = jax.jit(two_steps), jax.tree.leaves(params)[0].dtype
    try:
        found = [compiled(jnp.asarray(rate, dtype)) for rate in (1e-3, 1e-2)]
    except jax.errors.ConcretizationTypeError:
        raise NotImplementedError("it needs its learning rate as a number of Python, as float(learning_rate)") from None
    (state, updates), (other_state, other_updates) = found
    if not _same(state, other_state):
        raise NotImplementedError("its state holds the learning rate, so that a schedule cannot change it")
    if _same(updates, other_updates):
        raise NotImplementedError("its steps do not depend on the learning rate, so that there is nothing to tune")


def _same(tree: Any, other: Any) -> bool:
    pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(leaf, other_leaf) for leaf, other_leaf in pairs)

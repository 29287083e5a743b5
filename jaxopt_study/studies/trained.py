"""What a case trains, for its backend: the model, the loss, the optimizer and the parameters, built in or a user's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxopt_study import plugin
from jaxopt_study.backends import Backend
from jaxopt_study.bench.case import Plan
from jaxopt_study.data.networks import Network
from jaxopt_study.data.workload import ParameterTree, Workload
from jaxopt_study.studies.own import network as own
from jaxopt_study.studies.own import spelled
from jaxopt_study.studies.own.network import Registered
from jaxopt_study.studies.registry import OPTIMIZERS

__all__ = [
    "Conversion",
    "by_rate",
    "conversion",
    "default_rate",
    "draw",
    "model",
    "optimizer",
    "output_loss",
]


class Conversion(NamedTuple):
    """Parameters of a network between NumPy and a backend.

    Attributes:
        from_tree: from_tree(tree) are the backend's parameters; the tree is in flax's layout.
        to_tree: to_tree(params) is the tree.
    """

    from_tree: Callable[[ParameterTree], Any]
    to_tree: Callable[[Any], ParameterTree]


def model(backend: Backend, network: Network) -> Any:
    """Return the network that a backend makes.

    Raises:
        NotImplementedError: It is registered for the other framework alone.
    """
    return network.make(backend)


def output_loss(backend: Backend, workload: Workload, plan: Plan) -> Callable[[Any, Any], Any]:
    """Return the backend's loss of outputs and targets.

    Raises:
        NotImplementedError: It is registered for the other framework alone.
    """
    entry = plugin.find(plan.plugin, plan.plugin_digest, "loss", workload.loss)
    if entry is None:
        found: Callable[[Any, Any], Any] = getattr(backend.models, workload.loss)
        return found
    made: Callable[[Any, Any], Any] = backend.registered.maker(entry.makers)
    return made


def optimizer(backend: Backend, framework: str, name: str, plan: Plan) -> Any:
    """Return the backend's optimizer: a row of the table, a registered one, or a call of a class of `torch.optim`.

    Raises:
        NotImplementedError: It is registered for the other framework alone, or optax has none that is the same.
    """
    if name in OPTIMIZERS:
        return backend.optimizers.OPTIMIZERS[name](plan.learning_rate)
    call, makers = _own_optimizer(name, plan)
    if call and not (framework == "jax" and "jax" in makers):
        return spelled.make(backend, framework, call, plan.learning_rate)
    return backend.registered.optimizer(backend.registered.maker(makers), plan.learning_rate)


def by_rate(backend: Backend, framework: str, name: str, plan: Plan) -> Callable[[Any], Any]:
    """Return the function of the learning rate that makes the optimizer, for a learning rate that is data.

    Raises:
        NotImplementedError: The backend has none of that name, it is registered for the other framework alone, or
            optax has none that is the same.
    """
    found: Mapping[str, Callable[[Any], Any]] = backend.more_optimizers.OPTIMIZERS
    call, makers = _own_optimizer(name, plan)
    if name in found and not makers:
        return found[name]
    if call and not (framework == "jax" and "jax" in makers):
        return spelled.by_rate(backend, framework, call)
    if not makers:
        raise NotImplementedError("this backend has no such optimizer")
    make = backend.registered.maker(makers)
    return lambda rate: backend.registered.optimizer(make, rate)


def default_rate(name: str, plan: Plan) -> float:
    """Return the learning rate of an optimizer of the user's: its call's `lr`, or that of `torch.optim`.

    A registered one is given the plan's, where its call says nothing.
    """
    call, makers = _own_optimizer(name, plan)
    return spelled.default_rate(call, plan.learning_rate if makers else None) if call else plan.learning_rate


def _own_optimizer(name: str, plan: Plan) -> tuple[str, Mapping[str, Any]]:
    """Return an optimizer's call in torch, if it has one, and the user's functions by framework, if it is registered.

    A name that is neither has nothing of both.
    """
    entry = plugin.find(plan.plugin, plan.plugin_digest, "optimizer", name)
    if entry is None:
        return (name if "(" in name else ""), {}
    call = entry.makers.get("torch")
    return (call if isinstance(call, str) else ""), entry.makers


def conversion(backend: Backend, framework: str, network: Network) -> Conversion:
    """Return how a network's parameters get into a backend and back."""
    if not isinstance(network, Registered):
        return Conversion(backend.runtime.params_from_numpy, backend.runtime.params_to_numpy)
    registered, by_path = backend.registered, {leaf.path: leaf for leaf in network.layout}
    if framework == "jax":
        return Conversion(
            lambda tree: registered.params_from_numpy(own.leaves(tree)),
            lambda params: own.tree(registered.params_to_numpy(params)),
        )

    def from_tree(tree: ParameterTree) -> Any:
        leaves = {by_path[path].name: by_path[path].layout.to_torch(leaf) for path, leaf in own.leaves(tree).items()}
        return registered.params_from_numpy(leaves)

    def to_tree(params: Any) -> ParameterTree:
        leaves = registered.params_to_numpy(params)
        return own.tree({path: leaf.layout.to_flax(leaves[leaf.name]) for path, leaf in by_path.items()})

    return Conversion(from_tree, to_tree)


def draw(backend: Backend, workload: Workload, seed: int) -> ParameterTree:
    """Return initial parameters of the workload's network."""
    network = workload.network
    if not isinstance(network, Registered):
        return network.draw(seed)
    make = backend.registered.maker(network.makers)
    return own.tree(backend.registered.draw(make, seed, workload.train[0][:1]))

"""A registered model as a network of a workload: how it is made, and how its parameters lie in each framework."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from jaxopt_study import plugin
from jaxopt_study.data.workload import Array, ParameterTree
from jaxopt_study.port.matching import Leaf

__all__ = ["Registered", "leaves", "tree"]


@dataclass(frozen=True)
class Registered:
    """A network that a plugin registers; see `data.networks.Network`.

    Attributes:
        name: Its name.
        plugin: The plugin, and the digest of its file.
        inputs: How many numbers a row has.
        outputs: How many numbers it must return for a row.
        layout: The leaves of its parameters, with their names in both frameworks.
    """

    native: ClassVar[bool] = False  # nobody knows beforehand what a user's step holds

    name: str
    plugin: tuple[str, str]
    inputs: int
    outputs: int
    layout: tuple[Leaf, ...] = ()

    @property
    def words(self) -> str:
        """Its name, and where it comes from."""
        return f"{self.name}, registered by the plugin"

    @property
    def makers(self) -> dict[str, Any]:
        """The user's functions by framework."""
        entry = plugin.load(*self.plugin).entries["model"][self.name]
        return dict(entry.makers)

    def make(self, backend: Any) -> Any:
        """Return the user's model.

        Raises:
            NotImplementedError: It is registered for the other framework alone.
        """
        return backend.registered.model(backend.registered.maker(self.makers))

    def draw(self, seed: int) -> ParameterTree:
        """Return no parameters: the module draws them itself, in a worker; see `twins.attach`."""
        del seed
        return {}


def tree(leaves: dict[str, Array]) -> ParameterTree:
    """Return leaves by flax's paths as a tree: module -> leaf."""
    found: ParameterTree = {}
    for path, leaf in leaves.items():
        module, _, name = path.rpartition("/")
        found.setdefault(module, {})[name] = leaf
    return found


def leaves(tree: ParameterTree) -> dict[str, Array]:
    """Return the leaves of a tree by flax's paths."""
    return {f"{module}/{name}".lstrip("/"): leaf for module, named in tree.items() for name, leaf in named.items()}

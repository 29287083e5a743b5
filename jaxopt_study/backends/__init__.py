"""The backends: the code of one framework each. `BACKENDS` names them, `load` imports one, `Backend` is their type.

`jax` and `torch_reference` are twins: modules of the same names, public functions of the same names and parameters.
`numpy` and `c` hold references and limits: `runtime`, and the modules that the studies need.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy.typing as npt

__all__ = ["BACKENDS", "Backend", "load"]

BACKENDS = {
    "jax": "jaxopt_study.backends.jax",
    "torch": "torch_reference",
    "numpy": "jaxopt_study.backends.numpy",
    "c": "jaxopt_study.backends.c",
}
"""Framework -> the package of its backend."""


def load(framework: str) -> Any:
    """Import a framework's backend with all its modules; return the package, whose attributes are the modules."""
    package = importlib.import_module(BACKENDS[framework])
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return package


# Each framework has its own arrays, parameter trees, models and optimizers.
Array = Any
Params = Any
Batch = tuple[Array, Array]
Numpy = npt.NDArray[Any]
NumpyTree = Mapping[str, Mapping[str, Numpy]]
Loss = Callable[[Params, Any], Array]


class Runtime(Protocol):
    """Conversion to and from NumPy, and the settings of the framework."""

    def configure(self, dtype: str, device: str, threads: int) -> None: ...
    def preload(self) -> None: ...
    def describe(self) -> dict[str, str]: ...
    def from_numpy(self, array: Numpy) -> Array: ...
    def to_numpy(self, array: Array) -> Numpy: ...
    def params_from_numpy(self, tree: NumpyTree) -> Params: ...
    def params_to_numpy(self, params: Params) -> dict[str, dict[str, Numpy]]: ...
    def ravel(self, params: Params) -> Array: ...
    def wait(self, output: Any) -> Any: ...
    def is_ready(self, output: Any) -> bool: ...
    def compilations(self) -> int: ...
    def temporary_memory(self, function: Any, *arguments: Any) -> int | None: ...


class Models(Protocol):
    """Networks and their losses."""

    def network(self, widths: tuple[int, ...], activation: str = "tanh") -> Any: ...
    def convolutional_network(self, image: tuple[int, int], channels: tuple[int, int], outputs: int) -> Any: ...
    def transformer(self, tokens: int, vocabulary: int, width: int, heads: int, outputs: int) -> Any: ...
    def predict(self, model: Any) -> Callable[[Params, Array], Array]: ...
    def cross_entropy(self, logits: Array, targets: Array) -> Array: ...
    def binary_cross_entropy(self, logits: Array, targets: Array) -> Array: ...
    def squared_error(self, outputs: Array, targets: Array) -> Array: ...
    def batch_loss(self, model: Any, output_loss: Callable[[Array, Array], Array]) -> Loss: ...
    def loss(self, model: Any) -> Loss: ...
    def logistic_loss(self, model: Any) -> Loss: ...
    def penalized(self, loss: Loss) -> Callable[[Params, Batch, Array], Array]: ...


class Optimizers(Protocol):
    """The optimizer table."""

    @property
    def OPTIMIZERS(self) -> Mapping[str, Callable[..., Any]]: ...  # noqa: N802 - a constant of the module


class Training(Protocol):
    """Whole trainings by first-order methods, in JAX compiled."""

    def full_batch(self, loss: Any, optimizer: Any, marks: int, stride: int) -> Callable[..., Params]: ...
    def row_by_row(self, loss: Any, optimizer: Any, epochs: int) -> Callable[..., Params]: ...


class Derivatives(Protocol):
    """Gradients, and second derivatives at a point; a study looks up the named Hessians and products."""

    def gradient(self, loss: Loss) -> Callable[[Params, Any], Params]: ...
    def hessian(self, loss: Any, params: Params, *args: Any, chunk_size: int | str | None = "auto") -> Array: ...
    def hvp(self, loss: Any, params: Params, vector: Params, *args: Any) -> Params: ...


class Blocks(Protocol):
    """Second derivatives by HVP blocks."""

    def hessian_blocked(self, loss: Loss, block_size: int | None = None) -> Callable[[Params, Any], Array]: ...


class LastLayer(Protocol):
    """The Hessian of a network that ends in a linear layer."""

    def hessian_last_layer(
        self, predict: Any, output_loss: Any, last: str, block_size: int | None = None
    ) -> Callable[[Params, Any], Array]: ...


class ClosedForm(Protocol):
    """The Hessian of softmax regression by formula."""

    def class_pair_products(self, rows: Array, weights: Array) -> Array: ...
    def hessian_closed_form(self, params: Params, batch: Batch) -> Array: ...


class NewtonStep(Protocol):
    """One damped Newton step and its parts."""

    def cholesky(self, damping: float) -> Callable[[Array], Array]: ...
    def solve(self, factor: Array, vector: Array) -> Array: ...
    def newton_step(self, loss: Loss, damping: float) -> Callable[[Params, Any], Array]: ...


class Newton(Protocol):
    """The minimizers."""

    def minimize(self, fun: Any, x0: Any, *args: Any, **options: Any) -> Any: ...
    def logistic_hessian(self, params: Params, batch: Batch, penalty: Array) -> Array: ...
    def softmax_system(self, dtype: Any = None) -> Any: ...


class Calibration(Protocol):
    """Probes of the machine, and kernels that test the timer."""

    @property
    def PROBES(self) -> Mapping[str, Callable[[], Any]]: ...  # noqa: N802 - a constant of the module
    def work(self, amount: int) -> Callable[[], Any]: ...


class Trajectories(Protocol):
    """Trainings whose parameters are kept after chosen steps."""

    def replay(
        self, optimizer: Any, params: NumpyTree, gradients: NumpyTree, kept: Sequence[int]
    ) -> dict[str, Numpy]: ...
    def train(
        self,
        model: Any,
        optimizer: Any,
        params: NumpyTree,
        data: tuple[Numpy, Numpy],
        order: Numpy,
        kept: Sequence[int],
    ) -> dict[str, Numpy]: ...
    def search(
        self, model: Any, optimizer: Any, params: NumpyTree, data: tuple[Numpy, Numpy], iterations: int
    ) -> dict[str, Numpy]: ...


class Conventions(Protocol):
    """Schedules, clipping and initializers, made from their code as text."""

    def schedule(self, code: str, steps: int) -> Numpy: ...
    def clipped(self, code: str, gradients: Mapping[str, Numpy]) -> dict[str, Numpy]: ...
    def drawn(self, code: str, shape: tuple[int, int], seed: int) -> Numpy: ...


class KnownDefects(Protocol):
    """Known upstream defects, and the optimizers of the installed version."""

    @property
    def DEFECTS(self) -> Mapping[str, Callable[[], float]]: ...  # noqa: N802 - a constant of the module
    def optimizers(self) -> list[str]: ...


class Registered(Protocol):
    """A user's model and optimizer."""

    def maker(self, makers: Mapping[str, Any]) -> Any: ...
    def model(self, make: Callable[[], Any]) -> Any: ...
    def draw(self, make: Callable[[], Any], seed: int, inputs: Numpy) -> dict[str, Numpy]: ...
    def outputs(self, model: Any, params: Params, inputs: Numpy) -> Numpy: ...
    def params_from_numpy(self, leaves: Mapping[str, Numpy]) -> Params: ...
    def params_to_numpy(self, params: Params) -> dict[str, Numpy]: ...
    def optimizer(self, make: Any, learning_rate: float) -> Any: ...


class Backend(Protocol):
    """The modules that both twins have. A study looks up a function that only one of them has by its name."""

    runtime: Runtime
    models: Models
    optimizers: Optimizers
    more_optimizers: Optimizers
    training: Training
    loops: Any  # the twins have no loop in common
    grid: Any  # the twins have `training` in common; only JAX makes whole grids
    derivatives: Derivatives
    blocks: Blocks
    last_layer: LastLayer
    closed_form: ClosedForm
    newton: Newton
    newton_step: NewtonStep
    calibration: Calibration
    steps: Any  # the twins have `as_given`, `build` and `moved` in common
    parameters: Any  # of a user's state, which may be any object
    trajectories: Trajectories
    conventions: Conventions
    defects: KnownDefects
    registered: Registered
    curvature: Any  # `derivatives` makes its functions public
    finiteness: Any  # for the other modules, as those below
    inspection: Any
    validation: Any

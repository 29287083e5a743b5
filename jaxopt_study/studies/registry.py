"""The optimizers that are trained with: one row each, which every study that trains walks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from jaxopt_study.bench.task import Skipped
from jaxopt_study.studies.tolerances import Bound, TrainingBounds

__all__ = ["NOTEBOOK", "OPTIMIZERS", "OWN", "Optimizer", "row_of"]


@dataclass(frozen=True)
class Optimizer:
    """What exists of an optimizer beside the row of that name in each backend's `optimizers.OPTIMIZERS`.

    What a row lacks is skipped, with the reason, by the studies that need it.

    Attributes:
        training: By dtype, how far two frameworks' trainings may differ.
        loops: By dtype, how far the losses of a loop may differ from training by formula in float64, relative to the
            largest loss; nothing where there is no rule in `backends.numpy.training.RULES`.
        c: Whether `backends/c/loop.c` has it.
        functional: Whether `torch_reference.functional` has it.
        notebook: The final epoch's mean training losses that the notebook printed, if it did.
    """

    training: Mapping[str, TrainingBounds]
    loops: Mapping[str, Bound] = field(default_factory=dict)
    c: bool = False
    functional: bool = False
    notebook: tuple[float, ...] = ()

    def require(self, exists: object, what: str) -> None:
        """Raise `Skipped` where the row lacks what a case needs."""
        if not exists:
            raise Skipped(f"this optimizer has no {what}")


# Training bounds: the worst over seeds 0 to 4 at learning rate 1e-3, jax 0.10.2, torch 2.13.0+cpu, on three processors:
# AMD EPYC (Zen 3 and Zen 4) and an Intel Xeon with AVX-512. A processor's vector units decide in which order sums are
# taken, so float32 RMSprop differs by 5e-7 on one of them and by 5e-6 on another. Where a run's own sensitivity (its
# distance from itself after one unit in the last place) is larger, as at other learning rates, `optimizers` allows 100
# times that. Loop bounds: the worst over seeds 0 to 2.
OPTIMIZERS: dict[str, Optimizer] = {
    "adam": Optimizer(
        training={
            "float64": TrainingBounds(loss=Bound(5e-13, 4.8e-14), params=Bound(1.5e-12, 1.5e-13)),
            # optax's 1 - b2^t is float32, torch's is float64.
            "float32": TrainingBounds(loss=Bound(2e-4, 2.0e-5), params=Bound(1.5e-4, 1.5e-5)),
        },
        loops={"float64": Bound(1.5e-14, 1.3e-15), "float32": Bound(4e-5, 3.6e-6)},
        c=True,
        functional=True,
        notebook=(0.0099, 0.0098),
    ),
    "rmsprop": Optimizer(
        training={
            # The parameters' distance is the gradients' rounding, normalized: replayed gradients differ by 2e-16.
            "float64": TrainingBounds(loss=Bound(1e-13, 1.1e-14), params=Bound(7e-10, 7.4e-11)),
            "float32": TrainingBounds(loss=Bound(5e-5, 5.0e-6), params=Bound(1.3e-3, 1.3e-4)),
        },
        loops={"float64": Bound(5.5e-14, 5.4e-15), "float32": Bound(5e-5, 5.2e-6)},
        c=True,
        functional=True,
        notebook=(0.0181,),
    ),
    "sgd": Optimizer(
        training={
            "float64": TrainingBounds(loss=Bound(1.5e-14, 1.5e-15), params=Bound(1e-14, 9.4e-16)),
            "float32": TrainingBounds(loss=Bound(1.2e-5, 1.2e-6), params=Bound(5e-6, 5.4e-7)),
        },
        loops={"float64": Bound(1e-14, 9.9e-16), "float32": Bound(2e-5, 1.9e-6)},
        c=True,
        functional=True,
        notebook=(0.0246,),
    ),
    "adagrad": Optimizer(
        training={
            "float64": TrainingBounds(loss=Bound(6e-15, 6.2e-16), params=Bound(7.5e-15, 7.5e-16)),
            "float32": TrainingBounds(loss=Bound(1.4e-5, 1.4e-6), params=Bound(2e-6, 2.0e-7)),
        },
        loops={"float64": Bound(5e-15, 4.3e-16), "float32": Bound(8e-5, 8.4e-6)},
        c=True,
        functional=True,
        notebook=(1.4305,),
    ),
    "momentum": Optimizer(
        # On digits at learning rate 1e-3 it is chaotic: after two epochs one unit in the last place is a third of the
        # loss. These are the worst of two short epochs of each workload, see `tests/test_workloads.py`.
        training={
            "float64": TrainingBounds(loss=Bound(3e-15, 3.3e-16), params=Bound(4e-15, 4.2e-16)),
            "float32": TrainingBounds(loss=Bound(2e-6, 2.1e-7), params=Bound(2.2e-6, 2.2e-7)),
        },
    ),
    "adamw": Optimizer(
        training={
            "float64": TrainingBounds(loss=Bound(3.5e-11, 3.5e-12), params=Bound(2.7e-12, 2.7e-13)),
            # torch rounds 1 - learning_rate * weight_decay to float32, the same way at every step.
            "float32": TrainingBounds(loss=Bound(6e-3, 5.9e-4), params=Bound(7e-4, 6.7e-5)),
        },
    ),
}

OWN = Optimizer(training=OPTIMIZERS["adamw"].training)
"""The row of a user's optimizer: the widest bounds of the table. A run's own sensitivity may allow more."""


def row_of(name: str) -> Optimizer:
    """Return the row of an optimizer, built in or a user's."""
    return OPTIMIZERS.get(name, OWN)


NOTEBOOK = tuple(name for name, row in OPTIMIZERS.items() if row.notebook)
"""The notebook's optimizers, which are trained with where none is named."""

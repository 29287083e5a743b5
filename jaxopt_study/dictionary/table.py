"""The table: which configurations of every torch.optim class are listed and checked.

Each row is one configuration; `rules` says what it is in optax, and the study measures how far the two differ.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: The torch.optim class.
        options: What differs from torch's defaults.
        namesake: Code for the optax function of the same name, with the same learning rate and its own defaults;
            nothing where there is none, or where this row is not the class's first.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    namesake: str = ""

    @property
    def key(self) -> str:
        """The row's name in records: the call as one would write it."""
        return f"{self.name}({', '.join(f'{option}={value!r}' for option, value in self.options.items())})"


# Learning rates are those at which training on digits is not chaotic, where there is such a rate.
TABLE: tuple[Row, ...] = (
    Row("SGD", {"lr": 1e-3}, "optax.sgd(1e-3)"),
    Row("SGD", {"lr": 1e-4, "momentum": 0.9}),
    Row("SGD", {"lr": 1e-4, "momentum": 0.9, "nesterov": True}),
    Row("SGD", {"lr": 1e-4, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.01}),
    Row("SGD", {"lr": 1e-3, "maximize": True, "weight_decay": 0.01}),
    Row("Adam", {"lr": 1e-3}, "optax.adam(1e-3)"),
    Row("Adam", {"lr": 1e-3, "weight_decay": 0.01}),
    Row("Adam", {"lr": 1e-3, "amsgrad": True}),
    Row("Adam", {"lr": 1e-3, "eps": 0.01, "betas": (0.8, 0.99)}),
    Row("Adam", {"lr": 1e-3, "maximize": True}),
    Row("AdamW", {"lr": 1e-3}, "optax.adamw(1e-3)"),
    Row("AdamW", {"lr": 1e-3, "amsgrad": True, "eps": 0.01, "weight_decay": 0.1}),
    Row("NAdam", {"lr": 1e-3}, "optax.nadam(1e-3)"),
    Row("NAdam", {"lr": 1e-3, "weight_decay": 0.01, "eps": 0.01}),
    Row("NAdam", {"lr": 1e-3, "weight_decay": 0.01, "decoupled_weight_decay": True}),
    Row("NAdam", {"lr": 1e-3, "momentum_decay": 1e9}),
    Row("RAdam", {"lr": 1e-3}, "optax.radam(1e-3)"),
    Row("RAdam", {"lr": 1e-3, "weight_decay": 0.01, "eps": 0.01}),
    Row("RAdam", {"lr": 1e-3, "weight_decay": 0.01, "decoupled_weight_decay": True}),
    Row("RMSprop", {"lr": 1e-3}, "optax.rmsprop(1e-3)"),
    Row("RMSprop", {"lr": 1e-3, "centered": True, "eps": 0.01}),
    Row("RMSprop", {"lr": 1e-4, "momentum": 0.9}),
    Row("RMSprop", {"lr": 1e-3, "weight_decay": 0.01}),
    Row("RMSprop", {"lr": 1e-3, "momentum": 0.9, "weight_decay": 0.01}),
    Row("Adagrad", {"lr": 1e-3}, "optax.adagrad(1e-3)"),
    Row("Adagrad", {"lr": 1e-2, "lr_decay": 0.01, "initial_accumulator_value": 0.1, "weight_decay": 0.01}),
    Row("Adagrad", {"lr": 1e-2, "eps": 0.01}),
    Row("Adadelta", {"lr": 1.0}, "optax.adadelta(1.0)"),
    Row("Adadelta", {"lr": 0.1, "weight_decay": 0.01, "eps": 0.01, "rho": 0.95}),
    Row("Adamax", {"lr": 1e-3}, "optax.adamax(1e-3)"),
    Row("Adamax", {"lr": 1e-3, "weight_decay": 0.01, "eps": 0.01}),
    Row("ASGD", {"lr": 1e-3}, "optax.sgd(1e-3)"),
    Row("ASGD", {"lr": 1e-3, "lambd": 0.1, "weight_decay": 0.01}),
    Row("Rprop", {"lr": 1e-3}, "optax.rprop(1e-3)"),
    Row("Rprop", {"lr": 1e-3, "etas": (0.6, 1.1), "step_sizes": (1e-5, 0.1)}),
    Row("Adafactor", {"lr": 1e-2}, "optax.adafactor(1e-2)"),
    Row("Adafactor", {"lr": 1e-2, "weight_decay": 0.01, "eps": (1e-3, 1e-2), "d": 2.0}),
    Row("Muon", {"lr": 1e-3}, "optax.contrib.muon(1e-3)"),
    Row("Muon", {"lr": 1e-3, "nesterov": False, "weight_decay": 0.0}),
    Row("Muon", {"lr": 1e-3, "adjust_lr_fn": "match_rms_adamw"}),
    Row("SparseAdam", {"lr": 1e-3}, "optax.adam(1e-3)"),
    Row("SparseAdam", {"lr": 1e-3, "betas": (0.8, 0.99), "eps": 0.01}),
    Row("LBFGS", {"lr": 0.5, "max_iter": 1}, "optax.lbfgs(0.5, linesearch=None)"),
    Row("LBFGS", {"lr": 0.5, "max_iter": 1, "history_size": 5}),
    Row("LBFGS", {"max_iter": 20, "max_eval": 1000, "line_search_fn": "strong_wolfe"}),
)

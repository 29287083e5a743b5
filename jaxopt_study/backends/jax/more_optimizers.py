"""The optimizers that the ranking trains with: the table of `optimizers`, and others of optax with its defaults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optax
from optax import contrib

from jaxopt_study.backends.jax import optimizers

__all__ = ["OPTIMIZERS", "adabelief", "evaluated", "lion", "muon", "nesterov", "schedule_free_adamw"]


def nesterov(learning_rate: float, decay: float = 0.9) -> optax.GradientTransformation:
    """Make gradient descent with Nesterov momentum (1983), `torch.optim.SGD` with `nesterov=True`.

    m <- decay m + g
    p <- p - learning_rate (g + decay m)
    """
    return optax.sgd(learning_rate, momentum=decay, nesterov=True)


def lion(learning_rate: float) -> optax.GradientTransformation:
    """Make Lion (Chen et al., 2023): each entry moves by the learning rate, in the direction of a sign."""
    return optax.lion(learning_rate)


def adabelief(learning_rate: float) -> optax.GradientTransformation:
    """Make AdaBelief (Zhuang et al., 2020): Adam whose second moment is that of the gradient's surprise."""
    return optax.adabelief(learning_rate)


def muon(learning_rate: float) -> optax.GradientTransformation:
    """Make Muon (Jordan, 2024): the momentum of each matrix is made orthogonal; the other leaves have Adam."""
    return contrib.muon(learning_rate)


def schedule_free_adamw(learning_rate: float) -> optax.GradientTransformation:
    """Make schedule-free AdamW (Defazio et al., 2024): an average of the iterates is evaluated, see `evaluated`."""
    return contrib.schedule_free_adamw(learning_rate)


def evaluated(params: optax.Params, state: Any) -> optax.Params:
    """Return the parameters that an optimizer with this state is evaluated at: an average, if it is schedule-free."""
    return contrib.schedule_free_eval_params(state, params) if isinstance(state, contrib.ScheduleFreeState) else params


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    **optimizers.OPTIMIZERS,
    "nesterov": nesterov,
    "lion": lion,
    "adabelief": adabelief,
    "muon": muon,
    "schedule_free": schedule_free_adamw,
}

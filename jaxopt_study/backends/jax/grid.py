"""A grid of trainings in one compiled program: every learning rate and schedule, from every initialization.

The learning rate of each step is data. One compilation therefore serves all rates and schedules.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import optax
from jaxtyping import Array, Float

from jaxopt_study.backends.jax import models, more_optimizers, native
from jaxopt_study.backends.jax.models import OutputLoss
from jaxopt_study.backends.jax.training import State, make_step

__all__ = ["Curves", "compiled", "natively", "sequential", "training", "vmapped"]


class Curves(NamedTuple):
    """The losses of a training; of a grid, with the axes (initializations, points) before these.

    Attributes:
        training: The mean loss of the steps of each epoch: (epochs,).
        validation: The loss of the validation rows after each epoch: (epochs,).
        test: The loss of the test rows after the last epoch: ().
    """

    training: Float[Array, "*grid epochs"]
    validation: Float[Array, "*grid epochs"]
    test: Float[Array, "*grid"]


Run = Callable[..., Curves]
"""run(params, order, rates, train, validation, test) -> Curves.

`order` has the rows of each step, (epochs, steps) or (epochs, steps, batch), and `rates` the learning rate of each
step, (epochs, steps). The last three are pairs of inputs and targets. `scan` may be given: what loops over the steps of
an epoch, as `jax.lax.scan` does.
"""


def training(
    model: nn.Module,
    optimizer: Callable[[Any], optax.GradientTransformation],
    output_loss: OutputLoss,
) -> Run:
    """Return the function that makes one training.

    Args:
        model: What `models` made.
        optimizer: A row of the optimizer table. It is made anew for the learning rate of each step, which its state
            must not contain.
        output_loss: The loss of outputs and targets.
    """
    loss = models.batch_loss(model, output_loss)

    def evaluate(state: State, rows: Any) -> Array:
        return loss(more_optimizers.evaluated(state.params, state.optimizer), rows)

    def run(
        params: Any, order: Array, rates: Array, train: Any, validation: Any, test: Any, scan: Any = jax.lax.scan
    ) -> Curves:
        inputs, targets = train

        def step(state: State, now: Any) -> tuple[State, Array]:
            rows, rate = now
            return make_step(loss, optimizer(rate))(state, (inputs[rows], targets[rows]))

        def epoch(state: State, steps: Any) -> tuple[State, tuple[Array, Array]]:
            state, losses = scan(step, state, steps)
            return state, (losses.mean(), evaluate(state, validation))

        start = State(params, optimizer(rates[0, 0]).init(params))
        state, (losses, held_out) = jax.lax.scan(epoch, start, (order, rates))
        return Curves(losses, held_out, evaluate(state, test))

    return run


def vmapped(run: Run) -> Run:
    """Return the function that makes all trainings of a grid: all points of an initialization at once, by `jax.vmap`.

    Params and order get a leading axis that counts initializations, and rates one that counts points. Initializations
    follow one another. With 26 points and 10 initializations this was up to 1.4 times as fast as all 260 runs at once
    (digits-linear, Adam, 32 rows per step: 4.3 against 5.9 us per step and run), because less memory is in use.
    """

    def grid(params: Any, orders: Array, rates: Array, *data: Any) -> Curves:
        points = jax.vmap(run, (None, None, 0, None, None, None))
        return jax.lax.map(lambda start: points(*start, rates, *data), (params, orders))

    return compiled(grid)


def sequential(run: Run) -> Run:
    """Return the same function, which makes one training after the other."""

    def grid(params: Any, orders: Array, rates: Array, *data: Any) -> Curves:
        def points(start: Any) -> Curves:
            return jax.lax.map(lambda point: run(*start, point, *data), rates)

        return jax.lax.map(points, (params, orders))

    return compiled(grid)


def natively(run: Run) -> Run:
    """Return the sequential function in which XLA makes one native function of an epoch's steps: see `native`.

    It is for steps on one row of a small network.
    """
    return sequential(partial(run, scan=native.scan))


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function under `jax.jit`. On a CPU its program runs for about as long as it compiles.

    At XLA's level 1 it compiles there in four fifths of the time of level 3, and runs as fast: 2.4 and 3.0 s, 2.5 and
    2.8 s for Adam on digits-mlp, 26 points from 10 initializations.
    """
    on_cpu = jax.default_backend() == "cpu"
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 1} if on_cpu else None)

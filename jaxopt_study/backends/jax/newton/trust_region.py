"""Trust-region Newton: minimize the quadratic model in a ball, whose radius adapts to how well the model predicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxopt_study.backends.jax.newton.conjugate import accurate, conjugate_gradients, forcing
from jaxopt_study.backends.jax.newton.options import Options
from jaxopt_study.backends.jax.newton.problem import Point, Problem, Vector, all_finite, symmetric
from jaxopt_study.backends.jax.newton.result import Counts, Status
from jaxopt_study.backends.jax.newton.step import Method, Step, at_rounding_level, tally

__all__ = ["trust_exact", "trust_krylov"]

ACCEPTED, POOR, GOOD = 1e-4, 0.25, 0.75
TRIALS = 40
SECULAR_ITERATIONS = 100


class Move(NamedTuple):
    """A solution of the subproblem.

    Attributes:
        predicted: The decrease of the model.
        edge: Whether the solution lies on the ball's surface.
        sure: Whether no step of any length lowers the model by much more.
    """

    vector: Vector
    predicted: Float[Array, ""]
    edge: Bool[Array, ""]
    products: Int[Array, ""]
    sure: Bool[Array, ""]
    status: Any


class Trial(NamedTuple):
    """A radius that was tried and its outcome.

    Attributes:
        most: The largest decrease that any trial predicted.
        sure: Whether one of them was sure of it.
    """

    radius: Float[Array, ""]
    move: Move
    most: Float[Array, ""]
    sure: Bool[Array, ""]
    point: Point
    ok: Bool[Array, ""]
    trials: Int[Array, ""]
    products: Int[Array, ""]


class Model(NamedTuple):
    """The model at a point.

    Attributes:
        solve: solve(radius, accurately) is the step within the radius.
        counts: Evaluations that the model took.
        convex: Whether the Hessian was found positive definite.
        status: RUNNING, or why the Hessian cannot be used.
    """

    solve: Callable[[Array, Array], Move]
    counts: Counts
    convex: Bool[Array, ""]
    status: Array


def trust_exact(problem: Problem, options: Options) -> Method:
    """Make the trust region with the exact solution of each subproblem, by the Hessian's eigenvectors.

    With H = V diag(e) V', the solution is -V (V'g) / (e + shift), where the shift makes it fit the ball (More and
    Sorensen, 1983). In the hard case no shift does; then the eigenvector of the least eigenvalue is added.
    """
    return _trust_region(problem, lambda point: _exact_model(problem, options, point))


def trust_krylov(problem: Problem, options: Options) -> Method:
    """Make the trust region with Steihaug's conjugate gradients (1983), which need only Hessian-vector products."""
    del options
    return _trust_region(problem, lambda point: _krylov_model(problem, point))


def _trust_region(problem: Problem, model_at: Callable[[Point], Model]) -> Method:
    """Shrink the radius until a step is accepted; grow it where the model predicts well (Nocedal and Wright, 4.1)."""

    def step(point: Point, radius: Array) -> Step:
        model = model_at(point)

        def attempt(trial: Trial) -> Trial:
            radius = trial.radius
            # What conjugate gradients promise when they end early says little about what a step can do.
            close = (trial.trials > 0) & at_rounding_level(point, 2 * trial.move.predicted)
            move = model.solve(radius, close)
            new = problem.at(point.x + move.vector)
            ok, ratio = _assess(point, new, move)
            again = ~ok & ~close & ~move.edge & ~move.sure & at_rounding_level(point, 2 * move.predicted)
            length = jnp.linalg.norm(move.vector)
            shrunk = jnp.where((ratio < POOR) & ~again, length / 4, radius)
            next_radius = jnp.where(ok & (ratio > GOOD) & move.edge, 2 * radius, shrunk)
            most = jnp.maximum(trial.most, jnp.nan_to_num(move.predicted))
            sure, products = trial.sure | move.sure, trial.products + move.products
            return Trial(next_radius, move, most, sure, new, ok, trial.trials + 1, products)

        zero, none, no = jnp.array(0, jnp.int32), jnp.zeros_like(radius), jnp.array(False)
        still = Move(jnp.zeros_like(point.x), none, no, zero, no, model.status)
        untried = Trial(radius, still, none, no, point, no, zero, zero)

        def undecided(trial: Trial) -> Array:
            return ~trial.ok & (trial.trials < TRIALS) & (trial.move.status == Status.RUNNING)

        end = jax.lax.while_loop(undecided, attempt, untried)
        decrement = 2 * end.move.predicted
        rounding = end.sure & at_rounding_level(point, 2 * end.most)
        stuck = jnp.where(rounding, Status.ROUNDING, Status.STALLED)
        status = jnp.where(end.move.status == Status.RUNNING, jnp.where(end.ok, Status.RUNNING, stuck), end.move.status)
        moved = jax.tree.map(lambda new, old: jnp.where(end.ok, new, old), end.point, point)
        counts = model.counts.plus(tally(end.trials, end.trials, end.products))
        return Step(moved, end.radius, counts, decrement, model.convex, ~end.move.edge, status)

    return Method(init=lambda point: jnp.maximum(1, jnp.linalg.norm(point.x)), step=step)


def _assess(point: Point, new: Point, move: Move) -> tuple[Array, Array]:
    """Return whether to accept a step, and the ratio of the decrease to the predicted one.

    Where rounding hides the decrease, a smaller gradient is accepted instead, and the radius stays.
    """
    hidden = 10 * jnp.finfo(point.value.dtype).eps * jnp.abs(point.value)
    unseen = jnp.abs(new.value - point.value) <= hidden
    ratio = (point.value - new.value) / move.predicted
    ok = new.finite & jnp.where(unseen, new.gradient_norm < point.gradient_norm, ratio > ACCEPTED)
    return ok, jnp.where(ok & unseen, (POOR + GOOD) / 2, jnp.where(ok, ratio, 0))


def _exact_model(problem: Problem, options: Options, point: Point) -> Model:
    matrix = problem.hessian(point.x)
    values, vectors = jnp.linalg.eigh(matrix)
    slopes, largest = vectors.T @ point.gradient, jnp.abs(values).max()
    rounding = values.size * jnp.finfo(values.dtype).eps * largest
    convex = values[0] > rounding
    scale = jnp.where(largest > 0, largest, 1)
    least = jnp.where(convex, 0, jnp.sqrt(jnp.finfo(values.dtype).eps) * scale - values[0])

    def solve(radius: Array, accurately: Array) -> Move:
        del accurately  # it always is
        shift = _shift(values, slopes, radius, jnp.maximum(least, 0))
        parts = -slopes / (values + shift)
        edge = jnp.linalg.norm(parts) >= radius * (1 - 1e-3)
        # The hard case: the ball is larger than any solution, and along the least eigenvector the model still falls.
        room = jnp.sqrt(jnp.maximum(radius**2 - parts @ parts, 0))
        hard = (values[0] < -rounding) & ~edge
        parts = parts.at[0].add(jnp.where(hard, jnp.where(slopes[0] > 0, -room, room), 0))
        predicted = -(slopes @ parts + values @ parts**2 / 2)
        edge = edge | hard
        return Move(vectors @ parts, predicted, edge, jnp.array(0, jnp.int32), ~edge, jnp.array(Status.RUNNING))

    finite = all_finite(matrix)
    status = jnp.where(finite, Status.RUNNING, Status.HESSIAN)
    if callable(options.hessian):
        status = jnp.where(finite & ~symmetric(matrix), Status.ASYMMETRIC, status)
    return Model(solve, tally(hessian=1), convex, status)


def _shift(values: Vector, slopes: Vector, radius: Array, least: Array) -> Array:
    """Return the least shift, not under `least`, at which |slopes / (values + shift)| <= radius.

    Newton's method on 1/radius - 1/|s|, which is nearly linear in the shift. From below it never overshoots (Nocedal
    and Wright, algorithm 4.3).
    """

    def norm(shift: Array) -> Array:
        return jnp.linalg.norm(slopes / (values + shift))

    def rise(state: tuple[Array, Array]) -> tuple[Array, Array]:
        shift, iteration = state
        length = norm(shift)
        parts = slopes / (values + shift) / length  # of length 1, so that squares do not underflow
        return shift + (length - radius) / radius / jnp.sum(parts**2 / (values + shift)), iteration + 1

    def outside(state: tuple[Array, Array]) -> Array:
        return (norm(state[0]) > radius * (1 + 1e-6)) & (state[1] < SECULAR_ITERATIONS)

    return jax.lax.while_loop(outside, rise, (least, jnp.array(0)))[0]


def _krylov_model(problem: Problem, point: Point) -> Model:
    g, product = point.gradient, problem.products(point.x)

    def solve(radius: Array, accurately: Array) -> Move:
        c = conjugate_gradients(product, g, jnp.where(accurately, accurate(g), forcing(g)), 2 * g.size, radius)
        edge = c.negative | c.crossed
        vector = jnp.where(edge, c.solution + _to_edge(c.solution, c.direction, radius) * c.direction, c.solution)
        # H s = residual - g at the solution, and H p is known along the last direction by its curvature.
        step = vector - c.solution
        bent = c.curvature * (step @ step)
        predicted = -(g @ c.solution + c.residual @ c.solution) / 2 - c.residual @ step - bent / 2
        status = jnp.where(jnp.isfinite(c.curvature), Status.RUNNING, Status.HESSIAN)
        return Move(vector, predicted, edge, c.products, jnp.array(False), status)

    return Model(solve, tally(), jnp.array(False), jnp.array(Status.RUNNING))


def _to_edge(inside: Vector, direction: Vector, radius: Array) -> Array:
    """Return the t > 0 with |inside + t direction| = radius."""
    a, b, c = direction @ direction, inside @ direction, inside @ inside - radius**2
    return (-b + jnp.sqrt(jnp.maximum(b**2 - a * c, 0))) / a

"""Trust-region Newton: minimize the quadratic model in a ball, whose radius adapts to how well the model predicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxopt_study.backends.jax.newton.bounds import Box
from jaxopt_study.backends.jax.newton.conjugate import accurate, conjugate_gradients, forcing, to_edge
from jaxopt_study.backends.jax.newton.options import Options
from jaxopt_study.backends.jax.newton.problem import Point, Problem, Vector, all_finite, cholesky, symmetric, units
from jaxopt_study.backends.jax.newton.projected import least_in_box
from jaxopt_study.backends.jax.newton.result import Counts, Status
from jaxopt_study.backends.jax.newton.step import Method, Step, at_rounding_level, tally
from jaxopt_study.backends.jax.newton.subproblem import least_in_ball

__all__ = ["trust_exact", "trust_krylov"]

ACCEPTED, POOR, GOOD = 1e-4, 0.25, 0.75
TRIALS = 40


class Memory(NamedTuple):
    """The radius, NaN before the first step, and the weights w of the ball |w * step| <= radius."""

    radius: Float[Array, ""]
    weights: Vector


class Move(NamedTuple):
    """A solution of the subproblem.

    Attributes:
        end: Where it leads; with bounds, rounding would lead the sum of the point and the step past them.
        predicted: The decrease of the model.
        edge: Whether the solution lies on the ball's surface.
        sure: Whether no step of any length lowers the model by much more.
    """

    vector: Vector
    end: Vector
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
        weights: Of the ball.
        first: The first radius.
        solve: solve(radius, accurately) is the step within the radius.
        counts: Evaluations that the model took.
        convex: Whether the Hessian was found positive definite.
        promise: The decrease of the model by a step of any length; infinite where that is not known.
        status: RUNNING, or why the Hessian cannot be used.
    """

    weights: Vector
    first: Float[Array, ""]
    solve: Callable[[Array, Array], Move]
    counts: Counts
    convex: Bool[Array, ""]
    promise: Float[Array, ""]
    status: Array


def trust_exact(problem: Problem, options: Options) -> Method:
    """Make the trust region with the exact solution of each subproblem, by Cholesky factorizations.

    The region is an ellipsoid: each variable is weighted by the largest square root of its entry of |diag H| so far, so
    that the run does not depend on the variables' units (More, 1978). With J' L J for H this is the Levenberg-Marquardt
    method.
    """
    return _trust_region(problem, lambda point, weights: _exact_model(problem, options, point, weights))


def trust_krylov(problem: Problem, options: Options) -> Method:
    """Make the trust region with Steihaug's conjugate gradients (1983), which need only Hessian-vector products.

    With bounds, they are projected (Lin and More, 1999).
    """
    del options
    box = problem.box
    if box is None:
        return _trust_region(problem, lambda point, weights: _krylov_model(problem, point, weights))
    return _trust_region(problem, lambda point, weights: _bounded_model(problem, box, point, weights))


def _trust_region(problem: Problem, model_at: Callable[[Point, Vector], Model]) -> Method:
    """Shrink the radius until a step is accepted; grow it where the model predicts well (Nocedal and Wright, 4.1)."""

    def step(point: Point, memory: Memory) -> Step:
        model = model_at(point, memory.weights)
        w = model.weights
        radius = jnp.where(jnp.isnan(memory.radius), model.first, memory.radius)

        def attempt(trial: Trial) -> Trial:
            radius = trial.radius
            # What conjugate gradients promise when they end early says little about what a step can do.
            close = (trial.trials > 0) & at_rounding_level(point, 2 * trial.move.predicted)
            move = model.solve(radius, close)
            new = problem.at(move.end)
            ok, ratio = _assess(point, new, move)
            again = ~ok & ~close & ~move.edge & ~move.sure & at_rounding_level(point, 2 * move.predicted)
            length = jnp.linalg.norm(w * move.vector)
            length = jnp.where(length > 0, length, radius)  # no step was found at all
            shrunk = jnp.where((ratio < POOR) & ~again, length / 4, radius)
            next_radius = jnp.where(ok & (ratio > GOOD) & move.edge, 2 * radius, shrunk)
            most = jnp.maximum(trial.most, jnp.nan_to_num(move.predicted))
            sure, products = trial.sure | move.sure, trial.products + move.products
            return Trial(next_radius, move, most, sure, new, ok, trial.trials + 1, products)

        zero, none, no = jnp.array(0, jnp.int32), jnp.zeros_like(radius), jnp.array(False)
        still = Move(jnp.zeros_like(point.x), point.x, none, no, zero, no, model.status)
        untried = Trial(radius, still, none, no, point, no, zero, zero)

        def undecided(trial: Trial) -> Array:
            return ~trial.ok & (trial.trials < TRIALS) & (trial.move.status == Status.RUNNING)

        end = jax.lax.while_loop(undecided, attempt, untried)
        decrement = 2 * end.move.predicted
        rounding = end.sure & at_rounding_level(point, 2 * end.most) | at_rounding_level(point, 2 * model.promise)
        stuck = jnp.where(rounding, Status.ROUNDING, Status.STALLED)
        status = jnp.where(end.move.status == Status.RUNNING, jnp.where(end.ok, Status.RUNNING, stuck), end.move.status)
        moved = jax.tree.map(lambda new, old: jnp.where(end.ok, new, old), end.point, point)
        counts = model.counts.plus(tally(end.trials, end.trials, end.products))
        return Step(moved, Memory(end.radius, w), counts, decrement, model.convex, ~end.move.edge, status)

    return Method(init=lambda point: Memory(jnp.nan * point.value, jnp.zeros_like(point.x)), step=step)


def _assess(point: Point, new: Point, move: Move) -> tuple[Array, Array]:
    """Return whether to accept a step, and the ratio of the decrease to the predicted one.

    Where rounding hides the decrease, a smaller gradient is accepted instead, and the radius stays.
    """
    hidden = 10 * jnp.finfo(point.value.dtype).eps * jnp.abs(point.value)
    unseen = jnp.abs(new.value - point.value) <= hidden
    ratio = (point.value - new.value) / move.predicted
    ok = new.finite & jnp.where(unseen, new.gradient_norm < point.gradient_norm, ratio > ACCEPTED)
    return ok, jnp.where(ok & unseen, (POOR + GOOD) / 2, jnp.where(ok, ratio, 0))


def _exact_model(problem: Problem, options: Options, point: Point, weights: Vector) -> Model:
    matrix = problem.hessian(point.x)
    finite = all_finite(matrix)
    status = jnp.where(finite, Status.RUNNING, Status.HESSIAN)
    if callable(options.hessian):
        status = jnp.where(finite & ~symmetric(matrix), Status.ASYMMETRIC, status)
    w = jnp.maximum(weights, jnp.sqrt(units(matrix)))
    scaled, slope = matrix / w[:, None] / w, point.gradient / w
    factor, convex = cholesky(scaled)
    newton = -jax.scipy.linalg.cho_solve((factor, True), slope)

    def solve(radius: Array, accurately: Array) -> Move:
        del accurately  # it always is
        vector, _, edge = least_in_ball(scaled, slope, radius, newton, convex)
        predicted = -(slope @ vector + vector @ (scaled @ vector) / 2)
        step, none, running = vector / w, jnp.array(0, jnp.int32), jnp.array(Status.RUNNING)
        return Move(step, point.x + step, predicted, edge, none, ~edge, running)

    length = jnp.linalg.norm(w * point.x)
    first = jnp.where(length > 0, length, jnp.linalg.norm(slope))
    promise = jnp.where(convex, -(slope @ newton) / 2, jnp.inf)
    return Model(w, first, solve, tally(hessian=1), convex, promise, status)


def _krylov_model(problem: Problem, point: Point, weights: Vector) -> Model:
    del weights  # the Hessian's diagonal is not known
    g, product = point.gradient, problem.products(point.x)

    def solve(radius: Array, accurately: Array) -> Move:
        c = conjugate_gradients(product, g, jnp.where(accurately, accurate(g), forcing(g)), 2 * g.size, radius)
        edge = c.negative | c.crossed
        vector = jnp.where(edge, c.solution + to_edge(c.solution, c.direction, radius) * c.direction, c.solution)
        # H s = residual - g at the solution, and H p is known along the last direction by its curvature.
        step = vector - c.solution
        bent = c.curvature * (step @ step)
        predicted = -(g @ c.solution + c.residual @ c.solution) / 2 - c.residual @ step - bent / 2
        status = jnp.where(jnp.isfinite(c.curvature), Status.RUNNING, Status.HESSIAN)
        return Move(vector, point.x + vector, predicted, edge, c.products, jnp.array(False), status)

    first = jnp.maximum(1, jnp.linalg.norm(point.x))
    unknown = jnp.full_like(point.value, jnp.inf)
    return Model(jnp.ones_like(g), first, solve, tally(), jnp.array(False), unknown, jnp.array(Status.RUNNING))


def _bounded_model(problem: Problem, box: Box, point: Point, weights: Vector) -> Model:
    del weights
    x, g, product = point.x, point.gradient, problem.products(point.x)
    slope = box.slope(x, g)

    def solve(radius: Array, accurately: Array) -> Move:
        tolerance = jnp.where(accurately, accurate(slope), forcing(slope))
        found = least_in_box(product, x, g, box, radius, tolerance)
        step = found.end - x
        predicted = -(g @ step + step @ found.product / 2)
        status = jnp.where(found.finite, Status.RUNNING, Status.HESSIAN)
        return Move(step, found.end, predicted, found.edge, found.products, jnp.array(False), status)

    first, unknown = jnp.maximum(1, jnp.linalg.norm(x)), jnp.full_like(point.value, jnp.inf)
    return Model(jnp.ones_like(g), first, solve, tally(), jnp.array(False), unknown, jnp.array(Status.RUNNING))
